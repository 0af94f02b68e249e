"""Which custodian keeps which key: new keys go to one of them, older ones stay where they were made.

The store's column `sealed` is either ciphertext of the key-encryption key, or a reference: `ref:` and a JSON object
that names the custodian and what it needs to find the key again. A change of custody therefore is a rotation.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from groat.keys.custody import Custody, Signer
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey

PREFIX: Final = b"ref:"
STORE: Final = "store"


class SignerUnavailable(Exception):
    """The custodian cannot sign now; the request may be tried again."""


class CannotSign(SignerUnavailable):
    """The custodian works, but does not sign what it was given."""


def reference(custodian: str, **facts: str) -> bytes:
    """What the store holds of a key that lives with this custodian."""
    return PREFIX + json.dumps({"in": custodian, **facts}).encode()


def read_reference(sealed: bytes) -> dict[str, str]:
    """The facts of a reference; empty where `sealed` is ciphertext."""
    if not sealed.startswith(PREFIX):
        return {}
    try:
        facts = json.loads(sealed[len(PREFIX) :])
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True, slots=True)
class Custodians:
    """A custody made of several. `makes`: the name of the one that gets new keys; each is opened when first needed."""

    makes: str
    openers: Mapping[str, Callable[[], Custody]]
    _open: dict[str, Custody] = field(default_factory=dict, repr=False)

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        return await self._named(self.makes).generate(algorithm)

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        return await self._keeper(public, sealed).signer(public, sealed)

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        await self._keeper(public, sealed).destroy(public, sealed)

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        return await self._keeper(public, sealed).reseal(public, sealed)

    def _keeper(self, public: PublicKey, sealed: bytes) -> Custody:
        name = read_reference(sealed).get("in", STORE)
        if name not in self.openers:
            raise ConfigError(f"signing key {public.kid} is kept by {name!r}, which the settings do not describe")
        return self._named(name)

    def _named(self, name: str) -> Custody:
        if name not in self._open:
            self._open[name] = self.openers[name]()
        return self._open[name]


def facts_of(sealed: bytes, public: PublicKey, *names: str) -> list[str]:
    """These facts of a reference. Raises ConfigError where one is missing."""
    facts: dict[str, Any] = read_reference(sealed)
    if any(not isinstance(facts.get(name), str) for name in names):
        raise ConfigError(f"the reference to signing key {public.kid} is damaged")
    return [facts[name] for name in names]
