"""private_key_jwt: an assertion that a registered key of the client has signed (RFC 7521 4.2, RFC 7523 2.2 and 3).

After draft-ietf-oauth-rfc7523bis. The checks are `assertion` to `claims` of order.py; using up the jti is the caller's
next act.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from groat.protocol import jose
from groat.protocol.client_auth.standing import disabled
from groat.protocol.client_settings import MAX_ASSERTION_LIFETIME, AssertionAudience
from groat.protocol.client_signature import prove_signature
from groat.protocol.differences import difference, shown
from groat.protocol.errors import InvalidClient, JoseError
from groat.protocol.grammar import CLIENT_ID
from groat.protocol.jwk import PublicKey
from groat.protocol.models import (
    AuthenticatedClient,
    Client,
    ClientRequest,
    Credential,
    OneTimeKind,
    OneTimeValue,
    Policy,
    Profile,
)
from groat.protocol.passing import passing
from groat.protocol.platforms import platform_hint
from groat.protocol.shell import command
from groat.protocol.time_hints import life_of, time_hint

NAME: Final = "private_key_jwt"
PARAMETERS: Final = ("client_assertion", "client_assertion_type")
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
ASSERTION_TYP: Final = "client-authentication+jwt"
# The draft advises against refusing untyped assertions, so absent and JWT pass unless the client is strict.
_LENIENT_TYPES: Final[frozenset[str | None]] = frozenset({None, "application/jwt", f"application/{ASSERTION_TYP}"})
_STRICT_TYPES: Final[frozenset[str | None]] = frozenset({f"application/{ASSERTION_TYP}"})
_PLATFORM_TYPES: Final[frozenset[str | None]] = frozenset({None, "application/jwt", "application/jose"})
_ENDPOINT_AS_AUDIENCE: Final = "the assertion names the token endpoint as audience; the issuer is better"


@passing()
class Assertion(Credential):
    """A well-formed assertion and the client it claims to come from."""

    jwt: jose.UnverifiedJwt


def read(request: ClientRequest) -> Assertion | None:
    """The form of the assertion, and whom it names; None for a token of another issuer. Raises InvalidClient."""
    if request.credentials["client_assertion_type"] != JWT_BEARER:
        if request.credentials["client_assertion_type"] == JWT_SPIFFE:
            return None
        raise InvalidClient("assertion_method", f"client_assertion_type must be {JWT_BEARER}")
    try:
        jwt = jose.parse_jwt(request.credentials["client_assertion"])
    except JoseError as error:
        raise InvalidClient(f"assertion_{error.reason}", error.hint) from None
    client_id = jwt.claims.get("sub")
    # A client speaks for itself; asked first, because nearly every assertion does.
    if ("iss" not in jwt.claims or jwt.claims["iss"] != client_id) and _is_foreign(jwt):
        return None
    if not isinstance(client_id, str) or CLIENT_ID.fullmatch(client_id) is None:
        hint = platform_hint(jwt.claims) or f"sub must be the client id, and is {shown(client_id)}"
        raise InvalidClient("assertion_subject", hint)
    if request.client_id is not None and request.client_id != client_id:
        raise InvalidClient("assertion_subject", "the client_id parameter names another client")
    return Assertion(NAME, client_id, jwt)


def _is_foreign(jwt: jose.UnverifiedJwt) -> bool:
    """Whether it looks as the platforms' tokens do: of some other issuer, and with no type that says more than JWT."""
    return jwt.header.media_type in _PLATFORM_TYPES and bool(platform_hint(jwt.claims))


def prove(credential: Assertion, client: Client | None, policy: Policy, now: float) -> AuthenticatedClient:
    """Judge an assertion. Raises InvalidClient. Not checked: whether the jti was used before."""
    jwt = credential.jwt
    _check_algorithm(jwt.header, policy)
    # What only a registered client can fail comes after the signature, so that time does not tell who is registered.
    key = prove_signature(jwt, credential.client_id, client, now, policy.clock_tolerance)
    assert client is not None  # without a client there was nothing to prove by
    _check_header(jwt.header, client)
    if not client.enabled:
        raise disabled(client)
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
    if client.settings.signing_alg not in (None, header.algorithm.name):
        raise InvalidClient("assertion_algorithm", f"the client is pinned to {client.settings.signing_alg}")
    if client.settings.strict_typ:
        _check_type(header, _STRICT_TYPES)


def _check_type(header: jose.Header, types: frozenset[str | None]) -> None:
    if header.media_type not in types:
        what = ": an access token is no assertion" if header.media_type == "application/at+jwt" else ""
        raise InvalidClient("assertion_type", f"typ must be {ASSERTION_TYP}, and is {shown(header.typ)}{what}")


def _check_claims(
    credential: Assertion, client: Client, key: PublicKey, policy: Policy, now: float
) -> AuthenticatedClient:
    claims = credential.jwt.claims
    if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
        found = f"iss is {shown(claims.get('iss'))}, sub is {shown(claims.get('sub'))}"
        raise InvalidClient("assertion_issuer", f"iss and sub must both be the client id; {found}")
    audience = _check_audience(claims, client, policy)
    lifetime = client.settings.max_assertion_lifetime or policy.max_assertion_lifetime
    exp, signed_at = _check_lifetime(claims, lifetime, policy.clock_tolerance, now)
    jti = jose.string_claim(claims, "jti", jose.MAX_JTI_CHARS)
    ends = math.ceil(exp) + policy.clock_tolerance
    once = OneTimeValue(OneTimeKind.ASSERTION, client.client_id, jti, ends, signed_at)
    return AuthenticatedClient(client, NAME, key, once, "" if audience == policy.issuer else _ENDPOINT_AS_AUDIENCE)


def _check_audience(claims: Mapping[str, Any], client: Client, policy: Policy) -> str:
    """The issuer is the sole audience: anything wider lets one server replay to another (audience injection)."""
    if claims.get("aud") == policy.issuer:
        return policy.issuer
    values = jose.audience(claims)
    allowed = {policy.issuer}
    strict = policy.profile is Profile.FAPI2  # FAPI 2.0 5.3.2.1 (8): the issuer, as a string, whatever the client says
    if client.settings.assertion_audience is AssertionAudience.ISSUER_OR_TOKEN_ENDPOINT and not strict:
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
