"""A bounded memory of tokens that were proven already; opt-in, one per Verifier.

A token is kept as what it shares with its siblings (one client asking for one API again and again) and the few values
of its own, so that 100 000 of them fit in 50 MB.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.access_token import Caller, Dialect
from groat.protocol.jose import MAX_JWT_BYTES
from groat.protocol.jwk import PublicKey
from groat.protocol.read_only import ReadOnlyDict
from groat.verifier.keys.source import KeySource

_OWN: Final = ("exp", "iat", "nbf", "jti")


@dataclass(frozen=True, slots=True)
class _Likeness:
    """What tokens have in common that differ in time and jti only; `own` names the claims in which they may differ."""

    client_id: str
    subject: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]
    own: tuple[str, ...]
    dialect: Dialect


# The likeness, the key that proved the token, where that key must still be, and the token's own values: exp first.
_Proof = tuple[_Likeness, PublicKey, KeySource, tuple[Any, ...]]


class TokenCache:
    """At most `size` proofs, found by the SHA-256 of the whole token; safe between threads without a lock.

    A proof holds until exp (RFC 7519 4.1.4) and while the very key behind it stays in its issuer's set. Two
    generations: when the young one is full it becomes the old one, and the old one is forgotten at once. Not checked
    here: scopes and status, which are asked anew on every call.
    """

    def __init__(self, size: int) -> None:
        self._half = (size + 1) // 2
        self._young: dict[bytes, _Proof] = {}
        self._old: dict[bytes, _Proof] = {}
        self._alike: dict[bytes, _Likeness] = {}

    def find(self, token: str | bytes, now: float) -> tuple[bytes | None, Caller | None, str]:
        """The caller, if the proof still holds at the wall-clock second `now`; the name of the token in here; its kid.

        None is the name of what cannot be a token anyway.
        """
        if len(token) > MAX_JWT_BYTES or not token.isascii():
            return None, None, ""
        digest = hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()
        proof = self._young.get(digest) or self._old.get(digest)
        if proof is None:
            return digest, None, ""
        return digest, self._proven(proof, now), proof[1].kid

    def _proven(self, proof: _Proof, now: float) -> Caller | None:
        like, key, source, own = proof
        if now >= own[0] or not source.holds(key):
            return None
        claims = ReadOnlyDict(like.claims, **dict(zip(like.own, own, strict=True)))
        issued_at, token_id = claims.get("iat"), claims.get("jti")
        return Caller(
            like.client_id,
            like.subject,
            like.scopes,
            own[0],
            issued_at,
            token_id,
            claims,
            like.dialect,
        )

    def remember(self, digest: bytes, caller: Caller, key: PublicKey, source: KeySource) -> None:
        """Keep a fresh proof: `key`, of `source`, has just proven that the token is this caller's."""
        if len(self._young) >= self._half:
            self._old, self._young, self._alike = self._young, {}, {}
        like = self._likeness(caller)
        self._young[digest] = (like, key, source, tuple(caller.claims[name] for name in like.own))

    def _likeness(self, caller: Caller) -> _Likeness:
        own = tuple(name for name in _OWN if name in caller.claims)
        common = {name: value for name, value in caller.claims.items() if name not in own}
        index = strict_json.dumps([own, common])
        return self._alike.setdefault(
            index, _Likeness(caller.client_id, caller.subject, caller.scopes, common, own, caller.dialect)
        )

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
