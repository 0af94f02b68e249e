"""Who gets in: the peer of the socket by the kernel's word, or the holder of a token of this very server."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from groat.protocol.jwk import generate_private_key
from groat.server import operations
from groat.server.operations.admin import ADMIN_API
from tests.admin_api.conftest import AUDIENCE, Admin, served
from tests.missing import Missing, needs
from tests.proofs import proof
from tests.server.builders import ISS, NOW, Party

APIS = "/admin/v1/apis"
STRANGER = 54321


def test_the_peer_of_the_socket_may_do_everything(admin: Admin) -> None:
    """Without a token: the file is for the server's own user, and so is the kernel's word."""
    assert admin.over_socket("GET", APIS).status == 200
    new = {"name": "by-socket", "audience": "https://by-socket.example", "scopes": ["x"]}
    assert admin.over_socket("POST", APIS, new).status == 201


def test_over_tcp_nobody_gets_in_without_a_token(admin: Admin) -> None:
    """401 with a challenge, and nothing about what there is; a path that is not there reads the same."""
    for path in (APIS, "/admin/v1/clients/billing", "/admin/v1/nowhere", "/admin/v1"):
        answer = admin.over_tcp("GET", path)
        assert (answer.status, answer.json["reason"]) == (401, "admin_credentials"), path
        assert (answer.header("www-authenticate") or "").startswith('Bearer realm="groat-admin"')
        assert answer.header("content-type") == "application/problem+json"
        assert "detail" not in answer.json


def test_a_token_reads_or_writes_as_its_scope_says(admin: Admin) -> None:
    """403 names the scope that is missing; who may write may read."""
    reading, writing = admin.token("groat:read"), admin.token("groat:write")
    new = {"name": "by-token", "audience": "https://by-token.example"}
    assert admin.by_token(reading, "GET", APIS).status == 200
    refused = admin.by_token(reading, "POST", APIS, new)
    assert (refused.status, refused.json["reason"]) == (403, "admin_scope")
    assert 'error="insufficient_scope", scope="groat:write"' in (refused.header("www-authenticate") or "")
    assert "groat:write" in refused.json["detail"]
    assert admin.by_token(writing, "GET", APIS).status == 200
    assert admin.by_token(writing, "POST", APIS, new).status == 201


@pytest.mark.parametrize(
    "kind", ["other audience", "assertion", "expired", "garbage", "other issuer's key", "in the URL"]
)
def test_other_tokens_are_refused(admin: Admin, kind: str) -> None:
    """Whatever else this server signs or its clients sign opens nothing here."""
    path = APIS
    tokens: dict[str, Callable[[], str]] = {
        "other audience": lambda: admin.lab.token(scope="orders:read"),
        "assertion": lambda: admin.operator.assertion(aud=AUDIENCE),
        "expired": lambda: admin.token(),
        "garbage": lambda: "eyJ.x.y",
        "other issuer's key": lambda: admin.operator.assertion(iss=ISS, aud=AUDIENCE, scope="groat:read"),
        "in the URL": lambda: admin.token(),
    }
    token = tokens[kind]()
    with admin.lab.clock.at(NOW + 601 if kind == "expired" else NOW):
        if kind == "in the URL":
            answer = admin.over_tcp("GET", f"{path}?access_token={token}")
        else:
            answer = admin.by_token(token, "GET", path)
    assert answer.status == 401, answer.body
    assert answer.json["reason"] == ("admin_credentials" if kind == "in the URL" else "admin_token")
    assert "detail" not in answer.json


def test_a_bad_token_is_refused_at_the_socket_too(admin: Admin) -> None:
    """Who shows a token is judged by that alone."""
    assert admin.over_socket("GET", APIS, authorization="Bearer eyJ.x.y").status == 401
    assert admin.over_socket("GET", APIS, authorization=f"Bearer {admin.token()}").status == 200


def test_a_client_that_was_disabled_is_out_at_once(admin: Admin) -> None:
    """Its token would live for ten minutes more; so would one whose scope was taken away."""
    party = Party("leaving", generate_private_key("ES256"))
    admin.lab.add_client("leaving", party.key, allow={ADMIN_API: ["groat:read", "groat:write"]})
    token = admin.token("groat:read groat:write", party)
    assert admin.by_token(token, "GET", APIS).status == 200
    admin.lab.operate(lambda op: operations.update_client(op, "leaving", {ADMIN_API: ["groat:read"]}))
    assert admin.by_token(token, "POST", APIS, {}).status == 403
    assert admin.by_token(token, "GET", APIS).status == 200
    admin.lab.operate(lambda op: operations.enable_client(op, "leaving", enabled=False))
    assert admin.by_token(token, "GET", APIS).status == 401


@pytest.mark.rule("AS-RV-04")
@pytest.mark.parametrize("path", ["revocations/token", "clients/robbed/revoke", f"apis/{ADMIN_API}/revoke"])
def test_a_token_that_was_taken_back_opens_nothing(tmp_path: Path, path: str) -> None:
    """Nor one from before a cut; what is issued after it does. Whoever stole it is out with the answer."""
    with served(tmp_path) as admin:
        party = Party("robbed", generate_private_key("ES256"))
        admin.lab.add_client("robbed", party.key, allow={ADMIN_API: ["groat:read"]})
        token = admin.token(party=party)
        assert admin.by_token(token, "GET", APIS).status == 200
        body = {"token": token} if path == "revocations/token" else None
        assert admin.over_socket("POST", f"/admin/v1/{path}", body).status == 200
        refused = admin.by_token(token, "GET", APIS)
        assert (refused.status, refused.json["reason"]) == (401, "admin_token")
        assert admin.by_token(admin.token(party=party), "GET", APIS).status == 200


def test_a_bound_token_needs_its_proof(admin: Admin) -> None:
    """A proof for this listener and this request, once; a bearer token is not taken as a bound one."""
    key, now = generate_private_key("ES256"), admin.lab.clock.now
    answer = admin.lab.post(
        b"&".join(
            f"{name}={value}".encode()
            for name, value in {
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": admin.operator.assertion(),
                "resource": AUDIENCE.replace(":", "%3A").replace("/", "%2F"),
                "scope": "groat%3Aread",
            }.items()
        ),
        "application/x-www-form-urlencoded",
        ("DPoP", proof(f"{ISS}/token", now, key)),
    )
    assert answer.json["token_type"] == "DPoP"
    token = answer.json["access_token"]
    url = f"http://127.0.0.1:{admin.port}{APIS}"
    good = proof(url, now, key, "GET", ath=_hash(token))
    assert admin.by_token(token, "GET", APIS).status == 401
    assert admin.over_tcp("GET", APIS, authorization=f"DPoP {token}").status == 401
    assert admin.over_tcp("GET", APIS, authorization=f"DPoP {token}", dpop=good).status == 200
    assert admin.over_tcp("GET", APIS, authorization=f"DPoP {token}", dpop=good).status == 401
    elsewhere = proof(f"https://orders.example{APIS}", now, key, "GET", ath=_hash(token))
    assert admin.over_tcp("GET", APIS, authorization=f"DPoP {token}", dpop=elsewhere).status == 401
    assert admin.over_tcp("GET", APIS, authorization=f"DPoP {admin.token()}", dpop=good).status == 401


def _hash(token: str) -> str:
    import hashlib

    from groat.protocol.jwk import base64url_encode

    return base64url_encode(hashlib.sha256(token.encode()).digest()).decode()


def test_a_web_page_cannot_lead_a_browser_here(admin: Admin) -> None:
    """DNS rebinding: a name that is not the listener's own is refused before the token is looked at."""
    answer = admin.by_token(admin.token(), "GET", APIS, host="evil.example")
    assert (answer.status, answer.json["reason"]) == (400, "admin_host")


