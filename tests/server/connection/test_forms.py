"""Forms of requests that come from the field, and what they must not lead to."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from groat.server.connection.head import parse_target
from groat.server.http import forms
from groat.server.http.admission import MAX_IN_FLIGHT
from tests.server.connection.test_protocol import answer, request
from tests.server.lab import Lab, prepare, running
from tests.server.test_broken_store import write_lock
from tests.waiting import wait_until

HEAD = b"Host: a\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\n" + HEAD


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(prepare(tmp_path_factory.mktemp("forms"))) as made:
        yield made


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@pytest.mark.rule("FO-1")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_peer_that_closes_its_half_gets_its_token(lab: Lab, version: str) -> None:
    """As `nc -N` does: the use of the assertion is spent, so its answer must not be lost; then both have closed."""
    with socket.create_connection(lab.address, 10) as connection:
        connection.settimeout(4)  # less than a connection lingers
        connection.sendall(request(lab, version))
        connection.shutdown(socket.SHUT_WR)
        received = everything(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b"\r\nconnection: close\r\n") == 1
    assert b'"access_token"' in received


@pytest.mark.rule("FO-1")
def test_a_peer_that_closes_its_half_gets_its_refusal(lab: Lab) -> None:
    """Also when it takes a while."""
    with socket.create_connection(lab.address, 10) as connection, write_lock(lab.database):
        connection.sendall(request(lab))
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).startswith(b"HTTP/1.1 503 ")


@pytest.mark.rule("FO-1", "I14")
@pytest.mark.parametrize("cut", [10, 300])
def test_half_of_a_request_is_none(lab: Lab, cut: int) -> None:
    """A peer that closes within a head or a body is owed nothing."""
    with socket.create_connection(lab.address, 5) as connection:
        connection.sendall(request(lab)[:cut])
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b""


@pytest.mark.rule("FO-1")
def test_requests_before_a_closed_half_are_all_answered(lab: Lab) -> None:
    """However many were sent at once."""
    with socket.create_connection(lab.address, 10) as connection:
        connection.sendall(b"".join(request(lab) for _ in range(3)))
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).count(b"HTTP/1.1 200 ") == 3


@pytest.mark.rule("FO-1")
def test_http_1_0_is_not_told_to_go_on(lab: Lab) -> None:
    """It does not know the answer 100, and would take it for that to its request (RFC 9110 10.1.1)."""
    head, _, body = request(lab, "1.0", "Expect: 100-continue").partition(b"\r\n\r\n")
    with socket.create_connection(lab.address, 10) as connection:
        connection.sendall(head + b"\r\n\r\n")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        connection.sendall(body)
        assert answer(connection)[0] == 200


@pytest.mark.rule("FO-1", "ST-1", "I14")
@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT /token HTTP/1.1\r\n" + HEAD,
        b"CONNECT a:443 HTTP/1.1\r\n" + HEAD,
        b"CONNECT http://a/livez HTTP/1.1\r\n" + HEAD,
        b"CONNECT /token HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n" + HEAD,
        b"CONNECT /token HTTP/1.1\r\nContent-Length: 5\r\n" + HEAD + b"12345",
    ],
)
def test_nobody_gets_a_tunnel(lab: Lab, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Refused as malformed, once: what follows is no other protocol, and no other request."""
    with socket.create_connection(lab.address, 10) as connection:
        connection.sendall(head + LIVE)
        assert everything(connection).count(b"HTTP/1.1 ") == 1
    assert [record.message for record in caplog.records if record.exc_info] == []


@pytest.mark.rule("FO-1")
def test_a_target_of_a_host_alone_is_its_root(lab: Lab) -> None:
    """RFC 9112 3.2.2 has whole URIs as targets, and their path may be empty (RFC 9110 4.2.3)."""
    assert parse_target(b"http://a") == ("/", b"/", b"")
    assert parse_target(b"http://a?x=1") == ("/", b"/", b"x=1")
    with socket.create_connection(lab.address, 10) as connection:
        connection.sendall(b"GET http://a HTTP/1.1\r\n" + HEAD)
        assert answer(connection)[0] == 404
        connection.sendall(LIVE)
        assert answer(connection)[0] == 200


@pytest.mark.rule("ST-1", "ST-3", "I14")
@pytest.mark.parametrize("fields", [(), ("Connection: Upgrade", "Upgrade: h2c"), ("Expect: 100-continue",)])
@pytest.mark.parametrize("target", [b"/token", b"/client-keys"])
def test_heads_without_a_body_take_nobodys_place(lab: Lab, target: bytes, fields: tuple[str, ...]) -> None:
    """A place is for work: whoever sends a head alone waits for himself."""
    head = request(lab, "1.1", *fields).partition(b"\r\n\r\n")[0].replace(b"/token", target, 1) + b"\r\n\r\n"
    with ExitStack() as held:
        for _ in range(MAX_IN_FLIGHT + 20):
            held.enter_context(socket.create_connection(lab.address, 10)).sendall(head)
        wait_until(lambda: is_served(lab))  # the heads are parsed by now: this is answered behind them
        assert all(is_served(lab) for _ in range(5))


def is_served(lab: Lab) -> bool:
    with socket.create_connection(lab.address, 10) as connection:
        connection.sendall(request(lab))
        return answer(connection)[0] == 200


@pytest.mark.rule("ST-1", "I14")
@pytest.mark.parametrize("begun", [b"", b"grant"])
@pytest.mark.parametrize("fields", [(), ("Expect: 100-continue",)])
def test_a_body_that_does_not_come_ends_in_time(
    lab: Lab, fields: tuple[str, ...], begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where not a byte of it came."""
    monkeypatch.setattr(forms, "BODY_SECONDS", 0.5)
    with socket.create_connection(lab.address, 10) as connection:
        connection.sendall(request(lab, "1.1", *fields).partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + begun)
        assert b"HTTP/1.1 408 " in everything(connection)
