"""Other people's clients at our token endpoint: who needs nothing, who needs one setting, and what a refusal says."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2
import jwt
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from jwcrypto.jwt import JWT

from groat.verifier import Verifier

from .conftest import CLIENT, IssuerOf
from .foreign_keys import NAMES, key_pair, private_jwk, private_pem, public_jwks
from .processes import OTHER_RESOURCE, RESOURCE, SCOPES, GroatServer, run_node

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TYP: Final = "client-authentication+jwt"
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
Claims = dict[str, Any]


def _claims(client_id: str, audience: str) -> Claims:
    now = int(time.time())
    names = {"iss": client_id, "sub": client_id, "aud": audience}
    return {**names, "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(16)}


def _joserfc_key(owner: str, algorithm: str) -> ECKey | OKPKey | RSAKey:
    """From PEM, as most applications have it: the key then says neither kid nor algorithm."""
    pem = private_pem(owner, algorithm)
    if algorithm.startswith("ES"):
        return ECKey.import_key(pem)
    return OKPKey.import_key(pem) if algorithm.startswith("Ed") else RSAKey.import_key(pem)


def _sign_pyjwt(owner: str, algorithm: str, header: Mapping[str, str], claims: Claims) -> str:
    key = jwt.PyJWK.from_dict(private_jwk(owner, algorithm), algorithm=algorithm)
    return jwt.encode(claims, key, algorithm=algorithm, headers=dict(header))


def _sign_joserfc(owner: str, algorithm: str, header: Mapping[str, str], claims: Claims) -> str:
    full = {"alg": algorithm, **header}
    return joserfc_jwt.encode(full, claims, _joserfc_key(owner, algorithm), algorithms=[algorithm])


def _sign_jwcrypto(owner: str, algorithm: str, header: Mapping[str, str], claims: Claims) -> str:
    token = JWT(header={"alg": algorithm, **header}, claims=claims, algs=[algorithm])
    token.make_signed_token(key_pair(owner, algorithm))
    return str(token.serialize())


SIGNERS: Final[Mapping[str, Callable[[str, str, Mapping[str, str], Claims], str]]] = {
    "PyJWT": _sign_pyjwt,
    "joserfc": _sign_joserfc,
    "jwcrypto": _sign_jwcrypto,
}
# PyJWT knows Ed25519 under its older name only.
SIGNER_ROWS: Final = [
    (library, name) for library in SIGNERS for name in NAMES if (library, name) != ("PyJWT", "Ed25519")
]


def _post(server: GroatServer, assertion: str, **fields: str) -> httpx2.Response:
    form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    return httpx2.post(server.token_endpoint, data={**form, **fields})


def _assert_granted(server: GroatServer, answer: Mapping[str, Any], client_id: str = CLIENT) -> None:
    """The answer is that of RFC 6749 5.1 and its token is good for the API."""
    # The type is case-insensitive (RFC 6749 7.1); oauth4webapi hands it on in lower case.
    assert answer["token_type"].lower() == "bearer"
    assert answer["expires_in"] == 600
    assert answer["scope"] == SCOPES[0]
    caller = Verifier(server.issuer, RESOURCE).verify(answer["access_token"], [SCOPES[0]])
    assert caller.client_id == caller.subject == client_id


@pytest.mark.rule("AS-CA-02", "AS-CA-06", "AS-CA-15", "JOSE-15", "JOSE-16", "JOSE-17")
@pytest.mark.parametrize(("library", "algorithm"), SIGNER_ROWS)
def test_assertion_signed_by_another_library_is_accepted(server: GroatServer, library: str, algorithm: str) -> None:
    """What these libraries sign, over plain HTTP, buys a token."""
    owner_key = key_pair(CLIENT, algorithm)
    header = {"kid": owner_key["kid"], "typ": TYP}
    assertion = SIGNERS[library](CLIENT, algorithm, header, _claims(CLIENT, server.issuer))
    answer = _post(server, assertion, resource=RESOURCE, scope=SCOPES[0])
    assert answer.status_code == 200, server.last_refusal()
    _assert_granted(server, answer.json())


@pytest.mark.rule("JOSE-13", "AS-CA-14", "AS-TE-15")
@pytest.mark.parametrize("library", SIGNERS)
def test_assertion_without_kid_typ_resource_and_scope_is_accepted(server: GroatServer, library: str) -> None:
    """The least that a library writes is enough where one key fits and the client has one API and a default scope."""
    assertion = SIGNERS[library](CLIENT, "ES256", {}, _claims(CLIENT, server.issuer))
    answer = _post(server, assertion)
    assert answer.status_code == 200, server.last_refusal()
    _assert_granted(server, answer.json())


@pytest.mark.rule("AS-CA-05", "AS-CA-19", "A06")
@pytest.mark.parametrize("library", SIGNERS)
def test_assertion_by_a_strangers_key_is_refused(server: GroatServer, library: str) -> None:
    """A well-made assertion under the client's own kid, signed by somebody else's key, buys nothing."""
    header = {"kid": key_pair(CLIENT, "ES256")["kid"], "typ": TYP}
    answer = _post(server, SIGNERS[library]("stranger", "ES256", header, _claims(CLIENT, server.issuer)))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert server.last_refusal()["reason"] == "assertion_signature"


# --- Authlib: a whole OAuth client, whose habits differ from ours in two points

TRANSPORTS: Final = ("requests", "httpx", "httpx-async")
DEFAULTS: Final = "authlib-default"
PATIENT: Final = "authlib-patient"
LEGACY: Final = "authlib-legacy"
# What an operator may set for a client that cannot change (D4), from nothing to all that Authlib's defaults need.
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    DEFAULTS: (),
    PATIENT: ("--max-assertion-lifetime", "3600"),
    LEGACY: ("--max-assertion-lifetime", "3600", "--assertion-audience", "issuer-or-token-endpoint"),
}


@pytest.fixture(scope="module")
def authlib_server(server: GroatServer) -> GroatServer:
    """The server with a client for each set of settings."""
    for client_id, options in SETTINGS.items():
        server.add_client(client_id, public_jwks(client_id), *options)
    return server


def _authlib_token(
    transport: str, server: GroatServer, client_id: str, method: PrivateKeyJWT, key: Any
) -> Mapping[str, Any]:
    """One client_credentials request by Authlib over one of its three HTTP clients. Raises OAuthError."""
    asked = {"grant_type": "client_credentials", "resource": RESOURCE, "scope": SCOPES[0]}
    options = {"client_id": client_id, "client_secret": key, "token_endpoint_auth_method": method.name}

    async def fetch() -> Any:
        async with AsyncOAuth2Client(**options) as session:
            session.register_client_auth_method(method)
            return await session.fetch_token(server.token_endpoint, **asked)

    if transport == "httpx-async":
        return dict(asyncio.run(fetch()))
    with (OAuth2Session if transport == "requests" else OAuth2Client)(**options) as session:
        session.register_client_auth_method(method)
        return dict(session.fetch_token(server.token_endpoint, **asked))


def _authlib_refusal(
    server: GroatServer, client_id: str, claims: Claims | None, transport: str = "httpx"
) -> tuple[str, str, str]:
    """The error that Authlib's caller sees, and the reason and hint in our log."""
    method = PrivateKeyJWT(claims=claims, alg="ES256")
    with pytest.raises(OAuthError) as caught:
        _authlib_token(transport, server, client_id, method, _joserfc_key(client_id, "ES256"))
    line = server.last_refusal()
    assert line["client"] == client_id
    return caught.value.error, line["reason"], line["hint"]


