"""Who keeps private signing keys, and who signs with them: one module for each kind of custodian.

Signing is async because some custodians (KMS, PKCS#11) sign over a network.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from groat.protocol import jose
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey, PublicKey

DESTROYED: Final = "it was destroyed"


class KeyLost(ConfigError):
    """The private half of a key is gone: destroyed, or its custodian has it no more. No setting brings it back."""

    def __init__(self, kid: str, how: str) -> None:
        super().__init__(
            f"the private half of signing key {kid} is gone: {how}. What it signed stays good. Let another key sign: "
            f"groat key activate KID --now with a pending one of groat key list; groat key retire {kid} --now makes "
            "one where there is none"
        )
        self.kid = kid


def check_kept(public: PublicKey, sealed: bytes) -> None:
    """Raises KeyLost for what is left of a key that was destroyed."""
    if not sealed:
        raise KeyLost(public.kid, DESTROYED)


class Signer(Protocol):
    """Something that signs with one key and never shows it."""

    @property
    def public(self) -> PublicKey: ...

    async def sign(self, data: bytes) -> bytes:
        """The JOSE signature over `data`."""
        ...


class Custody(Protocol):
    """Keeps private keys. `sealed` is what the store holds of one: ciphertext, or where to find it."""

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        """Make a key pair; returns its public half and what to store. Raises ConfigError for an unfit algorithm."""
        ...

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        """Whoever signs with this key. Raises ConfigError where the key cannot be used, KeyLost if it never will be."""
        ...

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        """Make the private key unusable for ever; nothing happens where it is gone already."""
        ...

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        """What to store instead, or None where it is sealed as a new key would be. Raises ConfigError."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """Signs in this process with an unsealed key."""

    key: PrivateKey
    public: PublicKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", self.key.public)

    async def sign(self, data: bytes) -> bytes:
        return jose.sign(data, self.key)
