"""Our client and our verifier at somebody else's authorization server: npm oidc-provider."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from groat.client import KeyFile, MachineClient, ScopeNarrowed, TokenRequestRefused
from groat.keys.files import parse_private_key
from groat.protocol.access_token import Caller
from groat.protocol.errors import InsufficientScope, InvalidToken
from groat.protocol.jwk import PrivateKey
from groat.verifier import Verifier

from .conftest import CLIENT
from .foreign_keys import private_jwk, private_pem, public_jwks
from .processes import OTHER_RESOURCE, RESOURCE, SCOPES, oidc_provider

ALGORITHMS = ("ES256", "RS256", "PS256", "Ed25519")
UNKNOWN = "orders:drop"
ProviderOf = Callable[[str], str]
pytestmark = pytest.mark.usefixtures("node_peers")


@pytest.fixture(scope="module")
def provider_of(tmp_path_factory: pytest.TempPathFactory, node_peers: None) -> Iterator[ProviderOf]:
    """The issuer of an oidc-provider by the algorithm of its tokens and of its client's assertions."""
    with ExitStack() as stack:

        @cache
        def start(algorithm: str) -> str:
            client = {"client_id": CLIENT, "jwks": {"keys": public_jwks(CLIENT, [algorithm])}, "alg": algorithm}
            config = {
                "clients": [{**client, "scopes": list(SCOPES)}],
                "resource": RESOURCE,
                "scopes": list(SCOPES),
                "signing_jwk": private_jwk("provider", algorithm),
                "alg": algorithm,
                "lifetime": 600,
            }
            file = tmp_path_factory.mktemp(f"provider-{algorithm}") / "config.json"
            return stack.enter_context(oidc_provider(file, config))

        yield start


def _key(algorithm: str, owner: str = CLIENT) -> PrivateKey:
    """The client's key in our form, from the JWK that another library wrote."""
    return parse_private_key(json.dumps(private_jwk(owner, algorithm)).encode(), "a JWK of another library")


def _assert_caller(caller: Caller) -> None:
    assert caller.client_id == caller.subject == CLIENT
    assert caller.scopes == {SCOPES[0]}


@pytest.mark.rule("CL-01", "CL-03", "CL-06", "RS-11", "RS-12", "RS-13", "RS-17")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_client_and_verifier_work_at_a_foreign_server(provider_of: ProviderOf, algorithm: str) -> None:
    """Our client finds the endpoint and gets a token, our verifier finds the keys and accepts it: blocking calls."""
    issuer = provider_of(algorithm)
    with MachineClient(issuer, CLIENT, _key(algorithm)) as client:
        token = client.token(RESOURCE, [SCOPES[0]])
    assert token.scopes == (SCOPES[0],)
    verifier = Verifier(issuer, RESOURCE)
    caller = verifier.verify(token.value, [SCOPES[0]])
    _assert_caller(caller)
    assert caller.expires_at == pytest.approx(token.expires_at, abs=5)
    with pytest.raises(InsufficientScope):
        verifier.verify(token.value, [SCOPES[1]])


@pytest.mark.rule("CL-01", "RS-11", "RS-17")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_client_and_verifier_work_on_an_event_loop(provider_of: ProviderOf, algorithm: str) -> None:
    """The same through the async calls."""

    async def visit() -> Caller:
        issuer = provider_of(algorithm)
        with MachineClient(issuer, CLIENT, _key(algorithm)) as client:
            token = await client.atoken(RESOURCE, [SCOPES[0]])
        return await Verifier(issuer, RESOURCE).averify(token.value, [SCOPES[0]])

    _assert_caller(asyncio.run(visit()))


@pytest.mark.rule("RS-13", "R08")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_foreign_token_for_another_audience_is_refused(provider_of: ProviderOf, algorithm: str) -> None:
    """A good token of a trusted issuer is worth nothing at another API."""
    issuer = provider_of(algorithm)
    with MachineClient(issuer, CLIENT, _key(algorithm)) as client:
        token = client.token(RESOURCE, [SCOPES[0]]).value
    with pytest.raises(InvalidToken) as caught:
        Verifier(issuer, OTHER_RESOURCE).verify(token)
    assert caught.value.reason == "audience"


