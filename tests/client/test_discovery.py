"""Metadata: only the issuer's own counts, read once, and before anything is signed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from groat.client import MachineClient, MetadataInvalid, ServerUnreachable, TokenResponseInvalid
from groat.client.discovery import MetadataDirectory
from groat.client.wire import Transport
from groat.outbound.clocks import Clocks
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey

from .clocks import Clock, eventually
from .conftest import CLIENT_ID, MakeMachine
from .servers import METADATA_PATH, AuthorizationServer, Body, Reply, Seen

OPENID_PATH = "/.well-known/openid-configuration"


@pytest.mark.rule("CL-01", "C01")
def test_other_issuer_gets_nothing(make: MakeMachine, issuer: AuthorizationServer, key: PrivateKey) -> None:
    """A server that claims to be another issuer, or copies its endpoints, is refused before anything is signed."""
    with AuthorizationServer(CLIENT_ID, key.public) as evil:
        evil.metadata = issuer.metadata
        signer = Tattling(key)
        with pytest.raises(MetadataInvalid, match=f"another issuer.*{issuer.url}"):
            make(issuer=evil.url, key=signer).token()
        assert evil.token_requests == issuer.token_requests == []
        assert signer.signed == 0


class Tattling:
    """A signer that tells how often it was asked."""

    algorithm = "ES256"

    def __init__(self, key: PrivateKey) -> None:
        self.kid = key.kid
        self.signed = 0

    def sign(self, data: bytes, /) -> bytes:
        self.signed += 1
        return b"\0" * 64


@pytest.mark.rule("CL-01", "C01")
@pytest.mark.parametrize(
    "change",
    [
        {"issuer": ...},
        {"issuer": None},
        {"issuer": ["{url}"]},
        {"issuer": "{url}/"},
        {"issuer": "HTTP{url}"},
        {"token_endpoint": ...},
        {"token_endpoint": 7},
        {"token_endpoint": "http://as.example/token"},
        {"token_endpoint": "http://127.0.0.1.evil.example/token"},
        {"token_endpoint": "/token"},
        {"token_endpoint": "https://[::1/token"},
        {"token_endpoint": "https://user:pass@as.example/token"},
        {"token_endpoint_auth_signing_alg_values_supported": "ES256"},
        {"token_endpoint_auth_methods_supported": [1]},
    ],
    ids=str,
)
def test_unusable_document(machine: MachineClient, issuer: AuthorizationServer, change: dict[str, Any]) -> None:
    """Every document that is not exactly this issuer's, or is of the wrong shape, is refused; nothing is sent."""
    assert isinstance(issuer.metadata, dict)
    filled = {name: value.format(url=issuer.url) if isinstance(value, str) else value for name, value in change.items()}
    document = {**issuer.metadata, **filled}
    issuer.metadata = {name: value for name, value in document.items() if value is not ...}
    with pytest.raises(MetadataInvalid):
        machine.token()
    assert issuer.token_requests == []


