"""Other people's verifiers on the access tokens and the JWKS that `groat serve` really serves."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2
import jwt
import pytest
from authlib.oauth2.rfc6750.errors import InsufficientScopeError, InvalidTokenError
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc import errors as joserfc_errors
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto.common import JWException
from jwcrypto.jwk import JWKSet
from jwcrypto.jwt import JWT

from .conftest import CLIENT, IssuerOf, token_of
from .processes import OTHER_RESOURCE, RESOURCE, SCOPES, GroatServer, run_node

ALGORITHMS: Final = ("ES256", "RS256", "PS256", "Ed25519")
REQUIRED: Final = ("iss", "aud", "exp", "iat", "sub", "client_id", "jti")
Claims = Mapping[str, Any]
Verify = Callable[[GroatServer, str, str], Claims]


class Refused(Exception):
    """The library said no; its own exception is the cause."""


def _jwks(server: GroatServer) -> str:
    return httpx2.get(server.jwks_uri).raise_for_status().text


def _joserfc(server: GroatServer, token: str, audience: str) -> Claims:
    demanded: dict[str, Any] = {name: {"essential": True} for name in REQUIRED}
    demanded |= {"iss": {"essential": True, "value": server.issuer}, "aud": {"essential": True, "value": audience}}
    keys = KeySet.import_key_set(httpx2.get(server.jwks_uri).json())
    try:
        claims = joserfc_jwt.decode(token, keys, algorithms=[server.algorithm]).claims
        joserfc_jwt.JWTClaimsRegistry(**demanded).validate(claims)
    except joserfc_errors.JoseError as error:
        raise Refused from error
    return claims


class _AuthlibValidator(JWTBearerTokenValidator):  # type: ignore[misc]
    """Authlib's own RFC 9068 validator; it leaves getting the keys to the application."""

    def __init__(self, server: GroatServer, audience: str) -> None:
        super().__init__(issuer=server.issuer, resource_server=audience)
        self._keys = KeySet.import_key_set(httpx2.get(server.jwks_uri).json())

    def get_jwks(self) -> KeySet:
        return self._keys


def _authlib(server: GroatServer, token: str, audience: str) -> Claims:
    validator = _AuthlibValidator(server, audience)
    try:
        found = validator.authenticate_token(token)
        validator.validate_token(found, [SCOPES[0]], None)
    except (InvalidTokenError, InsufficientScopeError) as error:
        raise Refused from error
    return dict(found)


def _pyjwt(server: GroatServer, token: str, audience: str) -> Claims:
    keys = jwt.PyJWKClient(server.jwks_uri)
    try:
        return jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=[server.algorithm],
            issuer=server.issuer,
            audience=audience,
            options={"require": list(REQUIRED)},
        )
    except jwt.PyJWTError as error:
        raise Refused from error


def _jwcrypto(server: GroatServer, token: str, audience: str) -> Claims:
    demanded = dict.fromkeys(REQUIRED) | {"iss": server.issuer, "aud": audience}
    try:
        found = JWT(
            jwt=token,
            key=JWKSet.from_json(_jwks(server)),
            algs=[server.algorithm],
            check_claims=demanded,
            expected_type="JWS",
        )
    except (JWException, ValueError) as error:
        raise Refused from error
    claims: Claims = httpx2.Response(200, content=found.claims).json()
    return claims


def _npm_jose(server: GroatServer, token: str, audience: str) -> Claims:
    expected = {"issuer": server.issuer, "audience": audience, "algorithms": [server.algorithm]}
    return _answer(run_node("jose_verify.mjs", [{"jwks_uri": server.jwks_uri, **expected}, {"token": token}]))


def _npm_oauth4webapi(server: GroatServer, token: str, audience: str) -> Claims:
    question = {"issuer": server.issuer, "audience": audience, "tokens": [token]}
    return _answer(run_node("verify_oauth4webapi.mjs", [question]))


