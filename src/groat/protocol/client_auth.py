"""Who asks: client authentication (RFC 7521 4.2, RFC 7523 2.2 and 3, draft-ietf-oauth-rfc7523bis).

Every failure is InvalidClient with one outside appearance; its reason is for the log. The checks are `assertion` to
`claims` of order.py; using up the jti is the caller's next act.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from groat.protocol import jose
from groat.protocol.differences import difference, shown
from groat.protocol.errors import InvalidClient, JoseError
from groat.protocol.jwk import PublicKey, decoy_key, printable
from groat.protocol.key_limits import UNLIMITED, OutOfTime
from groat.protocol.models import (
    CLIENT_ID,
    MAX_ASSERTION_LIFETIME,
    AssertionAudience,
    Client,
    OneTimeValue,
    Policy,
    Profile,
    TokenRequest,
)
from groat.protocol.platforms import platform_hint
from groat.protocol.shell import command
from groat.protocol.time_hints import life_of, time_hint
from groat.protocol.token_request import no_credential

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TYP: Final = "client-authentication+jwt"
# The draft advises against refusing untyped assertions, so absent and JWT pass unless the client is strict.
_LENIENT_TYPES: Final[frozenset[str | None]] = frozenset({None, "application/jwt", f"application/{ASSERTION_TYP}"})
_STRICT_TYPES: Final[frozenset[str | None]] = frozenset({f"application/{ASSERTION_TYP}"})
MAX_JTI_CHARS: Final = 256
_DECOY_BITS: Final = (2048, 3072, 4096)
_NOBODY: Final = Client("nobody", (decoy_key("ES256"),))


@dataclass(frozen=True, slots=True)
class Credential:
    """A well-formed assertion and the client it claims to come from; nothing is proven yet."""

    method: str
    client_id: str
    jwt: jose.UnverifiedJwt


@dataclass(frozen=True, slots=True)
class AuthenticatedClient:
    """Proof of authentication: only `authenticate_client` makes one. The jti is still to be used up."""

    client: Client
    method: str
    key: PublicKey
    once: OneTimeValue
    token_endpoint_audience: bool


def read_credential(request: TokenRequest) -> Credential:
    """Find out by which method the client wants to be known, and as whom. Raises InvalidClient."""
    for method, reader in CLIENT_AUTH_METHODS.items():
        credential = reader(request)
        if credential is not None:
            return Credential(method, *credential)
    raise no_credential(request)


def _private_key_jwt(request: TokenRequest) -> tuple[str, jose.UnverifiedJwt] | None:
    if request.client_assertion is None:
        return None
    if request.client_assertion_type != JWT_BEARER:
        raise InvalidClient("assertion_method", f"client_assertion_type must be {JWT_BEARER}")
    try:
        jwt = jose.parse_jwt(request.client_assertion)
    except JoseError as error:
        raise InvalidClient(f"assertion_{error.reason}", error.hint) from None
    client_id = jwt.claims.get("sub")
    if not isinstance(client_id, str) or CLIENT_ID.fullmatch(client_id) is None:
        hint = platform_hint(jwt.claims) or f"sub must be the client id, and is {shown(client_id)}"
        raise InvalidClient("assertion_subject", hint)
    if request.client_id is not None and request.client_id != client_id:
        raise InvalidClient("assertion_subject", "the client_id parameter names another client")
    return client_id, jwt


Reader = Callable[[TokenRequest], tuple[str, jose.UnverifiedJwt] | None]
CLIENT_AUTH_METHODS: Final[Mapping[str, Reader]] = MappingProxyType({"private_key_jwt": _private_key_jwt})


def authenticate_client(
    credential: Credential, client: Client | None, policy: Policy, now: float
) -> AuthenticatedClient:
    """Judge a credential against the registered client, or against nobody (`client` None).

    `now`: epoch seconds. Raises InvalidClient. Not checked: whether the jti was used before.
    """
    jwt = credential.jwt
    _check_algorithm(jwt.header, policy)
    # What only a registered client can fail comes after the signature, so that time does not tell who is registered.
    key = prove(jwt, credential.client_id, client, now, policy.clock_tolerance)
    assert client is not None  # without a client there was nothing to prove by
    _check_header(jwt.header, client)
    if not client.enabled:
        raise InvalidClient("client_disabled", command("client enable", client.client_id))
    try:
        return _check_claims(credential, client, key, policy, now)
    except JoseError as error:
        raise InvalidClient(f"assertion_{error.reason}", _claims_hint(error, jwt.claims, client, now)) from None


def _claims_hint(error: JoseError, claims: Mapping[str, Any], client: Client, now: float) -> str:
    """Why the claims were refused; the command for a longer life only where that is what is missing."""
    life = life_of(claims, now) if error.reason == "lifetime" else None
    if life is None:
        return time_hint(error, claims, now)
    if life > MAX_ASSERTION_LIFETIME:
        return f"{error.hint}; no client may have more than {MAX_ASSERTION_LIFETIME} s"
    return f"{error.hint}. " + command(
        "client update", client.client_id, options=f"--max-assertion-lifetime {math.ceil(life)}"
    )


def _check_algorithm(header: jose.Header, policy: Policy) -> None:
    name = header.algorithm.name
    if name not in policy.algorithms:
        raise InvalidClient("assertion_algorithm", f"{name} is outside profile {policy.profile}")
    _check_type(header, _LENIENT_TYPES)


def _check_header(header: jose.Header, client: Client) -> None:
    if client.signing_alg not in (None, header.algorithm.name):
        raise InvalidClient("assertion_algorithm", f"the client is pinned to {client.signing_alg}")
    if client.strict_typ:
        _check_type(header, _STRICT_TYPES)


def _check_type(header: jose.Header, types: frozenset[str | None]) -> None:
    if header.media_type not in types:
        what = ": an access token is no assertion" if header.media_type == "application/at+jwt" else ""
        raise InvalidClient("assertion_type", f"typ must be {ASSERTION_TYP}, and is {shown(header.typ)}{what}")


def prove(jwt: jose.UnverifiedJwt, client_id: str, client: Client | None, now: float, tolerance: float) -> PublicKey:
    """Check the signature; where there is no key to check it with, a decoy makes that cost the same.

    A key outside its limits is no key of the client; that is looked at after the signature, so that only its owner can
    take that step and nobody else can time it. `tolerance`: how far ahead its not-before may lie, in seconds.
    """
    key = None if client is None else _key_of(client, jwt.header, now, tolerance)
    if client is None or key is None or not _fits_size(jwt, key):
        _verified(jwt, _decoy(jwt))
    elif _verified(jwt, key):
        if client.limits and (fault := client.limits.get(key.kid, UNLIMITED).fault(now, tolerance)):
            raise _out_of_time(client_id, key, fault)
        return key
    refusal = _no_proof(jwt, client_id, client, key)
    refusal.unproven = True
    raise refusal


def _key_of(client: Client, header: jose.Header, now: float, tolerance: float) -> PublicKey | None:
    """The key that the header means; where no kid says which, those out of time make no choice ambiguous."""
    key = jose.find_key(header, client.keys)
    if key is not None or header.kid is not None or not client.limits:
        return key
    counting = [key for key in client.keys if not client.limits.get(key.kid, UNLIMITED).fault(now, tolerance)]
    return jose.find_key(header, counting)


def _out_of_time(name: str, key: PublicKey, fault: OutOfTime) -> InvalidClient:
    what, option = ("has expired", "--expires") if fault is OutOfTime.EXPIRED else ("is not valid yet", "--not-before")
    remedy = command("client key update", name, key.kid, options=f"{option} WHEN")
    return InvalidClient(fault.value, f"key {printable(key.kid)} {what}. {remedy}")


def _verified(jwt: jose.UnverifiedJwt, key: PublicKey) -> bool:
    try:
        jose.verify_signature(jwt, key)
    except JoseError:
        return False
    return True


def _fits_size(jwt: jose.UnverifiedJwt, key: PublicKey) -> bool:
    """RSA fails at once on a signature of another size than the modulus: that would tell that there is a key."""
    if jwt.header.algorithm.key_type != "RSA":
        return True
    return bool(key.native.key_size == len(jwt.signature) * 8)


def _decoy(jwt: jose.UnverifiedJwt) -> PublicKey:
    bits = len(jwt.signature) * 8
    return decoy_key(jwt.header.algorithm.name, bits if bits in _DECOY_BITS else _DECOY_BITS[0])


def _no_proof(jwt: jose.UnverifiedJwt, name: str, client: Client | None, key: PublicKey | None) -> InvalidClient:
    """Why there is no proof. Every case does the same work and says about as much: both take time that can be seen."""
    header, foreign = jwt.header, platform_hint(jwt.claims)
    reason, hint = jose.no_key(header, (client or _NOBODY).keys)
    if foreign:  # the claims alone decide: it tells nothing about who is registered
        code = "client_unknown" if client is None else "assertion_signature" if key else "assertion_key"
        return InvalidClient(code, foreign)
    if client is None:
        # Some 150 characters, as those below: docs/benchmarks.md, "Who is registered".
        return InvalidClient(
            "client_unknown",
            f"{hint}: no client {printable(name)} is registered. "
            + command("client add", name, options="--allow API=SCOPE --public-key FILE"),
        )
    if key is not None:
        signed = f"not signed by key {printable(key.kid)} of {name}, or changed since"
        return InvalidClient(
            "assertion_signature", f"{signed}; its owner may have a new key. {command('client key list', name)}"
        )
    code, remedy = "assertion_algorithm", command("client key list", name)
    if reason == "key_unknown":
        code = "assertion_key"
        if client.publishes:
            remedy = f"it publishes its keys: this one must be at its jwks_uri. {command('client show', name)}"
        elif header.kid is not None:
            remedy = command("client key add", name, options="FILE")
    return InvalidClient(code, f"{hint}; registered: {client.shown_keys}. {remedy}")


def _check_claims(
    credential: Credential, client: Client, key: PublicKey, policy: Policy, now: float
) -> AuthenticatedClient:
    claims = credential.jwt.claims
    if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
        found = f"iss is {shown(claims.get('iss'))}, sub is {shown(claims.get('sub'))}"
        raise InvalidClient("assertion_issuer", f"iss and sub must both be the client id; {found}")
    audience = _check_audience(claims, client, policy)
    lifetime = client.max_assertion_lifetime or policy.max_assertion_lifetime
    exp, signed_at = _check_lifetime(claims, lifetime, policy.clock_tolerance, now)
    jti = jose.string_claim(claims, "jti", MAX_JTI_CHARS)
    once = OneTimeValue(client.client_id, jti, math.ceil(exp) + policy.clock_tolerance, signed_at)
    return AuthenticatedClient(client, credential.method, key, once, audience == policy.token_endpoint)


def _check_audience(claims: Mapping[str, Any], client: Client, policy: Policy) -> str:
    """The issuer is the sole audience: anything wider lets one server replay to another (audience injection)."""
    if claims.get("aud") == policy.issuer:
        return policy.issuer
    values = jose.audience(claims)
    allowed = {policy.issuer}
    strict = policy.profile is Profile.FAPI2  # FAPI 2.0 5.3.2.1 (8): the issuer, as a string, whatever the client says
    if client.assertion_audience is AssertionAudience.ISSUER_OR_TOKEN_ENDPOINT and not strict:
        allowed.add(policy.token_endpoint)
    array_refused = strict and not isinstance(claims["aud"], str)
    if len(values) != 1 or values[0] not in allowed or array_refused:
        sent = ", ".join(shown(value) for value in values[:3])
        known = " or ".join(f'"{name}"' for name in sorted(allowed))
        hint = f"aud is {sent}; this server accepts only {known}{_audience_advice(values, client, policy)}"
        raise InvalidClient("assertion_audience", hint)
    return values[0]


def _audience_advice(values: Sequence[str], client: Client, policy: Policy) -> str:
    """What would help: the command only for the one audience that the client may be allowed."""
    strict = policy.profile is Profile.FAPI2
    if len(values) > 1:
        return "; one audience alone, because each other server that is named could use the assertion here"
    if values[0] == policy.token_endpoint and not strict:
        options = "--assertion-audience issuer-or-token-endpoint"
        return ". " + command("client update", client.client_id, options=options)
    if values[0] in (policy.issuer, policy.token_endpoint):
        return f"; profile {policy.profile} takes the issuer as one string, whatever the client is allowed"
    return difference(values[0], policy.issuer) or "; it was signed for somebody else: the caller must name this issuer"


def _check_lifetime(
    claims: Mapping[str, Any], lifetime: int, tolerance: int, now: float
) -> tuple[jose.Number, jose.Number]:
    """When the assertion ends, and the earliest moment at which it can have been signed."""
    exp = jose.check_times(claims, now, tolerance=tolerance)
    if exp > now + lifetime:
        raise JoseError("lifetime", f"exp is more than {lifetime} s ahead")
    issued = jose.numeric_date(claims, "iat")
    if issued is not None and (issued < now - lifetime or issued > exp):
        raise JoseError("lifetime", "iat is after exp" if issued > exp else f"iat is more than {lifetime} s ago")
    return exp, exp - lifetime if issued is None else issued