@pytest.mark.rule("AS-CA-06", "A13")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_authlib_as_it_comes_is_refused_and_the_log_says_how_to_go_on(
    authlib_server: GroatServer, transport: str
) -> None:
    """Authlib names the token endpoint as audience, which only the log may explain."""
    error, reason, hint = _authlib_refusal(authlib_server, DEFAULTS, None, transport)
    assert (error, reason) == ("invalid_client", "assertion_audience")
    assert authlib_server.token_endpoint in hint
    assert f"groat client update {DEFAULTS} --assertion-audience issuer-or-token-endpoint" in hint


@pytest.mark.rule("AS-CA-06", "AS-CA-07", "A15")
def test_authlib_with_the_issuer_as_audience_still_lives_too_long(authlib_server: GroatServer) -> None:
    """Its assertions live an hour, twelve times what a client may use without a setting of its own."""
    error, reason, _ = _authlib_refusal(authlib_server, DEFAULTS, {"aud": authlib_server.issuer})
    assert (error, reason) == ("invalid_client", "assertion_lifetime")


@pytest.mark.rule("AS-CA-06", "A13")
def test_patience_alone_does_not_widen_the_audience(authlib_server: GroatServer) -> None:
    """The two settings of a client are independent."""
    assert _authlib_refusal(authlib_server, PATIENT, None)[:2] == ("invalid_client", "assertion_audience")