@pytest.mark.rule("RS-12")
def test_token_of_one_foreign_server_is_refused_by_the_verifier_of_another(provider_of: ProviderOf) -> None:
    """Although the key that proves it is at hand, iss names another issuer than the one that is trusted."""
    first, second = provider_of("ES256"), provider_of("RS256")
    with MachineClient(first, CLIENT, _key("ES256")) as client:
        token = client.token(RESOURCE, [SCOPES[0]]).value
    with pytest.raises(InvalidToken) as caught:
        Verifier(second, RESOURCE, jwks_uri=f"{first}/jwks").verify(token)
    assert caught.value.reason == "issuer"


@pytest.mark.rule("CL-03", "AS-CA-10")
def test_each_request_to_a_server_that_remembers_jti_has_a_new_one(provider_of: ProviderOf) -> None:
    """oidc-provider refuses a repeated jti, and three wishes of one client all come true."""
    with MachineClient(provider_of("ES256"), CLIENT, _key("ES256")) as client:
        granted = {client.token(RESOURCE, scopes).scopes for scopes in (SCOPES[:1], SCOPES[1:], SCOPES)}
    assert granted == {SCOPES[:1], SCOPES[1:], SCOPES}


@pytest.mark.rule("CL-17")
@pytest.mark.parametrize(
    ("owner", "resource", "code"),
    [
        pytest.param("stranger", RESOURCE, "invalid_client", id="key"),
        pytest.param(CLIENT, OTHER_RESOURCE, "invalid_target", id="resource"),
    ],
)
def test_refusal_of_a_foreign_server_reaches_the_caller(
    provider_of: ProviderOf, owner: str, resource: str, code: str
) -> None:
    """The error code of RFC 6749 5.2 comes through as the server wrote it."""
    client = MachineClient(provider_of("ES256"), CLIENT, _key("ES256", owner))
    with client, pytest.raises(TokenRequestRefused) as caught:
        client.token(resource, [SCOPES[0]])
    assert caught.value.code == code


@pytest.mark.rule("CL-11", "AS-TE-16")
def test_scope_that_a_foreign_server_drops_is_noticed(provider_of: ProviderOf) -> None:
    """oidc-provider leaves out the scopes it does not know and names the others, which is not what was asked for."""
    client = MachineClient(provider_of("ES256"), CLIENT, _key("ES256"))
    with client, pytest.raises(ScopeNarrowed) as caught:
        client.token(RESOURCE, [SCOPES[0], UNKNOWN])
    assert caught.value.missing == (UNKNOWN,)


@pytest.mark.rule("CL-20", "RS-09", "RS-22")
def test_scope_that_a_foreign_server_drops_without_a_word_is_missed_by_the_api(provider_of: ProviderOf) -> None:
    """Where it knows none of the scopes it says nothing at all: only the API, which reads the token, can tell."""
    issuer = provider_of("ES256")
    with MachineClient(issuer, CLIENT, _key("ES256")) as client:
        token = client.token(RESOURCE, [UNKNOWN])
    assert token.scopes == (UNKNOWN,)
    verifier = Verifier(issuer, RESOURCE)
    assert verifier.verify(token.value).scopes == frozenset()
    with pytest.raises(InsufficientScope):
        verifier.verify(token.value, [UNKNOWN])


@pytest.mark.rule("CL-23")
def test_pem_of_another_library_is_a_key_file(provider_of: ProviderOf, tmp_path: Path) -> None:
    """A PKCS#8 file that jwcrypto wrote works as it is; its kid is the thumbprint, so the registered one is named."""
    file = tmp_path / "billing.pem"
    file.touch(0o600)
    file.write_text(private_pem(CLIENT, "ES256"))
    kid = private_jwk(CLIENT, "ES256")["kid"]
    with MachineClient(provider_of("ES256"), CLIENT, KeyFile(file, kid=kid)) as client:
        assert client.token(RESOURCE, [SCOPES[0]]).scopes == (SCOPES[0],)
