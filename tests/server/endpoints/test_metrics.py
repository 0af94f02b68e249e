"""The admin listener and its numbers, on real servers: one worker and several."""

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from groat.keys.files import read_private_key
from groat.protocol.errors import ConfigError
from groat.server.chores.admin_listener import MAX_ADMIN_CONNECTIONS
from groat.server.endpoints.exposition import Metrics
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.settings.admin_address import AdminAddress
from tests.ports import free_port
from tests.server.builders import Party, base
from tests.server.wire import Connection, check_ok, post, raw, send

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """An installation with one API and the client `billing`."""
    made = make_groat("m")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    made.run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", "k.json")
    return made


@pytest.fixture
def party(groat: "Groat") -> Party:
    return Party("billing", read_private_key(groat.directory / "k.json"), time.time())


@pytest.fixture(params=[1, 3], ids=["one worker", "three workers"])
def running(request: pytest.FixtureRequest, groat: "Groat") -> "Iterator[tuple[Server, int]]":
    """A server, and the port of its admin listener."""
    port = free_port()
    server = groat.serve(request.param, env={"GROAT_ADMIN__LISTEN": f"127.0.0.1:{port}"})
    yield server, port
    server.stop()


def scrape(port: int, seconds: float = 5.0) -> Numbers:
    """All samples by name and labels; waits for a listener that is still to take over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = send(("127.0.0.1", port), "GET", "/metrics")
            break
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.body.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def total(numbers: Numbers, name: str, **labels: str) -> float:
    return sum(
        value for (found, has), value in numbers.items() if found == name and labels.items() <= dict(has).items()
    )


def settled(port: int, name: str, value: float, **labels: str) -> Numbers:
    """The numbers once this one has arrived: each worker hands over once a second."""
    deadline = time.monotonic() + 30
    while total(numbers := scrape(port), name, **labels) != value:
        assert time.monotonic() < deadline, numbers
        time.sleep(0.1)
    return numbers


def test_every_token_and_refusal_is_counted_once(running: "tuple[Server, int]", party: Party) -> None:
    """Whichever worker served, and whichever is asked."""
    server, port = running
    for _ in range(8):
        check_ok(post(server.address, base(party.assertion())))
    twice = base(party.assertion())
    assert [post(server.address, twice).status for _ in range(3)] == [200, 401, 401]
    assert post(server.address, b"grant_type=password").status == 400
    numbers = settled(port, "groat_token_requests_total", 12)
    issued = {"grant": "client_credentials", "auth_method": "private_key_jwt", "alg": "ES256"}
    assert total(numbers, "groat_tokens_issued_total", **issued) == 9
    assert total(numbers, "groat_tokens_issued_total") == 9
    assert total(numbers, "groat_assertion_replays_total") == 2
    assert total(numbers, "groat_token_requests_total", result="issued") == 9
    assert total(numbers, "groat_token_requests_total", result="invalid_client", reason="assertion_replayed") == 2
    assert total(numbers, "groat_token_requests_total", result="unsupported_grant_type") == 1
    assert total(numbers, "groat_token_request_duration_seconds_count") == 12
    assert 0 < total(numbers, "groat_token_request_duration_seconds_sum") < 12
    assert total(numbers, "groat_signing_key_age_seconds", state="active") > 0
    assert total(numbers, "groat_build_info") == 1
    assert total(numbers, "groat_audit_sequence") >= 3  # the store, the API, the client
    assert total(numbers, "groat_clock_trusted") == 1
    assert total(numbers, "groat_clock_steps_total") == 0
    assert 500 < time.time() - total(numbers, "groat_store_horizon_timestamp_seconds") < 700


def test_a_label_never_comes_from_a_request(running: "tuple[Server, int]", party: Party) -> None:
    """Neither a client id nor anything else that a stranger chooses makes a new series."""
    server, port = running
    before = len(settled(port, "groat_token_requests_total", 0))
    for number in range(20):
        party.client_id = f"stranger-{number}"
        assert post(server.address, base(party.assertion())).status == 401
        assert send(server.address, "GET", f"/path-{number}").status == 404
    numbers = settled(port, "groat_token_requests_total", 20)
    numbers = settled(port, "groat_requests_refused_total", 20, endpoint="none", reason="path")
    assert "stranger" not in str(numbers)
    assert len(numbers) <= before + 4


@pytest.mark.rule("OP-14")
def test_each_endpoint_has_numbers_of_its_own(running: "tuple[Server, int]") -> None:
    """What a scanner asks is no token request, and neither are keys of clients, public documents and the admin's."""
    server, port = running
    asked = [
        ("GET", "/wp-login.php", "none", "path", 404),
        ("POST", "/.env", "none", "path", 404),
        ("DELETE", "/.well-known/jwks.json", "jwks", "method", 405),
        ("PUT", "/.well-known/oauth-authorization-server", "metadata", "method", 405),
        ("POST", "/readyz", "health", "method", 405),
    ]
    for method, path, endpoint, reason, status in asked:
        before = total(scrape(port), "groat_requests_refused_total", endpoint=endpoint, reason=reason)
        assert send(server.address, method, path, (), b"").status == status
        settled(port, "groat_requests_refused_total", before + 1, endpoint=endpoint, reason=reason)
    assert send(("127.0.0.1", port), "GET", "/nowhere").status == 404
    assert send(server.address, "GET", "/client-keys").status == 405
    assert post(server.address, b"code=x&proof=y", target="/client-keys").status == 400
    settled(port, "groat_requests_refused_total", 1, endpoint="admin", reason="path")
    numbers = settled(port, "groat_client_key_requests_total", 2, result="invalid_request")
    assert total(numbers, "groat_token_requests_total") == 0
    assert total(numbers, "groat_token_request_duration_seconds_count") == 0
    events = [line for line in server.lines() if line["event"] in ("request.refused", "client.key_refused")]
    assert [line.get("endpoint") for line in events] == [*(row[2] for row in asked), "admin", None, None]
    assert not any(line["event"] == "token.refused" for line in server.lines())