@pytest.mark.rule("AS-CA-06", "AS-CA-07")
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("client_id", "names_issuer", "short"),
    [
        pytest.param(DEFAULTS, True, True, id="no setting: aud and exp given by the caller"),
        pytest.param(PATIENT, True, False, id="max lifetime 3600: aud given by the caller"),
        pytest.param(LEGACY, False, False, id="both settings: Authlib as it comes"),
    ],
)
def test_authlib_is_accepted(
    authlib_server: GroatServer, transport: str, client_id: str, names_issuer: bool, short: bool
) -> None:
    """Either the caller changes its claims or the operator changes the client: both ways lead to a token."""
    claims: Claims = {"aud": authlib_server.issuer} if names_issuer else {}
    if short:
        claims["exp"] = int(time.time()) + 60
    method = PrivateKeyJWT(claims=claims, alg="ES256")
    answer = _authlib_token(transport, authlib_server, client_id, method, _joserfc_key(client_id, "ES256"))
    _assert_granted(authlib_server, answer, client_id)


class FreshClaims(PrivateKeyJWT):  # type: ignore[misc]  # Authlib has no types
    """What docs/clients.md recommends: claims made anew for each request."""

    issuer = ""

    def sign(self, auth: Any, token_endpoint: str) -> Any:
        self.claims = {"aud": self.issuer, "exp": int(time.time()) + 60}
        return super().sign(auth, token_endpoint)


@pytest.mark.rule("AS-CA-10", "AS-CA-06")
def test_authlib_keeps_the_jti_in_a_claims_dictionary(authlib_server: GroatServer) -> None:
    """One method object with a dictionary of claims sends one jti for ever; fresh claims, or none, do not."""
    key = _joserfc_key(DEFAULTS, "ES256")
    kept = PrivateKeyJWT(claims={"aud": authlib_server.issuer, "exp": int(time.time()) + 60}, alg="ES256")
    _assert_granted(authlib_server, _authlib_token("httpx", authlib_server, DEFAULTS, kept, key), DEFAULTS)
    with pytest.raises(OAuthError):
        _authlib_token("httpx", authlib_server, DEFAULTS, kept, key)
    assert authlib_server.last_refusal()["reason"] == "assertion_replayed"
    fresh = FreshClaims(alg="ES256")
    fresh.issuer = authlib_server.issuer
    plain = PrivateKeyJWT(alg="ES256")
    for client_id, method in ((DEFAULTS, fresh), (DEFAULTS, fresh), (LEGACY, plain), (LEGACY, plain)):
        own = _joserfc_key(client_id, "ES256")
        _assert_granted(authlib_server, _authlib_token("httpx", authlib_server, client_id, method, own), client_id)


@pytest.mark.rule("AS-CA-15", "JOSE-17")
@pytest.mark.parametrize("algorithm", NAMES)
def test_authlib_is_accepted_with_every_algorithm(authlib_server: GroatServer, algorithm: str) -> None:
    """Authlib hands on any algorithm of joserfc, both names of Ed25519 included."""
    method = PrivateKeyJWT(alg=algorithm)
    answer = _authlib_token("httpx", authlib_server, LEGACY, method, _joserfc_key(LEGACY, algorithm))
    _assert_granted(authlib_server, answer, LEGACY)


@pytest.mark.rule("AS-CA-10")
def test_authlib_repeats_its_jti_when_it_is_given_claims(authlib_server: GroatServer) -> None:
    """It writes the first jti into the caller's own dict, so that its second assertion is a replay."""
    claims = {"aud": authlib_server.issuer}
    method = PrivateKeyJWT(claims=claims, alg="ES256")
    key = _joserfc_key(PATIENT, "ES256")
    _authlib_token("httpx", authlib_server, PATIENT, method, key)
    with pytest.raises(OAuthError):
        _authlib_token("httpx", authlib_server, PATIENT, method, key)
    assert authlib_server.last_refusal()["reason"] == "assertion_replayed"
    del claims["jti"]
    _assert_granted(authlib_server, _authlib_token("httpx", authlib_server, PATIENT, method, key), PATIENT)