def test_failures_are_throttled_and_good_tokens_pass(tmp_path: Path) -> None:
    """A source in doubt is told to wait; who holds a good token gets through beside it."""
    with served(tmp_path) as admin:
        statuses = [admin.by_token("eyJ.x.y", "GET", APIS).status for _ in range(320)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert admin.over_socket("GET", APIS).status == 200


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may go through."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


_ASK = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(b"GET /admin/v1/apis HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
    print(connection.recv(65536).split()[1].decode())
"""


@needs(Missing.ROOT, there=os.geteuid() == 0)
@pytest.mark.parametrize(("more", "user", "found"), [
    (f"socket_users = [{STRANGER}]", STRANGER, "200"),
    (f"socket_users = [{STRANGER}]", STRANGER + 1, "403"),
    (f"socket_users = [{STRANGER}]", 0, "200"),
    ("", STRANGER, "PermissionError"),
])  # fmt: skip
def test_other_users_are_operators_only_by_the_setting(open_folder: Path, more: str, user: int, found: str) -> None:
    """The kernel says who connected; without the setting the file keeps them out."""
    with served(open_folder, more) as admin:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _ASK, str(admin.socket), str(user)], capture_output=True, text=True, timeout=30
        )
        assert found in (done.stdout or done.stderr)


def test_the_numbers_stay_open(admin: Admin) -> None:
    """/metrics authenticates nobody, as before."""
    assert admin.over_tcp("GET", "/metrics").status == 200
    with socket.create_connection(("127.0.0.1", admin.port)) as connection:
        assert connection.getpeername()[1] == admin.port