def _answer(lines: list[dict[str, Any]]) -> Claims:
    (answer,) = lines
    if not answer["ok"]:
        raise Refused(answer["code"])
    claims: Claims = answer["claims"]
    return claims


VERIFIERS: Final[Mapping[str, Verify]] = {
    "joserfc": _joserfc,
    "Authlib": _authlib,
    "PyJWT": _pyjwt,
    "jwcrypto": _jwcrypto,
    "npm jose": _npm_jose,
    "npm oauth4webapi": _npm_oauth4webapi,
}
# Who cannot read which of our tokens, and why. ES256, the default, is read by everybody.
CANNOT: Final[Mapping[tuple[str, str], str]] = {
    ("PyJWT", "Ed25519"): "knows that algorithm only under its older name EdDSA",
    ("Authlib", "Ed25519"): "its validator takes no algorithm list, and joserfc's default has RS256 and ES256 only",
    ("Authlib", "PS256"): "its validator takes no algorithm list, and joserfc's default has RS256 and ES256 only",
}


def _rows(*, readable: bool) -> list[tuple[str, str]]:
    pairs = [(library, algorithm) for library in VERIFIERS for algorithm in ALGORITHMS]
    return [pair for pair in pairs if (pair not in CANNOT) is readable]


@pytest.fixture
def verify(library: str, request: pytest.FixtureRequest) -> Verify:
    """The verifier of that name; the npm ones need Node.js."""
    if library.startswith("npm"):
        request.getfixturevalue("node_peers")
    return VERIFIERS[library]


@pytest.fixture
def server(issuer_of: IssuerOf, algorithm: str) -> GroatServer:
    """The server that signs with this algorithm."""
    return issuer_of(algorithm)


@pytest.fixture
def token(server: GroatServer) -> str:
    """A token of this server, got by our own client with a key of another library."""
    return token_of(server)


@pytest.mark.rule("AT-01", "AT-02", "AT-03", "AT-04", "AT-05", "AT-09", "AS-MD-13", "KEY-12")
@pytest.mark.parametrize(("library", "algorithm"), _rows(readable=True))
def test_our_token_is_accepted(verify: Verify, server: GroatServer, token: str) -> None:
    """The library finds our key by its kid, proves the signature and reads the claims that we meant."""
    claims = verify(server, token, RESOURCE)
    assert (claims["iss"], claims["aud"]) == (server.issuer, RESOURCE)
    assert claims["sub"] == claims["client_id"] == CLIENT
    assert claims["scope"] == SCOPES[0]
    assert claims["exp"] - claims["iat"] == 600


@pytest.mark.rule("AT-05", "RS-13")
@pytest.mark.parametrize(("library", "algorithm"), _rows(readable=True))
def test_our_token_is_refused_for_another_audience(verify: Verify, server: GroatServer, token: str) -> None:
    """Our aud claim keeps APIs apart in the libraries' eyes too."""
    with pytest.raises(Refused):
        verify(server, token, OTHER_RESOURCE)


@pytest.mark.rule("AT-01")
@pytest.mark.parametrize(("library", "algorithm"), _rows(readable=True))
def test_our_token_with_one_bit_flipped_is_refused(verify: Verify, server: GroatServer, token: str) -> None:
    """The acceptance above rests on the signature."""
    middle = token.rindex(".") + 20
    flipped = "A" if token[middle] != "A" else "B"
    with pytest.raises(Refused):
        verify(server, token[:middle] + flipped + token[middle + 1 :], RESOURCE)


@pytest.mark.rule("AT-09")
@pytest.mark.parametrize(("library", "algorithm"), _rows(readable=False))
def test_known_limit_of_another_library(verify: Verify, server: GroatServer, token: str) -> None:
    """What the documentation says these libraries cannot read, they still cannot (see CANNOT for the reasons)."""
    with pytest.raises(Refused):
        verify(server, token, RESOURCE)