@pytest.mark.rule("OP-14", "I14")
def test_a_scanner_does_not_fill_the_log(running: "tuple[Server, int]") -> None:
    """Some lines a minute are written, the next one says how many were not, and the numbers have them all."""
    server, port = running
    connection = Connection(server.address)
    for number in range(300):
        assert connection.ask("GET", f"/admin/{number}").status == 404
    connection.close()
    settled(port, "groat_requests_refused_total", 300, endpoint="none")
    lines = [line for line in server.lines() if line["event"] == "request.refused"]
    assert 30 <= len(lines) <= 3 * 30 + 15


def test_the_token_endpoint_has_no_metrics(running: "tuple[Server, int]") -> None:
    """What operators see is not for clients, and the other way round."""
    server, port = running
    assert send(server.address, "GET", "/metrics").status == 404
    assert send(("127.0.0.1", port), "POST", "/token").status == 404
    assert send(("127.0.0.1", port), "DELETE", "/metrics").status == 405


def test_another_worker_takes_over(groat: "Groat", party: Party) -> None:
    """The worker that listens is killed: a sibling listens, and what was counted stays counted."""
    port = free_port()
    server = groat.serve(2, env={"GROAT_ADMIN__LISTEN": f"127.0.0.1:{port}"})
    try:
        for _ in range(6):
            check_ok(post(server.address, base(party.assertion())))
        settled(port, "groat_tokens_issued_total", 6)
        time.sleep(1.1)  # the killed one has handed over by now
        listening = [line for line in server.lines() if line["event"] == "admin.started"]
        assert len(listening) == 1
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
            settled(port, "groat_tokens_issued_total", 6)
    finally:
        server.stop()


def test_a_socket_file_is_for_its_owner(groat: "Groat") -> None:
    """Mode 0600, and one that a dead server left behind is no obstacle."""
    path = groat.directory / "admin.sock"
    for _ in range(2):
        server = groat.serve(env={"GROAT_ADMIN__SOCKET": "admin.sock"})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"groat_build_info" in b"".join(iter(lambda: connection.recv(65536), b""))
        server.stop(signal.SIGKILL)
        assert path.exists()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"GROAT_ADMIN__LISTEN": "nine"}, "admin.listen must be HOST:PORT"),
        ({"GROAT_ADMIN__LISTEN": "127.0.0.1:99999"}, "admin.listen must be HOST:PORT"),
        ({"GROAT_ADMIN__SOCKET": "nowhere/admin.sock"}, "there is no folder"),
        ({"GROAT_ADMIN__SOCKET": "x" * 120}, "admin.socket is longer than 100 bytes"),
    ],
)
def test_a_wrong_address_is_said_at_the_start(groat: "Groat", env: dict[str, str], message: str) -> None:
    """One line, exit 3, nothing served."""
    done = groat.run("serve", "--port", "0", check=False, **env)
    assert (done.returncode, message in done.stderr) == (3, True), done.stderr