@pytest.mark.rule("AS-CA-06", "OPS-04")
def test_use_of_the_older_audience_is_logged(authlib_server: GroatServer) -> None:
    """An operator can see who still needs the wider setting (D4)."""
    method = PrivateKeyJWT(alg="ES256")
    _authlib_token("httpx", authlib_server, LEGACY, method, _joserfc_key(LEGACY, "ES256"))
    issued = next(line for line in reversed(authlib_server.log()) if line["event"] == "token.issued")
    assert issued["client"] == LEGACY
    assert "token endpoint" in issued["hint"]


# --- npm: a bare JOSE library, and two whole OAuth clients that find the token endpoint by themselves

NODE_CLIENTS: Final = ("jose", "oauth4webapi", "openid_client")


def _node_token(server: GroatServer, library: str, algorithm: str, owner: str = CLIENT, **config: Any) -> Any:
    asked = {"issuer": server.issuer, "client_id": CLIENT, "alg": algorithm, "resource": RESOURCE, "scope": SCOPES[0]}
    key = {**private_jwk(owner, algorithm), "kid": key_pair(CLIENT, algorithm)["kid"]}
    (answer,) = run_node(f"get_token_{library}.mjs", [{**asked, "private_jwk": key, **config}])
    return answer


@pytest.mark.usefixtures("node_peers")
@pytest.mark.rule("AS-MD-01", "AS-MD-03", "AS-CA-06", "AS-CA-14", "AS-TE-17")
@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("library", NODE_CLIENTS)
def test_npm_client_gets_a_token(server: GroatServer, library: str, algorithm: str) -> None:
    """Discovery, private_key_jwt and the grant, all by the npm library; two of them write no typ."""
    answer = _node_token(server, library, algorithm)
    assert "access_token" in answer, (answer, server.last_refusal())
    _assert_granted(server, answer)


@pytest.mark.usefixtures("node_peers")
@pytest.mark.rule("AS-CA-14")
@pytest.mark.parametrize("library", NODE_CLIENTS)
@pytest.mark.parametrize("typ", [TYP, "JWT"])
def test_npm_client_may_write_either_type(server: GroatServer, library: str, typ: str) -> None:
    """The explicit type and the old generic one are both accepted from a client that is not strict."""
    _assert_granted(server, _node_token(server, library, "ES256", assertion_typ=typ))


@pytest.mark.usefixtures("node_peers")
@pytest.mark.parametrize("library", NODE_CLIENTS)
@pytest.mark.parametrize(
    ("owner", "config", "error", "status"),
    [
        pytest.param("stranger", {}, "invalid_client", 401, marks=pytest.mark.rule("AS-CA-05"), id="key"),
        pytest.param(
            CLIENT, {"assertion_typ": "at+jwt"}, "invalid_client", 401, marks=pytest.mark.rule("AS-CA-14"), id="typ"
        ),
        pytest.param(
            CLIENT, {"scope": "orders:drop"}, "invalid_scope", 400, marks=pytest.mark.rule("AS-TE-14"), id="scope"
        ),
        pytest.param(
            CLIENT,
            {"resource": OTHER_RESOURCE, "scope": "stock:read"},
            "invalid_target",
            400,
            marks=pytest.mark.rule("AS-TE-25"),
            id="resource",
        ),
    ],
)
@pytest.mark.rule("AS-TE-21", "AS-TE-23")
def test_npm_client_hands_on_our_refusal(
    server: GroatServer, library: str, owner: str, config: Mapping[str, str], error: str, status: int
) -> None:
    """The caller sees our error code: no challenge or odd body makes the library hide it (D1)."""
    answer = _node_token(server, library, "ES256", owner, **config)
    assert (answer.get("error"), answer.get("status")) == (error, status), json.dumps(answer)


@pytest.mark.usefixtures("node_peers")
@pytest.mark.rule("AT-09", "AS-MD-07")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "Ed25519"])
@pytest.mark.parametrize("library", NODE_CLIENTS)
def test_npm_client_gets_a_token_whatever_signs_it(issuer_of: IssuerOf, library: str, algorithm: str) -> None:
    """Client and server each sign with this algorithm."""
    server = issuer_of(algorithm)
    _assert_granted(server, _node_token(server, library, algorithm))
