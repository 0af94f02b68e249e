"""Commands that talk to servers of others: what is shown of their answers, and with which exit code."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groat.cli.people import visible
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.invitation import Invitations
from groat.protocol import strict_json
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.testing import FakeIssuer
from tests.client.servers import AuthorizationServer, Reply, Seen, Server

from .running import Home

NASTY = "x\x1b[2J\x1b]0;owned\x07\r\n\x00\x9b31m\u202e\u2066\x7fy"
ID = "6f1c2d"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_private_key("ES256")


@pytest.fixture
def issuer(key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthorizationServer]:
    with AuthorizationServer("billing", key.public) as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, key: PrivateKey) -> Home:
    """A client's host: a key, and no server."""
    home = Home(tmp_path)
    path = tmp_path / "billing.key.json"
    path.write_bytes(strict_json.dumps(key.private_jwk()))
    path.chmod(0o600)
    return home


@pytest.fixture
def invitation() -> str:
    """A join code of some server; only that server could tell whether it is good."""
    now = int(time.time())
    return Invitations([KeyEncryptionKey(secrets.token_bytes(32))]).make("billing", now, now + 3600)


def get(issuer: AuthorizationServer, *more: str) -> tuple[str, ...]:
    named = ("--issuer", issuer.url, "--client-id", "billing", "--key", "billing.key.json", "--scope", "orders:read")
    return ("token", "get", *named, *more)


@pytest.mark.rule("OP-12", "CL-25")
@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (503, "temporarily_unavailable", 5),
        (500, "server_error", 5),
        (429, "temporarily_unavailable", 4),
        (400, "invalid_scope", 4),
        (401, "invalid_client", 4),
        (503, None, 5),
    ],
)
def test_what_a_server_cannot_do_is_no_refusal(
    host: Home, issuer: AuthorizationServer, status: int, error: str | None, code: int
) -> None:
    """Exit code 5 for what may work later, 4 for a refusal; the code of the server and the request's id in both forms."""
    reply = Reply(status, {"error": error} if error else b"", {"X-Request-ID": ID, "Retry-After": "999"})
    issuer.script += [reply] * 2
    plain, as_json = host(*get(issuer)), host("--json", *get(issuer))
    assert (plain.code, as_json.code) == (code, code)
    assert f"[request id {ID}]" in plain.err
    document = json.loads(as_json.err)
    assert (document["error"], document["request_id"]) == (error or "unreachable", ID)


class Failing(Server):
    """Answers everything with 503."""

    def answer(self, request: Seen) -> Reply:
        return Reply(503, b"", {"X-Request-ID": ID})


@pytest.mark.rule("OP-12", "CL-25")
def test_the_request_id_of_keys_and_health(host: Home) -> None:
    """Where the keys of an issuer cannot be had, and where a server is not ready: in both forms, too."""
    with Failing() as server:
        verifying = (
            "token",
            "verify",
            FakeIssuer(server.url).token(),
            "--issuer",
            server.url,
            "--audience",
            "https://a",
        )
        plain, as_json = host(*verifying), host("--json", *verifying)
        assert (plain.code, plain.err.count(f"[request id {ID}]")) == (5, 1)
        assert json.loads(as_json.err)["request_id"] == ID
        health = host("--json", "health", f"{server.url}/readyz")
        assert (health.code, health.json["request_id"]) == (7, ID)
        assert ID in host("health", f"{server.url}/readyz").out


@pytest.mark.rule("ST-13")
@pytest.mark.parametrize("form", [(), ("-q",), ("--json",)])
def test_what_is_shown_of_a_granted_token(host: Home, issuer: AuthorizationServer, form: tuple[str, ...]) -> None:
    """Scopes that a server invents reach no terminal as control characters."""
    issuer.members["scope"] = f"orders:read {NASTY}"
    done = host(*form, *get(issuer))
    assert done.code == 0
    assert (done.out + done.err).replace("\n", "").isprintable()