@pytest.mark.rule("ST-14")
@pytest.mark.parametrize("kind", ["a file", "a link", "a link to a socket", "a dangling link", "a directory"])
def test_only_a_socket_gives_way_to_the_socket(groat: "Groat", tmp_path: Path, kind: str) -> None:
    """What stands in the place of admin.socket and is none is named, and stays as it is."""
    name = f"{kind.replace(' ', '-')}.sock"
    place, target, other = groat.directory / name, tmp_path / "target", groat.directory / f"other-{name}"
    target.write_text("somebody's")
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(other))
    if kind == "a directory":
        place.mkdir()
    elif kind == "a file":
        place.write_text("somebody's")
    else:
        place.symlink_to({"a link": target, "a link to a socket": other}.get(kind, Path("nowhere")))
    before = place.lstat()
    done = groat.run("serve", "--port", "0", check=False, GROAT_ADMIN__SOCKET=name)
    assert (done.returncode, f"{name} is a " in done.stderr, "not a socket" in done.stderr) == (3, True, True)
    assert (place.lstat().st_ino, target.read_text(), other.exists()) == (before.st_ino, "somebody's", True)


@pytest.mark.rule("ST-14")
def test_a_file_that_comes_later_is_not_removed_either(tmp_path: Path) -> None:
    """The worker looks again before it binds."""
    place = tmp_path / "s"
    place.write_text("somebody's")
    with pytest.raises(ConfigError, match="s is a file, not a socket"):
        AdminAddress(socket=place).remove_socket()
    assert place.read_text() == "somebody's"


def test_a_busy_port_is_said_at_the_start(groat: "Groat") -> None:
    """With the name of the setting to change."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = groat.run("serve", "--port", "0", check=False, GROAT_ADMIN__LISTEN=f"127.0.0.1:{port}")
    assert done.returncode == 3
    assert f"port {port}" in done.stderr
    assert "admin.listen" in done.stderr


def test_an_address_in_words() -> None:
    """IPv6 in brackets, as in a URL."""
    address = AdminAddress.parse("[::1]:9464", None)
    assert (address.host, address.port, bool(address)) == ("::1", 9464, True)
    assert not AdminAddress.parse("", None)


def test_an_oversized_head_is_refused(running: "tuple[Server, int]") -> None:
    """The bounds of the public listener hold here too."""
    _, port = running
    settled(port, "groat_token_requests_total", 0)
    assert b" 400 " in raw(("127.0.0.1", port), b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 70_000)


def test_connections_are_bounded(running: "tuple[Server, int]") -> None:
    """Of more than there may be, those that waited longest make room, and who asks is served."""
    _, port = running
    settled(port, "groat_token_requests_total", 0)
    with ExitStack() as stack:
        silent = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            for _ in range(MAX_ADMIN_CONNECTIONS + 8)
        ]
        scrape(port)
        deadline = time.monotonic() + 10
        while sum(_is_closed(connection) for connection in silent) < 8:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.rule("ST-4", "F11")
def test_visits_to_addresses_of_keys_are_counted(tmp_path: Path) -> None:
    """Good ones and failed ones, the latter with a line in the log; no host becomes a label."""
    with (tmp_path / "log").open("w") as stream:
        audit = Audit(EventLog(stream, pretty=False))
        for why in ("", "", "nobody there"):
            audit.fetched("keys.example:8443", why)
    shown = Metrics(audit.tally).render((), 0.0).decode()
    assert 'groat_client_key_set_fetches_total{result="ok"} 2.0' in shown
    assert 'groat_client_key_set_fetches_total{result="failed"} 1.0' in shown
    assert "keys.example" not in shown
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (line["event"], line["host"], line["hint"]) == (
        "client.keys_unavailable", "keys.example:8443", "nobody there",
    )  # fmt: skip
