"""Our client with proofs of possession (DPoP), abroad: at an API that other people's libraries guard, and at their server."""

import base64
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey

from groat.client import MachineClient, TokenRequestRefused
from groat.keys.files import parse_private_key
from groat.protocol.client_certificate import certificate_thumbprint
from groat.protocol.jwk import PrivateKey, generate_private_key, private_key
from groat.verifier import Confirmation, VerificationError, Verifier
from groat.verifier.keys import fetch
from tests.certificates import Issued, Wish, issued, self_signed

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


@dataclass(frozen=True)
class Certified:
    """An oidc-provider on https that asks for certificates, and a client of it for each method."""

    issuer: str
    files: Mapping[str, tuple[Path, Path]]
    thumbprints: Mapping[str, str]


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, node_peers: None) -> Iterator[Certified]:
    """By an assertion, by an authority and a name, and by the certificate itself; tokens are bound in any case."""
    folder = tmp_path_factory.mktemp("certified-provider")
    root, both = self_signed(folder)
    authority = issued(Wish("CN=authority", authority=True))
    (folder / "callers.pem").write_bytes(authority.pem)
    made = {
        "private_key_jwt": issued(Wish("CN=asserting"), authority),
        "tls_client_auth": issued(Wish(names=[x509.DNSName("billing.example")]), authority),
        "self_signed_tls_client_auth": issued(Wish("CN=itself")),
    }
    files = {name: one.write(folder, name) for name, one in made.items()}
    for _, key in files.values():
        key.chmod(0o600)
    common = {"alg": "ES256", "scopes": list(SCOPES)}
    clients = [{**common, "client_id": name, "method": name, "jwks": {"keys": keys}} for name, keys in (
        ("private_key_jwt", public_jwks(CLIENT, ["ES256"])), ("tls_client_auth", []), ("self_signed_tls_client_auth", [_jwk_of(made["self_signed_tls_client_auth"])]),
    )]  # fmt: skip
    clients[1] = {**clients[1], "dns": "billing.example"}
    config = {
        "clients": clients, "resource": RESOURCE, "scopes": list(SCOPES), "alg": "ES256", "lifetime": 600,
        "signing_jwk": private_jwk(PROVIDER, "ES256"),
        "tls": {"pem": str(both), "callers": str(folder / "callers.pem")},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, oidc_provider(folder / "config.json", config) as issuer:
        patch.setenv("SSL_CERT_FILE", str(root))
        fetch._tls.cache_clear()  # a process reads the variable once, and this one may have
        yield Certified(issuer, files, {name: certificate_thumbprint(one.der) for name, one in made.items()})
    fetch._tls.cache_clear()


def _jwk_of(one: Issued) -> dict[str, Any]:
    """A certificate as it stands in a JWKS (RFC 8705 2.2.2)."""
    spki = one.certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {**ECKey.import_key(spki).as_dict(), "kid": "itself", "x5c": [base64.b64encode(one.der).decode()]}


@pytest.mark.rule("CL-29", "RS-MT-01", "AT-13")
@pytest.mark.parametrize("method", ["private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"])
def test_a_foreign_server_knows_our_certificates(certified: Certified, method: str) -> None:
    """By each method; its token says our certificate, and our verifier takes it over such a connection alone."""
    key = _key() if method == "private_key_jwt" else None
    with MachineClient(certified.issuer, method, key, certificate=certified.files[method]) as machine:
        token = machine.token(RESOURCE, [SCOPES[0]])
    assert token.type == "Bearer"
    verifier, said = Verifier(certified.issuer, RESOURCE), [f"Bearer {token.value}"]
    caller = verifier.verify_request(said, certificate=certified.files[method][0].read_text())
    assert (caller.client_id, caller.confirmation) == (method, Confirmation(x5t_s256=certified.thumbprints[method]))
    for shown in (None, _another(certified, method)):
        with pytest.raises(VerificationError):
            verifier.verify_request(said, certificate=shown)


def _another(certified: Certified, method: str) -> str:
    return next(files[0].read_text() for name, files in certified.files.items() if name != method)


@pytest.mark.rule("CL-29", "CL-17")
def test_a_foreign_server_refuses_other_certificates(certified: Certified) -> None:
    """The acceptance above rests on the certificate: another client's is invalid_client."""
    files = certified.files["private_key_jwt"]
    for method in ("tls_client_auth", "self_signed_tls_client_auth"):
        with MachineClient(certified.issuer, method, certificate=files) as machine:
            with pytest.raises(TokenRequestRefused, match="invalid_client"):
                machine.token(RESOURCE, [SCOPES[0]])