@pytest.mark.rule("ST-13")
@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"error": NASTY, "error_description": NASTY}, {"X-Request-ID": "a\x1b[2J"}),
        Reply(200, {"access_token": "o", "token_type": NASTY}),
    ],
    ids=["refusal", "token type"],
)
def test_what_is_shown_of_a_refusal(
    host: Home, issuer: AuthorizationServer, reply: Reply, form: tuple[str, ...]
) -> None:
    """Error codes, descriptions and ids are spelt out."""
    issuer.script.append(reply)
    done = host(*form, *get(issuer))
    assert done.code in (4, 5)
    assert (done.out + done.err).replace("\n", "").isprintable()


@pytest.mark.rule("ST-13", "OP-12")
@pytest.mark.parametrize("form", [(), ("-q",), ("--json",)])
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(201, {"client_id": NASTY, "kid": NASTY, "note": NASTY, NASTY: 1, "expires_at": 5}), 0),
        (Reply(200, {"client_id": "billing", "kid": 7, "expires_at": NASTY}), 0),
        (Reply(400, {"error": NASTY, "error_description": NASTY}, {"X-Request-ID": ID}), 4),
        (Reply(503, {"error": "temporarily_unavailable"}, {"X-Request-ID": ID}), 5),
        (Reply(502, NASTY, {"X-Request-ID": ID}), 5),
        (Reply(400, {"error": 7, "error_description": ["\x1b[2J"]}, {"X-Request-ID": ID}), 4),
    ],
    ids=["names", "types", "refusal", "unavailable", "page", "error types"],
)
def test_what_is_shown_of_a_registration(
    host: Home, issuer: AuthorizationServer, invitation: str, reply: Reply, code: int, form: tuple[str, ...]
) -> None:
    """`groat client join` shows known facts only, printable, and which request failed."""
    issuer.scripted_path = "/client-keys"
    issuer.script.append(reply)
    done = host(*form, "client", "join", invitation, "--issuer", issuer.url, "--key", "new.key.json")
    assert (done.code, (done.out + done.err).replace("\n", "").isprintable()) == (code, True), done
    assert code == 0 or ID in done.err


@pytest.mark.rule("FO-4", "FO-19")
@pytest.mark.parametrize(
    ("variable", "value"), [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTPS_PROXY", "["), ("SSL_CERT_FILE", "/nowhere")]
)
def test_a_variable_that_stands_in_the_way(
    host: Home, invitation: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Both commands name it with exit code 3, and no key of a client that was never registered stays behind."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    host.env[variable] = value
    issuer = ("--issuer", "https://auth.example.com")
    for command in (
        ("token", "get", *issuer, "--client-id", "billing", "--key", "billing.key.json"),
        ("client", "join", invitation, *issuer, "--key", "new.key.json"),
    ):
        done = host(*command)
        assert done.code == 3
        assert variable in done.err
        assert "bug" not in done.err
    assert not (host.directory / "new.key.json").exists()


@pytest.mark.rule("FO-3")
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_is_asked_directly(host: Home, issuer: AuthorizationServer, variable: str) -> None:
    """A proxy of the environment sees nothing of `groat token get` on this machine."""
    host.env[variable] = "http://127.0.0.1:9"
    assert host(*get(issuer)).code == 0


@pytest.mark.rule("ST-13")
def test_visible_text() -> None:
    """Letters of all languages stay, all that would steer a terminal is spelt out."""
    assert visible("Grütze für 東京") == "Grütze für 東京"
    assert visible("a\x1b[2J\n\u202e\x9b\u2028") == r"a\x1b[2J\n\u202e\x9b\u2028"


@pytest.mark.rule("OP-6", "OPS-03")
@pytest.mark.parametrize(("token", "code"), [("garbage", 6), ("eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AAAA", 5)])
def test_a_verdict_is_told_once(host: Home, token: str, code: int) -> None:
    """`groat token verify` has one line for its reader, or one JSON document, and no log beside it."""
    command = ("token", "verify", token, "--audience", "https://o.example", "--issuer", "http://127.0.0.1:1")
    plain, as_json = host.script(*command), host.script("--json", *command)
    assert (plain.code, as_json.code) == (code, code)
    assert plain.err.count("\n") == 1
    assert json.loads(as_json.err)["message"] in plain.err
