"""What strangers can make a real `groat serve` spend: each bound is reached, and the memory is looked at."""

import datetime
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest

from benchmarks.load.driver import rss_bytes
from benchmarks.load.strangers import FORMS, press
from benchmarks.strangers import peak_bytes
from groat.demo.local_ca import LocalCa
from groat.keys.files import read_private_key
from tests.server.builders import Party, base
from tests.server.wire import post, raw, send
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

GET: Final = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTE: Final = 1_000_000


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """An installation with one API and the client `billing`."""
    made = make_groat("bounds")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    made.run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", "k.json")
    return made


@pytest.fixture
def server(groat: "Groat") -> "Iterator[Server]":
    made = groat.serve()
    yield made
    made.stop()


def connect(server: "Server", held: ExitStack, count: int, source: str = "127.0.0.1") -> list[socket.socket]:
    """So many connections from one address of the loopback network."""
    return [
        held.enter_context(socket.create_connection(server.address, 10, source_address=(source, 0)))
        for _ in range(count)
    ]


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not ended it yet."""
    connection.setblocking(False)
    try:
        return connection.recv(65536) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def alive(connection: socket.socket) -> bool:
    """Whether it still serves a request."""
    connection.settimeout(10)
    try:
        connection.sendall(GET)
        return connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def events(server: "Server", name: str) -> list[dict[str, object]]:
    return [line for line in server.lines() if line["event"] == name]


@pytest.mark.rule("ST-1", "ST-2", "I9", "I14", "Z05")
@pytest.mark.parametrize("name", ["pipelined", "unread", "trailers", "fields", "heads", "long-heads", "bodies"])
def test_no_form_of_attack_fills_the_memory(groat: "Groat", shared_server: "Server", name: str) -> None:
    """At most 150 MB, whatever comes on however many connections; an honest request is served meanwhile."""
    pid, party = shared_server.process.pid, Party("billing", read_private_key(groat.directory / "k.json"), time.time())
    assert post(shared_server.address, base(party.assertion())).status == 200
    attack = threading.Thread(target=press, args=(FORMS[name], shared_server.address, 2.0))
    attack.start()
    try:
        time.sleep(0.5)
        assert post(shared_server.address, base(party.assertion())).status == 200
    finally:
        attack.join()
    assert peak_bytes(pid) < 150 * MEGABYTE
    assert post(shared_server.address, base(party.assertion())).status == 200


@pytest.mark.rule("ST-2", "I9")
def test_memory_is_given_back_after_the_end(server: "Server") -> None:
    """Within 20 MB of the start, some seconds after the last connection went."""
    pid = server.process.pid
    with ExitStack() as held:
        alive(connect(server, held, 1)[0])
        before = rss_bytes(pid)
        press(FORMS["bodies"], server.address, 1.5)
        assert peak_bytes(pid) > before + 10 * MEGABYTE  # else nothing is shown here
    wait_until(lambda: rss_bytes(pid) < before + 20 * MEGABYTE, 12)


@pytest.mark.rule("ST-5", "ST-6", "I14")
@pytest.mark.parametrize(
    "begun",
    [b"", GET[:-5], b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"],
    ids=["nothing", "half a head", "no body"],
)
def test_a_pool_outlives_a_silent_neighbour_behind_its_address(groat: "Groat", begun: bytes) -> None:
    """Idle connections that were used a moment ago stay, whatever else comes from there and says nothing."""
    server = groat.serve(env={"GROAT_SERVER__SOURCE_CONNECTIONS": "100"})
    try:
        with ExitStack() as held:
            pool = connect(server, held, 30)
            assert all(map(alive, pool))
            silent = connect(server, held, 120)
            for one in silent:
                with suppress(OSError):  # it had to make room
                    one.sendall(begun)
            assert all(map(alive, pool))
            wait_until(lambda: sum(map(is_open, silent)) <= 70)
    finally:
        server.stop()


@pytest.mark.rule("ST-6", "I9", "H08")
def test_silent_connections_beyond_the_bound_keep_nobody_waiting(groat: "Groat") -> None:
    """The oldest of them make room for whoever comes; an honest request is served at once."""
    server = groat.serve(env={"GROAT_SERVER__CONNECTIONS": "64", "GROAT_SERVER__SOURCE_CONNECTIONS": "1000"})
    try:
        with ExitStack() as held:
            silent = connect(server, held, 200)
            began = time.monotonic()
            assert all(alive(connection) for connection in connect(server, held, 20))
            assert time.monotonic() - began < 5
            wait_until(lambda: sum(map(is_open, silent)) <= 64)
            wait_until(lambda: events(server, "server.crowded") != [])
        line = events(server, "server.crowded")[0]
        assert line["limit"] == 64
        assert isinstance(line["full"], int)
        assert "server.connections" in str(line["hint"])
    finally:
        assert server.stop() == 0


@pytest.mark.rule("ST-6", "I9")
def test_one_source_takes_the_places_of_nobody_else(groat: "Groat") -> None:
    """Past its own bound the oldest of its own connections go; those of others, older ones, stay."""
    server = groat.serve(env={"GROAT_SERVER__SOURCE_CONNECTIONS": "32"})
    try:
        with ExitStack() as held:
            (other,) = connect(server, held, 1, "127.0.0.2")
            assert alive(other)
            crowd = connect(server, held, 100, "127.0.0.3")
            wait_until(lambda: sum(map(is_open, crowd)) <= 32)
            assert alive(other)
            assert sum(map(is_open, crowd)) >= 16
        wait_until(lambda: events(server, "server.crowded") != [])
        line = events(server, "server.crowded")[0]
        assert line["source"] == "127.0.0.3"
        assert "server.trusted_proxies" in str(line["hint"])
    finally:
        server.stop()


@pytest.mark.rule("ST-6", "OPS-02")
def test_a_trusted_proxy_has_no_bound_of_its_own(groat: "Groat") -> None:
    """It speaks for many; the bound of all connections holds for it, too."""
    env = {"GROAT_SERVER__SOURCE_CONNECTIONS": "32", "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.9"}
    server = groat.serve(env=env)
    try:
        with ExitStack() as held:
            pool = connect(server, held, 100, "127.0.0.9")
            assert all(map(alive, pool))
            assert all(map(alive, pool))
    finally:
        server.stop()


@pytest.mark.rule("ST-6", "H08")
def test_idle_connections_go_before_those_that_are_in_use(groat: "Groat") -> None:
    """Whoever asks again and again keeps its connection while others come, ask once, and stay."""
    server = groat.serve(env={"GROAT_SERVER__CONNECTIONS": "32"})
    try:
        with ExitStack() as held:
            (busy,) = connect(server, held, 1)
            idle = connect(server, held, 20)
            assert all(map(alive, [busy, *idle]))
            for _ in range(30):
                assert all(map(alive, connect(server, held, 2)))
                assert alive(busy)
            assert not all(map(alive, idle))
    finally:
        server.stop()


@pytest.mark.rule("ST-6", "H08")
def test_slow_heads_have_less_time_while_it_is_crowded(groat: "Groat") -> None:
    """Two seconds, not ten, once three quarters of the places are taken; a place that is free again says so."""
    server = groat.serve(env={"GROAT_SERVER__CONNECTIONS": "32"})
    try:
        with ExitStack() as held:
            crowd = connect(server, held, 30)
            for connection in crowd:
                connection.sendall(b"GET /livez HTTP/1.1\r\n")
            began = time.monotonic()
            wait_until(lambda: sum(map(is_open, crowd)) < 24)  # from there on nobody is in a hurry
            assert time.monotonic() - began < 8
    finally:
        server.stop()


@pytest.mark.rule("ST-6", "I9")
def test_the_soft_limit_of_descriptors_is_raised(groat: "Groat") -> None:
    """A service manager starts with 1,024; the bound of connections follows from what is allowed at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = groat.serve()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    server.stop()


