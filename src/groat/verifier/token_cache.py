"""A bounded memory of tokens that were proven already; opt-in, one per Verifier."""

import hashlib
from dataclasses import dataclass
from sys import intern
from types import MappingProxyType
from typing import Any

from groat.protocol.access_token import Caller
from groat.protocol.jose import MAX_JWT_BYTES
from groat.protocol.jwk import PublicKey
from groat.verifier.key_source import KeySource


@dataclass(frozen=True, slots=True)
class Proof:
    """Who a token proved to be from, and the key that proved it. It holds while both still do."""

    caller: Caller
    key: PublicKey
    source: KeySource

    def holds(self, now: float) -> bool:
        """Not past exp (RFC 7519 4.1.4), and the key still in its issuer's set."""
        return now < self.caller.expires_at and self.source.holds(self.key)


class TokenCache:
    """At most `size` proofs, found by the SHA-256 of the whole token; safe between threads without a lock.

    Two generations: when the young one is full it becomes the old one, and the old one is forgotten at once. Not
    checked here: scopes, which are asked anew on every call.
    """

    def __init__(self, size: int) -> None:
        self._half = (size + 1) // 2
        self._young: dict[bytes, Proof] = {}
        self._old: dict[bytes, Proof] = {}

    @staticmethod
    def digest(token: str | bytes) -> bytes | None:
        """The name of a token in the cache, or None for what cannot be a token anyway."""
        if len(token) > MAX_JWT_BYTES or not token.isascii():
            return None
        return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()

    def find(self, digest: bytes, now: float) -> Caller | None:
        """The caller, if the proof still holds at the wall-clock second `now`."""
        proof = self._young.get(digest) or self._old.get(digest)
        return proof.caller if proof is not None and proof.holds(now) else None

    def remember(self, digest: bytes, proof: Proof) -> None:
        """Keep a fresh proof."""
        young = self._young
        if len(young) >= self._half:
            self._old, self._young = young, {}
            young = self._young
        young[digest] = proof

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
