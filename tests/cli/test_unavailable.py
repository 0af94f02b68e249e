"""A server that cannot answer now is out of reach, not refusing: exit code 5, whatever code it gives (OP-12)."""

import json
from collections.abc import Iterator

import pytest

from groat.keys import files
from tests.client.servers import AuthorizationServer, Reply

from .running import Home


class Ailing(AuthorizationServer):
    """Answers every token request and registration with one status."""

    status = 503
    code = "temporarily_unavailable"

    def answer(self, request: object) -> Reply:
        if getattr(request, "method", "") == "GET":
            return super().answer(request)  # type: ignore[arg-type]
        return Reply(self.status, {"error": self.code}, {"X-Request-ID": "r-1"})


@pytest.fixture
def ailing(home: Home) -> Iterator[Ailing]:
    key = files.read_private_key(home.directory / "billing.key.json")
    with Ailing("billing", key.public) as server:
        yield server


@pytest.mark.rule("OP-12")
@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (503, "temporarily_unavailable", 5),
        (500, "server_error", 5),
        (502, "invalid_request", 5),
        (400, "temporarily_unavailable", 4),
        (429, "temporarily_unavailable", 4),
        (401, "invalid_client", 4),
    ],
)
def test_the_status_decides(home: Home, ailing: Ailing, status: int, code: str, wanted: int) -> None:
    """5 says: try again later; 4 says: something must change first."""
    ailing.status, ailing.code = status, code
    words = ("token", "get", "--client-id", "billing", "--key", "billing.key.json", "--issuer", ailing.url)
    done = home("--json", *words)
    assert (done.code, done.out, json.loads(done.err)["error"]) == (wanted, "", code)
    plain = home(*words)
    assert (plain.code, code in plain.err, "refused" in plain.err) == (wanted, True, wanted == 4)


@pytest.mark.rule("OP-12")
def test_a_registration_too(home: Home, ailing: Ailing) -> None:
    """`groat client key rotate` at a server that cannot answer."""
    words = ("--issuer", ailing.url, "--key", "billing.key.json", "--new-key", "next.json")
    assert home("client", "key", "rotate", "billing", *words).code == 5
