"""Sets of keys (RFC 7517 5): reading somebody else's, with what was skipped of it and why, and writing our own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol.errors import JoseError
from groat.protocol.jwk import (
    PRIVATE_MEMBERS,
    PublicKey,
    import_public_jwk,
    present_members,
    printable,
)

MAX_KEYS_IN_SET: Final = 100


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry of a set that nothing is verified with; `kid` as it stands there, if it is a string, and why."""

    kid: str | None
    why: str

    def __str__(self) -> str:
        return f"{'an entry without kid' if self.kid is None else f'kid {printable(self.kid)}'}: {self.why}"


@dataclass(frozen=True, slots=True)
class ReadKeySet:
    """The usable keys of a set, each once, and the entries that were skipped."""

    keys: tuple[PublicKey, ...]
    skipped: tuple[Skipped, ...] = ()


def import_key_set(document: Mapping[str, Any]) -> tuple[PublicKey, ...]:
    """The usable keys of a fetched JWKS; raises as `read_key_set`."""
    return read_key_set(document).keys


def read_key_set(document: Mapping[str, Any]) -> ReadKeySet:
    """Read a fetched JWKS: unusable keys are skipped, the others stay, and an entry that stands twice is one.

    Raises JoseError("key") when it is no JWKS, when two usable entries contradict each other (one kid for two keys,
    one key under two kids or for two algorithms), when it has over 100 keys, or when any key shows private members:
    whoever publishes those has lost the whole set.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS_IN_SET:
        raise JoseError("key", "a JWKS needs a keys array of at most 100 keys")
    if any(isinstance(entry, dict) and PRIVATE_MEMBERS & present_members(entry).keys() for entry in entries):
        raise JoseError("key", "the JWKS holds private members")
    read = [_read(entry) for entry in entries]
    keys = _each_once(one for one in read if isinstance(one, PublicKey))
    check_unique_kids(keys)
    return ReadKeySet(keys, tuple(one for one in read if isinstance(one, Skipped)))


def check_unique_kids(keys: Iterable[PublicKey]) -> None:
    """Refuse a set in which a kid or a key stands twice (RFC 7517 4.5): one key, one name, one algorithm."""
    seen: set[str] = set()
    for key in keys:
        names = {key.kid, key.thumbprint}
        if seen & names:
            raise JoseError("key", f"kid or key stands twice in the set: {printable(key.kid)}")
        seen |= names


def public_key_set(keys: Iterable[PublicKey]) -> dict[str, Any]:
    """Write a JWKS of public keys only (RFC 7517 5.1). Raises JoseError("key") if a kid repeats."""
    listed = tuple(keys)
    check_unique_kids(listed)
    return {"keys": [dict(key.jwk) for key in listed]}


def _each_once(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    return tuple({(key.kid, key.thumbprint, key.algorithms): key for key in keys}.values())


def _read(entry: Any) -> PublicKey | Skipped:
    if not isinstance(entry, dict):
        return Skipped(None, "the entry is no JSON object")
    try:
        return import_public_jwk(entry)
    except JoseError as error:
        kid = entry.get("kid")
        return Skipped(kid if isinstance(kid, str) else None, error.hint)
