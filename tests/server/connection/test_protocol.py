"""One connection: when it stays, when it ends, and how an answer is written."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from groat.protocol.token_request import MAX_ESCAPES
from groat.server.connection import cycle, states
from groat.server.connection.cycle import OneWriteCycle
from groat.server.connection.head import parse_target
from groat.server.connection.states import LINGER_SECONDS
from tests.server.builders import base
from tests.server.lab import Lab, prepare, running
from tests.server.test_broken_store import write_lock
from tests.server.wire import FORM

KEEP_ALIVE = 1


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server that closes idle connections after a second."""
    with running(prepare(tmp_path_factory.mktemp("hasty")), KEEP_ALIVE) as lab:
        yield lab


def request(lab: Lab, version: str = "1.1", *headers: str) -> bytes:
    """A token request that must succeed, as bytes."""
    body = base(lab.party.assertion())
    lines = [f"POST /token HTTP/{version}", "Host: as.example", f"Content-Type: {FORM}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def answer(connection: socket.socket) -> tuple[int, dict[bytes, bytes], bytes]:
    """The next response, by its content-length."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    while len(body) < int(headers.get(b"content-length", b"0")):
        body += connection.recv(65536)
    return int(status.split()[1]), headers, body


def ends_after(connection: socket.socket) -> float:
    """Seconds until the server closes."""
    began = time.monotonic()
    assert connection.recv(1) == b""
    return time.monotonic() - began


def test_an_idle_connection_is_closed_a_while_after_its_last_answer(hasty: Lab) -> None:
    """Each answer begins the time anew, though one timer serves them all."""
    with socket.create_connection(hasty.address, 5) as connection:
        for _ in range(4):
            connection.sendall(request(hasty))
            assert answer(connection)[0] == 200
            time.sleep(0.6 * KEEP_ALIVE)
        assert ends_after(connection) < 2 * KEEP_ALIVE


def test_a_request_that_takes_longer_is_not_cut_off(hasty: Lab) -> None:
    """The time of an idle connection does not run while a request is sent or being answered."""
    with socket.create_connection(hasty.address, 10) as connection:
        connection.sendall(request(hasty))
        assert answer(connection)[0] == 200
        data = request(hasty)
        connection.sendall(data[:-10])
        time.sleep(1.5 * KEEP_ALIVE)
        connection.sendall(data[-10:])
        assert answer(connection)[0] == 200
        with write_lock(hasty.database):
            connection.sendall(request(hasty))
            assert answer(connection)[0] == 503  # after more than a second
        connection.sendall(request(hasty))
        assert answer(connection)[0] == 200
        assert ends_after(connection) >= 0.5 * KEEP_ALIVE


@pytest.mark.parametrize(
    ("version", "headers"),
    [("1.1", ["Connection: close"]), ("1.1", ["connection: CLOSE"]), ("1.0", []), ("1.0", ["Connection: keep-alive"])],
)
def test_a_client_that_wants_no_more_is_let_go(hasty: Lab, version: str, headers: list[str]) -> None:
    """`Connection: close` and HTTP/1.0 are answered with `connection: close`, once, and closed (RFC 9112 9.6)."""
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(request(hasty, version, *headers))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.count(b"\r\nconnection: close\r\n") == 1


def test_a_refusal_that_closes_says_so_once(hasty: Lab) -> None:
    """A body that is too large ends the connection, whatever the client wanted of it."""
    with socket.create_connection(hasty.address, 5) as connection:
        head = f"POST /token HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {FORM}\r\nContent-Length: 99999\r\n\r\n"
        connection.sendall(head.encode())
        status, headers, body = answer(connection)
        assert (status, headers[b"connection"]) == (413, b"close")
        assert json.loads(body)["error"] == "invalid_request"
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: 3000000\r\n\r\n", 413),
        (
            f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n2DC6C0\r\n",
            413,
        ),
        ("NOT HTTP\r\n\r\n", 400),
        ("POST /token HTTP/1.1\r\nX: ", 400),
    ],
    ids=["length", "chunked", "malformed", "long-head"],
)
def test_a_peer_that_is_still_sending_can_read_its_refusal(hasty: Lab, head: str, status: int) -> None:
    """What comes after the answer is read and thrown away: a reset could overtake the answer (RFC 9112 9.6)."""
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(head.encode())
        for _ in range(30):
            connection.sendall(b"x" * 100_000)
            time.sleep(0.01)
        assert answer(connection)[0] == status
        assert connection.recv(1) == b""


@pytest.mark.parametrize("piece", [1_000, 20_000, 1_000_000], ids=lambda size: f"by-{size}")
@pytest.mark.parametrize(("size", "status"), [(30_000, 200), (33_000, 400), (60_000, 400), (200_000, 400)])
@pytest.mark.parametrize("where", ["field", "target"])
def test_a_head_is_bounded_however_it_comes(
    hasty: Lab, caplog: pytest.LogCaptureFixture, where: str, size: int, status: int, piece: int
) -> None:
    """The bound holds for a head in one piece as for one in many, and each refusal leaves one line."""
    target, field = ("/livez", "x" * size) if where == "field" else ("/livez?" + "x" * size, "")
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\nX: {field}\r\n\r\n".encode()
    with socket.create_connection(hasty.address, 5) as connection:
        for start in range(0, len(head), piece):
            connection.sendall(head[start : start + piece])
            time.sleep(0.001)
        assert answer(connection)[0] == status
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == (status == 400)


def test_a_peer_that_sends_for_ever_is_cut_off(hasty: Lab) -> None:
    """Reading after the answer has an end."""
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(b"NOT HTTP\r\n\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 3 * LINGER_SECONDS:
                connection.sendall(b"x" * 1000)
                time.sleep(0.05)
        assert time.monotonic() - began < 2 * LINGER_SECONDS


def test_what_is_no_http_behind_requests_is_refused_after_them(hasty: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Each request that came whole has its answer, in order; the refusal is the last, and no bug."""
    good = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    received = b""
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(good + good + b"NOT HTTP\r\n\r\n")
        while chunk := connection.recv(65536):
            received += chunk
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"200", b"200", b"400"]
    assert hasty.get("/livez").status == 200
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_refusal_outlives_the_time_of_a_head(hasty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer that cuts off a slow head does not reset a peer that has its answer to read."""
    monkeypatch.setitem(states.SECONDS, states.State.NEW, 0.5)
    with socket.create_connection(hasty.address, 5) as connection:
        time.sleep(0.4)
        connection.sendall(b"NOT HTTP\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"x" * 100_000)
            time.sleep(0.05)
        assert answer(connection)[0] == 400


@pytest.mark.rule("H08", "I9")
@pytest.mark.parametrize("late", [b"x", b"x" * 10], ids=["part", "whole"])
def test_a_body_that_comes_after_the_answer_holds_no_connection(hasty: Lab, late: bytes) -> None:
    """The time of an idle connection begins anew with each piece, and ends it."""
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        assert answer(connection)[0] == 200
        connection.sendall(late)
        assert 0.5 * KEEP_ALIVE < ends_after(connection) < 3 * KEEP_ALIVE


def test_a_connection_goes_on_after_a_body_that_nobody_read(hasty: Lab) -> None:
    """Its bytes, chunks and trailer are no part of the next request."""
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert answer(connection)[0] == 200
        for piece in (b"3\r\n", b"abc", b"\r\n", b"0\r\n", b"a: b\r\n", b"\r\n"):
            connection.sendall(piece)
            time.sleep(0.02)
        connection.sendall(request(hasty))
        assert answer(connection)[0] == 200


@pytest.mark.rule("H01", "I9")
@pytest.mark.parametrize(
    ("before", "repeated"),
    [(b"0\r\n", b"a:b\r\n" * 20_000), (b"0\r\na: ", b"a" * 100_000), (b"5;a=", b"a" * 100_000)],
    ids=["many trailers", "a long trailer", "a long extension"],
)
@pytest.mark.parametrize("target", ["GET /livez", "POST /token"])
def test_what_surrounds_a_chunked_body_is_bounded(hasty: Lab, target: str, before: bytes, repeated: bytes) -> None:
    """Fields that nobody reads fill no memory, whether the request was answered before or waits for its body."""
    with socket.create_connection(hasty.address, 5) as connection:
        head = f"{target} HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        if target.startswith("GET"):
            assert answer(connection)[0] == 200
        connection.sendall(before)
        for _ in range(10):
            connection.sendall(repeated)
            time.sleep(0.01)
        assert answer(connection)[0] == 400
        assert connection.recv(1) == b""


@pytest.mark.rule("H05")
def test_a_field_of_a_trailer_is_no_header(hasty: Lab) -> None:
    """Else what a proxy has checked or written could be said again behind the body (RFC 9110 6.5.1)."""
    with socket.create_connection(hasty.address, 5) as connection:
        head = "POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(f"{head}3\r\na=b\r\n0\r\nContent-Type: {FORM}\r\n\r\n".encode())
        status, headers, _ = answer(connection)
    (line,) = [json.loads(line) for line in hasty.lines() if headers[b"x-request-id"] in line]
    assert (status, line["reason"]) == (400, "content_type")


@pytest.mark.rule("H09", "I9", "ST-1")
@pytest.mark.parametrize("piece", [7, 1_000, 1_000_000], ids=lambda size: f"by-{size}")
def test_requests_that_are_sent_at_once_are_answered_in_order(hasty: Lab, piece: int) -> None:
    """However they are cut, with bodies of either form between them; those that wait are not read yet."""
    rounds = 20 if piece < 10 else 300
    asked = b"".join(
        b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n"
        b"GET /livez?%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n"
        b"\r\nGET /missing/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (number, number)
        for number in range(rounds)
    )
    with socket.create_connection(hasty.address, 10) as connection:
        sender = threading.Thread(target=_send_in_pieces, args=(connection, asked, piece))
        sender.start()
        received = b""
        while received.count(b"HTTP/1.1 ") < 3 * rounds or not received.endswith(b"}"):
            chunk = connection.recv(65536)
            assert chunk, received[-300:]
            received += chunk
        sender.join()
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"400", b"200", b"404"] * rounds


def _send_in_pieces(connection: socket.socket, data: bytes, size: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(data), size):
        connection.sendall(data[start : start + size])


@pytest.mark.rule("H08", "I9")
def test_a_peer_that_does_not_read_is_cut_off(hasty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks on and on; once its answers fill all buffers it has a while to read some, and is reset."""
    monkeypatch.setattr(cycle, "READ_SECONDS", 0.5)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(hasty.address)
        connection.settimeout(5)  # whoever is not cut off waits here
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            padding = "a" * 500  # fewer of them in what is read at once than may wait
            asked = f"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: a\r\nX: {padding}\r\n\r\n"
            for _ in range(400):
                connection.sendall(asked.encode() * 50)


def test_a_client_that_waits_for_100_and_is_malformed_gets_one_answer(
    hasty: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """No 100 comes after the refusal."""
    head = f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nExpect: 100-continue\r\n"
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode())
        assert answer(connection)[0] == 400
        assert connection.recv(1) == b""
    assert hasty.get("/livez").status == 200
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert not [line for line in hasty.lines() if b"server.error" in line]


def test_a_client_that_waits_for_100_is_told_to_go_on(hasty: Lab) -> None:
    """`Expect: 100-continue` without its body gets 100; with the body already there, the answer alone is enough."""
    data = request(hasty, "1.1", "Expect: 100-continue")
    head, _, body = data.partition(b"\r\n\r\n")
    with socket.create_connection(hasty.address, 5) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert answer(connection)[0] == 200


def test_head_has_the_headers_of_get_and_no_body(hasty: Lab) -> None:
    """The next answer on the connection begins where the headers end (RFC 9110 9.3.2)."""
    with socket.create_connection(hasty.address, 5) as connection:
        lengths = []
        for method in ("GET", "HEAD"):
            connection.sendall(f"{method} /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            received = connection.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            lengths.append(head[head.index(b"content-length") :].split(b"\r\n")[0])
            assert bool(body) == (method == "GET")
        assert lengths[0] == lengths[1]


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x", b"a\nb", b"\n", b"a\rb"])
def test_a_line_break_in_a_header_is_never_written(value: bytes) -> None:
    """Whatever a future header is made of, it cannot begin another one (CWE-113)."""
    transport, done = Written(), list[str]()
    made: Callable[..., Any] = OneWriteCycle
    cycle = made({}, transport, None, None, None, False, [], _Event(), False, True, lambda: done.append("x"))
    with pytest.raises(RuntimeError, match="line break"):
        cycle._answer(200, [(b"x-a", value)], b"")
    assert (transport.data, done) == (b"", [])
    cycle._answer(200, [(b"x-a", b"fine")], b"body")
    assert transport.data == b"HTTP/1.1 200 OK\r\nx-a: fine\r\n\r\nbody"


class _Event:
    def set(self) -> None: ...


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        (b"/token", ("/token", b"/token", b"")),
        (b"/token?a=b%20c", ("/token", b"/token", b"a=b%20c")),
        (b"/%74oken", ("/token", b"/%74oken", b"")),
        (b"/a%2Fb?", ("/a/b", b"/a%2Fb", b"")),
        (b"http://as.example/token?x", ("/token", b"/token", b"x")),
        (b"/" + b"a" * 500, ("/" + "a" * 500, b"/" + b"a" * 500, b"")),
    ],
)
def test_targets(target: bytes, parsed: tuple[str, bytes, bytes]) -> None:
    """Path decoded once, path as sent, query as sent; long ones are read and not remembered."""
    assert parse_target(target) == parsed


def test_a_target_that_nobody_can_read_is_refused(hasty: Lab) -> None:
    """Bytes outside ASCII in a target are no HTTP, and neither is a fragment (RFC 9112 3.2)."""
    for target in (b"/\xff", b"/livez#", b"/livez#x", b"/livez?x#y", b"http://a/livez#x", b"/" + b"x" * 99 + b"#"):
        with socket.create_connection(hasty.address, 5) as connection:
            connection.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            assert answer(connection)[0] == 400


@pytest.mark.rule("ST-8", "I14")
def test_a_path_of_escapes_alone_is_not_decoded() -> None:
    """1,024 are; with more it is a path that nothing is at, whatever it would read."""
    for count, path in ((MAX_ESCAPES, "/" + "A" * MAX_ESCAPES), (MAX_ESCAPES + 1, "/" + "%41" * (MAX_ESCAPES + 1))):
        assert parse_target(b"/" + b"%41" * count + b"?x=%41") == (path, b"/" + b"%41" * count, b"x=%41")
