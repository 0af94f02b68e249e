"""Our client with proofs of possession (DPoP), abroad: at an API that other people's libraries guard, and at their server."""

import secrets
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from groat.client import MachineClient
from groat.keys.files import parse_private_key
from groat.protocol.jwk import PrivateKey, generate_private_key, private_key
from groat.verifier import VerificationError, Verifier

from .bound import ALGORITHMS
from .conftest import CLIENT
from .foreign_keys import key_pair, private_jwk, private_pem, public_jwks
from .processes import RESOURCE, SCOPES, GroatServer, node_server, oidc_provider

pytestmark = pytest.mark.usefixtures("node_peers")


def _key() -> PrivateKey:
    key = parse_private_key(private_pem(CLIENT, "ES256").encode(), "a PEM of another library")
    return private_key(key.key, key.algorithm, str(key_pair(CLIENT, "ES256")["kid"]))


@pytest.fixture(scope="module")
def api(server: GroatServer, tmp_path_factory: pytest.TempPathFactory, node_peers: None) -> Iterator[str]:
    """The origin of an API in Node that trusts our server."""
    log = tmp_path_factory.mktemp("bound-api") / "log"
    with node_server("bound_api.mjs", server.issuer, log) as origin:
        server.run("api", "add", "abroad", "--audience", origin, "--scope", SCOPES[0])
        server.run("client", "update", CLIENT, "--allow", f"abroad={SCOPES[0]}")
        yield origin


def verdicts(answer: httpx2.Response) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.rule("AS-DP-09", "CL-26")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_our_tokens_and_proofs_convince_other_people(server: GroatServer, api: str, algorithm: str) -> None:
    """The bound token and the proofs of each algorithm, by oauth4webapi as a whole and by jose step by step."""
    with MachineClient(server.issuer, CLIENT, _key(), dpop=generate_private_key(algorithm)) as machine:
        with httpx2.Client(auth=machine.auth(resource=api, scopes=[SCOPES[0]])) as http:
            for method, path in (("GET", "/orders?day=1"), ("POST", "/orders/%7Ea"), ("GET", "/")):
                answer = http.request(method, api + path)
                assert verdicts(answer) == {"oauth4webapi": {"client": CLIENT}, "jose": {"client": CLIENT}}


@pytest.mark.rule("AS-DP-09", "CL-26")
def test_other_people_refuse_what_was_stolen(server: GroatServer, api: str) -> None:
    """The acceptance above rests on the proof: none, one for another request, and the scheme Bearer."""
    with MachineClient(server.issuer, CLIENT, _key(), dpop=True) as machine:
        with httpx2.Client(auth=machine.auth(resource=api, scopes=[SCOPES[0]])) as http:
            sent = http.get(f"{api}/orders").request.headers
    token, proof = sent["authorization"], sent["dpop"]
    for path, headers in (
        ("/orders", {"authorization": token}),
        ("/other", {"authorization": token, "dpop": proof}),
        ("/orders", {"authorization": token.replace("DPoP", "Bearer")}),
        ("/orders", {"authorization": token.replace("DPoP", "Bearer"), "dpop": proof}),
    ):
        answer = httpx2.get(api + path, headers=headers)
        assert answer.status_code == 401
        assert all("refused" in verdict for verdict in verdicts(answer).values()), answer.text


PROVIDER: Final = "provider"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, node_peers: None) -> Iterator[str]:
    """The issuer of an oidc-provider that binds tokens, and demands a nonce in every proof."""
    client = {"client_id": CLIENT, "jwks": {"keys": public_jwks(CLIENT, ["ES256"])}, "alg": "ES256"}
    config = {
        "clients": [{**client, "scopes": list(SCOPES)}],
        "resource": RESOURCE,
        "scopes": list(SCOPES),
        "signing_jwk": private_jwk(PROVIDER, "ES256"),
        "alg": "ES256",
        "lifetime": 600,
        "nonces": secrets.token_urlsafe(32),
    }
    with oidc_provider(tmp_path_factory.mktemp("bound-provider") / "config.json", config) as issuer:
        yield issuer


@pytest.mark.rule("CL-26", "CL-27", "RS-DP-01", "RS-DP-04")
@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
def test_a_foreign_server_binds_our_tokens(provider: str, algorithm: str) -> None:
    """Its nonce is heard, its token says our key, and our verifier takes it with a proof and not without."""
    verifier = Verifier(provider, RESOURCE)
    with MachineClient(provider, CLIENT, _key(), dpop=generate_private_key(algorithm)) as machine:
        first = machine.token(RESOURCE, [SCOPES[0]])
        machine.token(RESOURCE, SCOPES)  # with the nonce that is known by now
        assert first.type == "DPoP"
        bearer = machine.bearer(RESOURCE, [SCOPES[0]])
        sent = bearer.headers(first, "GET", f"{RESOURCE}/orders")
    shown: Any = {"method": "GET", "url": "/orders"}
    with pytest.raises(VerificationError) as refused:
        verifier.verify_request([sent["Authorization"]], **shown)
    assert refused.value.reason == "dpop_missing"
    caller = verifier.verify_request([sent["Authorization"]], dpop=[sent["DPoP"]], **shown)
    assert caller.client_id == CLIENT
    assert caller.confirmation is not None
    with pytest.raises(VerificationError):
        verifier.verify(first.value)
