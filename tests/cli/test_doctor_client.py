"""`groat doctor client`: what a caller's operator sees of a key, a server, a token and an API."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from groat.protocol import strict_json
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.resource_metadata import resource_metadata
from tests.client.servers import METADATA_PATH, AuthorizationServer, Reply, Seen
from tests.client.test_api_metadata import DescribedApi
from tests.ports import free_port

from .running import Home


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_private_key("ES256")


class Dated(AuthorizationServer):
    """A server with a clock of its own."""

    ahead = 0.0

    def answer(self, request: Seen) -> Reply:
        reply = super().answer(request)
        headers = {**reply.headers, "Date": formatdate(time.time() + self.ahead, usegmt=True)}
        return Reply(reply.status, reply.body, headers if request.path == METADATA_PATH else reply.headers)


@pytest.fixture
def issuer(key: PrivateKey) -> Iterator[Dated]:
    with Dated("billing", key.public) as server:
        yield server


@pytest.fixture
def api(issuer: Dated) -> Iterator[DescribedApi]:
    with DescribedApi() as server:
        server.document = resource_metadata(server.url, [issuer.url], ["orders:read"])
        yield server


@pytest.fixture
def host(tmp_path: Path, key: PrivateKey) -> Home:
    home = Home(tmp_path)
    path = tmp_path / "billing.key.json"
    path.write_bytes(strict_json.dumps(key.private_jwk()))
    path.chmod(0o600)
    return home


def examined(host: Home, issuer: str, *more: str) -> tuple[int, dict[str, str]]:
    """Exit code, and the outcome of each check."""
    words = ("doctor", "client", "--client-id", "billing", "--key", "billing.key.json", "--issuer", issuer)
    done = host("--json", *words, *more)
    return done.code, {row["check"]: f"{row['outcome']}: {row['detail']}" for row in done.json}


@pytest.mark.rule("CL-33", "CL-25")
def test_a_healthy_client(host: Home, issuer: Dated, api: DescribedApi) -> None:
    """All four; the token is a real one and does not show."""
    code, found = examined(host, issuer.url, "--resource", api.url, "--scope", "orders:read")
    assert (code, [row.partition(":")[0] for row in found.values()]) == (0, ["ok"] * 4)
    assert "trusts this issuer" in found["api"]
    assert len(issuer.issued) == 1
    assert not any(token in row for token in issuer.issued for row in found.values())
    plain = host("doctor", "client", "--client-id", "billing", "--key", "billing.key.json", "--issuer", issuer.url)
    assert [line.split()[0] for line in plain.out.splitlines()] == ["ok", "ok", "ok", "unknown"]


@pytest.mark.rule("CL-33", "RS-MD-05", "CL-24")
def test_what_is_wrong(host: Home, issuer: Dated, api: DescribedApi) -> None:
    """Another issuer at the API, a scope that it does not know, a refusal, a clock; one does not hide the others."""
    api.document = resource_metadata(api.url, ["https://auth.example.com"])
    issuer.ahead = 40.0
    issuer.script.append(Reply(400, {"error": "invalid_scope"}, {"X-Request-ID": "r-9"}))
    code, found = examined(host, issuer.url, "--resource", api.url, "--scope", "orders:write")
    assert code == 7
    assert "differ by 40 s" in found["server"].replace("39 s", "40 s")
    assert "invalid_scope" in found["token"]
    assert "[request id r-9]" in found["token"]
    assert f"trusts https://auth.example.com, this client is of {issuer.url}" in found["api"]
    api.document = resource_metadata(api.url, [issuer.url], ["orders:read"])
    _, found = examined(host, issuer.url, "--resource", api.url, "--scope", "orders:write")
    assert found["api"] == "failed: does not know orders:write; it has orders:read"


@pytest.mark.rule("CL-33")
def test_what_nobody_can_tell(host: Home, issuer: Dated) -> None:
    """An API without metadata, or out of reach, is no failure of the client."""
    code, found = examined(host, issuer.url, "--resource", f"http://127.0.0.1:{free_port()}")
    assert (code, found["api"].partition(":")[0]) == (0, "unknown")


@pytest.mark.rule("CL-25")
def test_nobody_answers_and_no_key(host: Home) -> None:
    """Exit code 5 with what was found so far; a key that cannot be read is wrong input."""
    code, found = examined(host, f"http://127.0.0.1:{free_port()}")
    assert (code, list(found)) == (5, ["key", "server"])
    done = host("doctor", "client", "--client-id", "a", "--key", "nowhere.json", "--issuer", "http://127.0.0.1:9")
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert host("doctor", "client", "--client-id", "a", "--key", "billing.key.json", "--issuer", "ftp://x").code == 3