@pytest.mark.rule("CL-01")
def test_trailing_slash_hint(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """The commonest mistake is named."""
    issuer.metadata = {"issuer": f"{issuer.url}/", "token_endpoint": f"{issuer.url}/token"}
    with pytest.raises(MetadataInvalid, match="trailing slash only"):
        machine.token()


class OpenIdOnly(AuthorizationServer):
    """Serves metadata at the OpenID place only; `first` is what stands at the RFC 8414 place."""

    first = Reply(404)

    def answer(self, request: Seen) -> Reply:
        if request.path == METADATA_PATH:
            return self.first
        if request.path == OPENID_PATH:
            return Reply(200, self.metadata)
        return super().answer(request)


@pytest.mark.rule("CL-01")
@pytest.mark.parametrize(
    "first", [Reply(404), Reply(200, "<html>"), Reply(200, []), Reply(302, headers={"Location": "/"})]
)
def test_second_place(make: MakeMachine, key: PrivateKey, first: Reply) -> None:
    """Where the RFC 8414 place holds no document, the OpenID place is asked."""
    with OpenIdOnly(CLIENT_ID, key.public) as server:
        server.first = first
        assert make(issuer=server.url).token().value in server.issued


@pytest.mark.rule("CL-01")
def test_no_document_anywhere(make: MakeMachine, key: PrivateKey) -> None:
    """Without a document the error says what to do."""
    with OpenIdOnly(CLIENT_ID, key.public) as server:
        server.metadata = "<html>sign in</html>"
        with pytest.raises(MetadataInvalid, match=r"status 404, 200.*token_endpoint="):
            make(issuer=server.url).token()
        assert server.token_requests == []


@pytest.mark.rule("CL-01", "C07")
def test_huge_document(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """A document over 64 KiB is not read to the end."""
    issuer.metadata = {"issuer": issuer.url, "filler": "x" * 70_000}
    with pytest.raises(TokenResponseInvalid, match="longer than 65536"):
        machine.token()


@pytest.mark.rule("CL-01", "C07")
@pytest.mark.parametrize(
    "body",
    [
        '{"issuer": "%s", "issuer": "%s", "token_endpoint": "%s/token"}',
        '{"issuer": "%s", "token_endpoint": "%s/token", "x": NaN, "y": "%s"}',
    ],
)
def test_ambiguous_json(machine: MachineClient, issuer: AuthorizationServer, body: str) -> None:
    """A document that two readers may read differently is none."""
    issuer.metadata = body % (issuer.url, issuer.url, issuer.url)
    with pytest.raises(MetadataInvalid, match="serves no metadata"):
        machine.token()


@pytest.mark.rule("CL-01")
def test_static_endpoint(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """An explicit token endpoint is used without metadata; the audience is still the issuer."""
    make(issuer="https://as.example", token_endpoint=f"{issuer.url}/token").token()
    assert [request.path for request in issuer.seen] == ["/token"]
    assert issuer.claims[0]["aud"] == "https://as.example"


@pytest.mark.rule("CL-01", "CL-02")
@pytest.mark.parametrize("url", ["http://as.example/token", "ftp://as.example", "/token", "https://[::1/token", ""])
def test_bad_static_endpoint(url: str, key: PrivateKey) -> None:
    """An explicit endpoint must be https, or http on loopback."""
    with pytest.raises(ConfigError):
        MachineClient("https://as.example", CLIENT_ID, key, token_endpoint=url)


@pytest.mark.rule("CL-01")
def test_read_once(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """The document is kept for an hour and then read again."""
    for scope in "abc":
        machine.token(scopes=scope)
    clock.advance(3599)
    machine.token(scopes="d")
    assert len(issuer.seen_at(METADATA_PATH)) == 1
    clock.advance(1)
    machine.token(scopes="e")
    assert len(issuer.seen_at(METADATA_PATH)) == 2


@pytest.mark.rule("CL-01")
def test_old_document_while_unreachable(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """When the re-read gets no answer, the old document serves on; a wrong answer is an error."""
    machine.token(scopes="a")
    good: Body = issuer.metadata
    clock.advance(3600)
    issuer.scripted_path = METADATA_PATH
    issuer.script.append(Reply(503))
    machine.token(scopes="b")
    clock.advance(61)
    issuer.metadata = {"issuer": "https://evil.example", "token_endpoint": f"{issuer.url}/token"}
    with pytest.raises(MetadataInvalid):
        machine.token(scopes="c")
    issuer.metadata = good
    assert machine.token(scopes="c").value


@pytest.mark.rule("CL-18")
def test_transient_failure_is_retried(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A 503 for the metadata is waited out like one of the token endpoint."""
    issuer.scripted_path = METADATA_PATH
    issuer.script.append(Reply(503, headers={"Retry-After": "3"}))
    machine.token()
    assert clock.sleeps == [3.0]
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-14")
def test_one_read_for_all(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """Twenty wishes on a cold start share one read of the metadata."""
    client = make()
    threads = [threading.Thread(target=client.token, kwargs={"scopes": f"s{n}"}) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(issuer.seen_at(METADATA_PATH)) == 1
    assert len(issuer.token_requests) == 20


@pytest.mark.rule("CL-14", "CL-18")
def test_waiting_for_anothers_read(issuer: AuthorizationServer) -> None:
    """Who waits for a read that another began waits until the own deadline, not the other's."""
    issuer.scripted_path = METADATA_PATH
    issuer.script.append(Reply(200, issuer.metadata, drip=0.02))
    clocks = Clocks(random=lambda: 0.0)
    transport = Transport(timeout=30)
    directory = MetadataDirectory(issuer.url, transport, clocks)
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(directory.endpoint, time.monotonic() + 20)
        eventually(lambda: len(issuer.seen) == 1)
        with pytest.raises(ServerUnreachable, match="no metadata before the deadline"):
            directory.endpoint(time.monotonic() + 0.1)
        assert leader.result(20).url == f"{issuer.url}/token"
    transport.close()


@pytest.mark.rule("CL-01")
def test_failed_read_reaches_the_caller(make: MakeMachine, issuer: AuthorizationServer, clock: Clock) -> None:
    """When all attempts fail, the error says where and with which status."""
    issuer.scripted_path = METADATA_PATH
    issuer.script += [Reply(502)] * 4
    with pytest.raises(ServerUnreachable, match="status 502") as failed:
        make(**clock.options).token()
    assert failed.value.status == 502
    assert issuer.token_requests == []
