"""How a client registers its next key itself: what it writes and what the server checks, side by side.

The new key signs a proof that names the client, the server and itself, so that nobody registers a key that he does not
hold. The right to register comes from a join code (whose digest is in the proof), or from the client's current key,
which endorses the new one by its thumbprint. Neither can pass for an assertion: each has its own `typ` (RFC 8725 3.11).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from groat.protocol import jose
from groat.protocol.client_signature import prove_signature
from groat.protocol.differences import mismatch
from groat.protocol.errors import InvalidClient, JoseError
from groat.protocol.grammar import CLIENT_ID
from groat.protocol.jwk import PublicKey, base64url_encode, import_public_jwk
from groat.protocol.models import Client, OneTimeKind, OneTimeValue, Policy
from groat.protocol.time_hints import time_hint

PROOF_TYP: Final = "client-key+jwt"
ENDORSEMENT_TYP: Final = "client-key-endorsement+jwt"
LIFETIME: Final = 60
MAX_LIFETIME: Final = 300
MIN_RETIREMENT, MAX_RETIREMENT = 60, 366 * 86400


@dataclass(frozen=True, slots=True)
class NewKey:
    """A public key whose private half was at work in this request. Not proven: that it may act for the client."""

    client_id: str
    key: PublicKey
    code_digest: str | None


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A current key's word for a new one. `once`: to be used up; `by`: the current key.

    `whole`: stands for the very text, so that a repetition of it can be told from another one under the same jti;
    None for a join code, which says nothing else. `retire_at`: when the current key wants to end (epoch seconds), None
    if it does not say; the same each time the endorsement is read, so that reading it twice changes nothing.
    """

    once: OneTimeValue
    by: PublicKey
    whole: OneTimeValue | None = None
    retire_at: int | None = None


def code_digest(code: str) -> str:
    """How a proof names the join code that it goes with."""
    return base64url_encode(hashlib.sha256(code.encode()).digest()).decode()


def proof_claims(client_id: str, issuer: str, jwk: Mapping[str, Any], now: int, code: str | None) -> dict[str, Any]:
    """What the new key signs."""
    claims = {"iss": client_id, "aud": issuer, "iat": now, "exp": now + LIFETIME, "jwk": dict(jwk)}
    return claims if code is None else {**claims, "code": code_digest(code)}


def endorsement_claims(
    client_id: str, issuer: str, thumbprint: str, now: int, jti: str, retire_after: int | None = None
) -> dict[str, Any]:
    """What the current key signs; `retire_after`: seconds from `now` until it is to end itself."""
    claims = {"iss": client_id, "aud": issuer, "iat": now, "exp": now + LIFETIME, "jti": jti, "new_key": thumbprint}
    return claims if retire_after is None else {**claims, "retire_after": retire_after}


def read_proof(text: str, policy: Policy, now: float) -> NewKey:
    """Who wants to register which key, proven by that key. Raises JoseError."""
    jwt = _parsed(text, PROOF_TYP)
    jwk = jwt.claims.get("jwk")
    if not isinstance(jwk, dict) or "alg" not in jwk:
        raise JoseError("key", "the proof needs a public JWK with alg in its claim jwk")
    key = import_public_jwk(jwk)
    if key.algorithm not in policy.algorithms:
        raise JoseError("algorithm", f"{key.algorithm} is outside profile {policy.profile}")
    jose.verify_signature(jwt, key)
    _check_claims(jwt.claims, policy, now)
    client_id, digest = jwt.claims.get("iss"), jwt.claims.get("code")
    if not isinstance(client_id, str) or CLIENT_ID.fullmatch(client_id) is None:
        raise JoseError("claims", "iss must be the client id")
    return NewKey(client_id, key, digest if isinstance(digest, str) else None)


def check_endorsement(text: str, client: Client | None, new: NewKey, policy: Policy, now: float) -> Endorsement:
    """Whether a current key of the client wants the new one. Raises InvalidClient.

    An unknown client costs as much as a known one.
    """
    try:
        jwt = _parsed(text, ENDORSEMENT_TYP)
        if jwt.header.algorithm.name not in policy.algorithms:
            raise JoseError("algorithm", f"{jwt.header.algorithm.name} is outside profile {policy.profile}")
        by = prove_signature(jwt, new.client_id, client, now, policy.clock_tolerance)
        exp = _check_claims(jwt.claims, policy, now)
        signed_at = jose.numeric_date(jwt.claims, "iat")
        jti = jose.string_claim(jwt.claims, "jti", jose.MAX_JTI_CHARS)
        retire_after = _retirement(jwt.claims)
    except JoseError as error:
        raise InvalidClient(f"endorsement_{error.reason}", error.hint) from None
    if jwt.claims.get("iss") != new.client_id or jwt.claims.get("new_key") != new.key.thumbprint:
        raise InvalidClient("endorsement_claims", "iss and new_key must name the client and the key of the proof")
    expires_at = math.ceil(exp) + policy.clock_tolerance
    earliest = exp - MAX_LIFETIME if signed_at is None else signed_at
    once = OneTimeValue(OneTimeKind.ENDORSEMENT, new.client_id, jti, expires_at, earliest)
    whole = replace(once, kind=OneTimeKind.ENDORSEMENT_TEXT, value=hashlib.sha256(text.encode()).hexdigest())
    begin = exp if signed_at is None else signed_at
    return Endorsement(once, by, whole, None if retire_after is None else math.ceil(begin) + retire_after)


def _retirement(claims: Mapping[str, Any]) -> int | None:
    seconds = claims.get("retire_after")
    if seconds is None and "retire_after" not in claims:
        return None
    if type(seconds) is not int or not MIN_RETIREMENT <= seconds <= MAX_RETIREMENT:
        raise JoseError("retirement", f"retire_after must be {MIN_RETIREMENT} to {MAX_RETIREMENT} seconds")
    return seconds


def _parsed(text: str, typ: str) -> jose.UnverifiedJwt:
    jwt = jose.parse_jwt(text)
    if jwt.header.media_type != f"application/{typ}":
        raise JoseError("type", f"typ must be {typ}")
    return jwt


def _check_claims(claims: Mapping[str, Any], policy: Policy, now: float) -> jose.Number:
    found = claims.get("aud")
    if found != policy.issuer:
        raise JoseError("audience", mismatch("aud (one string)", found, policy.issuer))
    try:
        exp = jose.check_times(claims, now, tolerance=policy.clock_tolerance)
        if exp > now + MAX_LIFETIME:
            raise JoseError("lifetime", f"exp is more than {MAX_LIFETIME} s ahead")
    except JoseError as error:
        raise JoseError(error.reason, time_hint(error, claims, now)) from None
    return exp