@pytest.mark.rule("ST-6", "I9")
def test_few_descriptors_mean_few_connections(groat: "Groat") -> None:
    """Some are kept for the store and the log: the process never runs out of them, and serves whoever asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (160, 160)
    pid = 0
    server = groat.serve(env={"GROAT_SERVER__CONNECTIONS": "4096"}, limits=limits)
    try:
        pid = server.process.pid
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == limits
        with ExitStack() as held:
            connect(server, held, 300)
            assert all(alive(connection) for connection in connect(server, held, 5))
        assert "cannot accept connections" not in server.log.read_text()
    finally:
        server.stop()
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.mark.rule("ST-1", "H09")
def test_cheap_requests_take_no_place_of_a_token_request(groat: "Groat", shared_server: "Server") -> None:
    """More connections than there are places pipeline requests that want no token."""
    party = Party("billing", read_private_key(groat.directory / "k.json"), time.time())
    attack = threading.Thread(target=press, args=(FORMS["pipelined"], shared_server.address, 2.0))
    attack.start()
    statuses = []
    while attack.is_alive():
        statuses.append(post(shared_server.address, base(party.assertion())).status)
        time.sleep(0.05)
    assert set(statuses) == {200}


@pytest.mark.rule("ST-15", "H05", "H07")
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.1", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nhost: b", 400),
        (b"GET /livez HTTP/1.0\r\nHost: a\r\nHost: b", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a b", 400),
        (b"GET /livez HTTP/1.1\r\nHost: user@a", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a/b", 400),
        (b"GET /livez HTTP/1.1\r\nHost: [::1", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a:x", 400),
        (b"GET /livez HTTP/2.0\r\nHost: a", 400),
        (b"GET /livez HTTP/0.9\r\nHost: a", 400),
        (b"GET /livez HTTP/1.0", 200),
        (b"GET /livez HTTP/1.1\r\nHost:", 200),
        (b"GET /livez HTTP/1.1\r\nHost: as.example:443", 200),
        (b"GET /livez HTTP/1.1\r\nHost: [::1]:3001", 200),
    ],
    ids=lambda value: value.decode()[11:].replace("\r\n", " ") if isinstance(value, bytes) else None,
)
def test_a_request_names_one_host(lab_address: tuple[str, int], head: bytes, status: int) -> None:
    """HTTP/1.1 with no Host, with two, or with one that is no host is 400 (RFC 9112 3.2)."""
    assert raw(lab_address, head + b"\r\nConnection: close\r\n\r\n", timeout=2.0).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.rule("ST-15", "H05")
@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: chunked, identity",
    ],
    ids=lambda value: value.decode().replace("Transfer-Encoding:", "").replace("\r\n", " and "),
)
def test_a_body_is_coded_in_chunks_or_not_at_all(lab_address: tuple[str, int], fields: bytes) -> None:
    """Anything but a single `chunked` is 400, and the connection ends (RFC 9112 6.1 and 6.3)."""
    head = b"POST /livez HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % fields
    received = raw(lab_address, head + b"3\r\nabc\r\n0\r\n\r\n" + GET, timeout=2.0)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.rule("ST-15", "H05")
def test_chunks_need_http_1_1_and_no_capital(lab_address: tuple[str, int]) -> None:
    """`Chunked` is `chunked`; a coding in HTTP/1.0 is a fault of framing."""
    for version, coding, status in ((b"1.1", b"Chunked", 405), (b"1.0", b"chunked", 400)):
        head = b"POST /livez HTTP/%b\r\nHost: a\r\nTransfer-Encoding: %b\r\nConnection: close\r\n\r\n" % (
            version,
            coding,
        )
        assert raw(lab_address, head + b"0\r\n\r\n", timeout=2.0).startswith(b"HTTP/1.1 %d " % status)


UPGRADES: Final[Sequence[bytes]] = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Connection: keep-alive, Upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0",
    b"Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b",
    b"Upgrade: h2c",
)


@pytest.mark.rule("FO-1")
@pytest.mark.parametrize("pieces", [1, 3], ids=["whole", "in pieces"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("fields", UPGRADES, ids=["h2c", "websocket", "tls", "two", "no option"])
def test_an_upgrade_that_nobody_accepts_is_ignored(
    groat: "Groat", shared_server: "Server", fields: bytes, chunked: bool, pieces: int
) -> None:
    """The body is read, the answer is the usual one, and the connection goes on in HTTP/1.1 (RFC 9110 7.8)."""
    party = Party("billing", read_private_key(groat.directory / "k.json"), time.time())
    body = base(party.assertion())
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n%b\r\n%b\r\n\r\n" % (
        fields, framing,
    )  # fmt: skip
    data = head + sent + GET.replace(b"Host", b"Connection: close\r\nHost")
    with socket.create_connection(shared_server.address, 10) as connection:
        step = len(data) // pieces + 1
        for start in range(0, len(data), step):
            connection.sendall(data[start : start + step])
            time.sleep(0.02)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b'"access_token"' in received
    assert received.count(b"HTTP/1.1 200 ") == 2


@pytest.fixture(scope="module")
def shared_server(groat: "Groat") -> "Iterator[Server]":
    made = groat.serve()
    yield made
    made.stop()


@pytest.fixture
def lab_address(shared_server: "Server") -> tuple[str, int]:
    return shared_server.address


@pytest.mark.rule("ST-2", "H02", "I9")
@pytest.mark.parametrize(("count", "status"), [(99, 200), (100, 400)])
@pytest.mark.parametrize("piece", [50, 1_000_000], ids=lambda size: f"by-{size}")
def test_a_head_has_at_most_a_hundred_fields(lab_address: tuple[str, int], count: int, status: int, piece: int) -> None:
    """Host and 99 others; one more is refused as it comes, whatever its size."""
    data = b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"a:b\r\n" * count + b"\r\n"
    with socket.create_connection(lab_address, 10) as connection:
        for start in range(0, len(data), piece):
            connection.sendall(data[start : start + piece])
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.rule("ST-2", "H02", "I9")
@pytest.mark.parametrize("target", [b"GET /livez", b"POST /token"])
def test_a_trailer_has_at_most_a_hundred_fields(lab_address: tuple[str, int], target: bytes) -> None:
    """Whether the request was answered before or waits for its body."""
    data = target + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"a:b\r\n" * 102
    assert b"HTTP/1.1 400 " in raw(lab_address, data, timeout=2.0)


@pytest.mark.rule("ST-2", "I9")
def test_what_surrounds_small_chunks_is_bounded_in_all(lab_address: tuple[str, int]) -> None:
    """Many chunks of one byte with long extensions are more than a body, though each brings something."""
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(lab_address, 10) as connection:
        connection.sendall(head)
        for _ in range(30):
            connection.sendall(b"1;" + b"a" * 10_000 + b"\r\na\r\n")
            time.sleep(0.01)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.rule("ST-2", "I9")
def test_the_rest_of_a_body_that_was_answered_is_bounded(lab_address: tuple[str, int]) -> None:
    """Nobody reads it: after 64 KiB of it the connection ends, and the answer has come all the same."""
    with socket.create_connection(lab_address, 10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.sendall(b"a" * 100_000)


@pytest.mark.rule("ST-15")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9464", 200),
        ("localhost:1", 200),
        ("LOCALHOST", 200),
        ("[::1]:9464", 200),
        ("groat.internal:9464", 200),
        ("evil.example", 400),
        ("evil.example:9464", 400),
        ("localhost.evil.example", 400),
        ("203.0.113.9", 400),
    ],
)
def test_the_admin_listener_answers_to_its_own_names_only(admin_port: int, host: str, status: int) -> None:
    """A page whose name leads to this address (DNS rebinding) learns nothing."""
    answer = send(("127.0.0.1", admin_port), "GET", "/metrics", [("Host", host)])
    assert answer.status == status
    assert (b"groat_" in answer.body) == (status == 200)


@pytest.fixture(scope="module")
def admin_port(groat: "Groat") -> Iterator[int]:
    from tests.ports import free_port

    port = free_port()
    server = groat.serve(env={"GROAT_ADMIN__LISTEN": f"127.0.0.1:{port}", "GROAT_ADMIN__HOSTS": "groat.internal"})
    wait_until(lambda: events(server, "admin.started") != [])
    yield port
    server.stop()


@pytest.fixture
def secured(make_groat: "Callable[[str], Groat]") -> "Iterator[Server]":
    """A server that speaks https, with few places."""
    groat = make_groat("bounds-tls")
    now = datetime.datetime.now(datetime.UTC)
    ca, _ = LocalCa.ensure(groat.directory / "ca.pem", groat.directory / "ca.key.pem", ["as.example"], now)
    ca.ensure_server(groat.directory, ["as.example"], now)
    files = {"GROAT_SERVER__TLS_CERTIFICATE_FILE": "tls.pem", "GROAT_SERVER__TLS_KEY_FILE": "tls.key.pem"}
    made = groat.serve(env={**files, "GROAT_SERVER__CONNECTIONS": "512"})  # an eighth of it
    yield made
    made.stop()


@pytest.mark.rule("ST-6", "I9", "H08")
def test_silent_handshakes_have_the_same_bounds(secured: "Server") -> None:
    """They make room for whoever speaks TLS, are cut off early while it is crowded, and delay no end."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as held:
        silent = connect(secured, held, 150)
        for _ in range(5):
            with socket.create_connection(secured.address, 10) as plain, tls.wrap_socket(plain) as spoken:
                assert alive(spoken)
        wait_until(lambda: sum(map(is_open, silent)) <= 64)
        wait_until(lambda: sum(map(is_open, silent)) < 48)  # three quarters: the rest has its ten seconds
        began = time.monotonic()
        assert secured.stop() == 0
        assert time.monotonic() - began < 8
