"""Proofs of possession (RFC 9449): a JWT by which a caller shows, for one request, that he holds a key.

For whoever is asked: an authorization server, which binds its token to the key, and an API, which wants the key that a
token is bound to. Two steps: `read_proof` looks at the form alone, so that a nonce can be asked for before anything is
paid for; `check_proof` does the rest. Not checked here: whether the nonce is a good one, whether the proof came before,
and whether a token is bound to this key.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from groat.protocol import jose
from groat.protocol.binding import Confirmation, bound_to_key
from groat.protocol.differences import mismatch, shown
from groat.protocol.errors import JoseError
from groat.protocol.htu import normal_url
from groat.protocol.jwk import PublicKey, base64url_encode, import_public_jwk
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.protocol.passing import passing
from groat.protocol.proof_rules import ProofRules

PROOF_TYP: Final = "dpop+jwt"
MAX_PROOF_BYTES: Final = 4096
MAX_NONCE_CHARS: Final = 512


@dataclass(frozen=True, slots=True, eq=False)
class ProofHeader(jose.Header):
    """The header of a proof, which brings its key along; nobody has looked at that yet."""

    jwk: dict[str, Any]


@passing()
class Life:
    """From when to when something was or is good, in epoch seconds."""

    begin: float
    end: float


@passing()
class Target:
    """The request that a proof must be for: its method, and every URL that it may be known by, from `normal_url`.

    `token`: the access token that it carries, where there is one.
    """

    method: str
    urls: frozenset[str]
    token: str | None = None


@passing()
class UnverifiedProof:
    """A well-formed proof. `nonce`: of the server, as the caller wrote it; None where there is none."""

    jwt: jose.UnverifiedJwt
    nonce: str | None


@passing()
class Proof:
    """Somebody holds this key. `once`: still to be used up, or the proof could be presented again."""

    thumbprint: str
    algorithm: str
    once: OneTimeValue

    @property
    def confirmation(self) -> Confirmation:
        """What a token is bound to that is given for this proof."""
        return bound_to_key(self.thumbprint)


def token_hash(token: str) -> str:
    """`ath`: by which a proof names the token that it goes with (RFC 9449 4.2)."""
    return base64url_encode(hashlib.sha256(token.encode("ascii")).digest()).decode()


def read_proof(values: Sequence[str | bytes], rules: ProofRules) -> UnverifiedProof:
    """The form of the one proof in these DPoP headers. Raises JoseError. No key is looked at, no signature.

    A gateway that joins repeated headers writes a comma, which no JWT has.
    """
    if len(values) != 1:
        raise JoseError("header", f"a request has one DPoP header, and this one has {len(values)}")
    jwt = jose.parse_jwt(values[0], MAX_PROOF_BYTES, _proof_header)
    if jwt.header.media_type != f"application/{PROOF_TYP}":
        raise JoseError("type", f"typ must be {PROOF_TYP}, and is {shown(jwt.header.typ)}")
    name = jwt.header.algorithm.name
    if name not in rules.algorithms:
        raise JoseError("algorithm", f"{name} is not among {', '.join(sorted(rules.algorithms))}")
    nonce = jose.string_claim(jwt.claims, "nonce", MAX_NONCE_CHARS) if "nonce" in jwt.claims else None
    return UnverifiedProof(jwt, nonce)


# Apart from the headers of all other kinds: whoever presents proofs of ever new keys pushes nothing out of there.
@lru_cache(maxsize=512)
def _proof_header(segment: bytes) -> ProofHeader:
    members = jose.header_members(segment)
    steering = jose.steering_members(members)
    jwk = members.get("jwk")
    if not isinstance(jwk, dict):
        raise JoseError("key", "the header of a proof needs the public key, as jwk")
    return ProofHeader(*steering, jwk)


@lru_cache(maxsize=512)
def _proof_key(segment: bytes) -> PublicKey:
    """A caller shows the same key again and again; only what was worth a signature check gets in here."""
    return import_public_jwk(_proof_header(segment).jwk)


def check_proof(
    proof: UnverifiedProof, target: Target, rules: ProofRules, now: float, nonce: Life | None = None
) -> Proof:
    """Key, signature, then claims (RFC 9449 4.3). Raises JoseError, whose reason is one word.

    `nonce`: when the server's own nonce in this proof is good; then that decides and iat is not compared with any
    clock (RFC 9449 8). Members and claims that nobody knows are ignored; exp and nbf hold where they are there.
    """
    jwt = proof.jwt
    key = _proof_key(jwt.signing_input.partition(b".")[0])
    jose.verify_signature(jwt, key)
    jti = jose.string_claim(jwt.claims, "jti", jose.MAX_JTI_CHARS)
    _check_target(jwt.claims, target)
    life = _check_times(jwt.claims, rules, now)
    if nonce is None:
        _check_window(life, rules, now)
    else:
        life = nonce
    # For servers whose clocks are behind it is good for a little longer.
    ends = math.ceil(life.end) + rules.future
    once = OneTimeValue(OneTimeKind.PROOF, key.thumbprint, jti, ends, life.begin)
    return Proof(key.thumbprint, jwt.header.algorithm.name, once)


def _check_target(claims: dict[str, Any], target: Target) -> None:
    method, url = jose.string_claim(claims, "htm"), jose.string_claim(claims, "htu")
    if method != target.method:
        raise JoseError("method", mismatch("htm", method, target.method))
    if normal_url(url) not in target.urls:
        raise JoseError("url", mismatch("htu", url, min(target.urls, default="")))
    if target.token is not None and jose.string_claim(claims, "ath") != token_hash(target.token):
        raise JoseError("token", "ath is not the hash of the access token that came with the proof")


def _check_times(claims: dict[str, Any], rules: ProofRules, now: float) -> Life:
    """How long it is good by its iat; what else it says of times must hold in any case."""
    issued = jose.numeric_date(claims, "iat")
    if issued is None:
        raise JoseError("claims", "iat is missing")
    begin, end = jose.numeric_date(claims, "nbf"), jose.numeric_date(claims, "exp")
    if end is not None and now >= end:
        raise JoseError("expired", "exp of the proof is in the past")
    if begin is not None and begin > now + rules.future:
        raise JoseError("not_yet", "nbf of the proof is in the future")
    return Life(issued, issued + rules.past)


def _check_window(life: Life, rules: ProofRules, now: float) -> None:
    if now > life.end:
        away = _seconds(now - life.begin)
        raise JoseError("expired", f"iat is {away} behind this clock, {rules.past} s at most: an old proof, or a clock")
    if life.begin > now + rules.future:
        away = _seconds(life.begin - now)
        raise JoseError("not_yet", f"iat is {away} ahead of this clock, {rules.future} s at most: set the clocks")


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 10**9 else "very far"
