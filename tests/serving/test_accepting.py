"""Who takes a connection in: real workers behind one listener."""

import http.client
import os
import resource
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from groat.server.endpoints.exposition import MULTIPROCESS_FOLDER
from groat.serving.accepting import NO_DESCRIPTOR_SECONDS
from groat.serving.process import CONNECTIONS_FILE

if TYPE_CHECKING:
    from tests.conftest import Groat, Server


@pytest.fixture
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    return make_groat("accepting")


@pytest.fixture
def three(groat: "Groat") -> "Iterator[Server]":
    """A server with three workers."""
    server = groat.serve(3)
    yield server
    server.stop()


def sockets(pid: int) -> int:
    """Open sockets of a process."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(descriptor).startswith("socket:")
    return count


def shares(server: "Server", before: dict[int, int]) -> Counter[int]:
    return Counter({pid: sockets(pid) - before[pid] for pid in server.workers()})


def connect(server: "Server", held: ExitStack, count: int) -> list[socket.socket]:
    """Connections that are begun together, as a proxy's pool may be."""
    made = []
    for _ in range(count):
        connection = held.enter_context(socket.socket())
        connection.setblocking(False)
        connection.connect_ex(server.address)
        made.append(connection)
    return made


def alive(server: "Server", connection: socket.socket, seconds: float = 10.0) -> None:
    """One request on a held connection is answered."""
    connection.settimeout(seconds)
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_connections_that_come_together_are_shared_equally(three: "Server") -> None:
    """Each worker gets as many as the others, unless it is busy; the middle one of three rounds counts."""
    spread = []
    before = {pid: sockets(pid) for pid in three.workers()}
    for _ in range(3):
        with ExitStack() as held:
            for connection in connect(three, held, 30):
                alive(three, connection)
            found = shares(three, before)
            assert sum(found.values()) == 30
            spread.append(max(found.values()) - min(found.values()))
        deadline = time.monotonic() + 5
        while sum(shares(three, before).values()) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert sorted(spread)[1] <= 6, spread


def test_a_worker_that_is_stuck_keeps_nobody_waiting(three: "Server") -> None:
    """It has the fewest connections and does not take them; the others do, soon."""
    stuck, *_ = three.workers()
    with ExitStack() as held:
        for connection in connect(three, held, 12):
            alive(three, connection)
        os.kill(stuck, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for connection in connect(three, held, 60):
                alive(three, connection)
            assert time.monotonic() - began < 5
        finally:
            os.kill(stuck, signal.SIGCONT)


def test_a_worker_that_was_killed_is_not_waited_for(three: "Server") -> None:
    """Nobody waits while it is gone, and its successor takes its place and its share."""
    killed, *others = three.workers()
    os.kill(killed, signal.SIGKILL)
    with ExitStack() as held:
        for connection in connect(three, held, 20):
            alive(three, connection)
        deadline = time.monotonic() + 20
        while len(three.workers()) < 3 or killed in three.workers():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (successor,) = set(three.workers()) - set(others)
        before = sockets(successor)
        while sockets(successor) < before + 3:
            assert time.monotonic() < deadline
            for connection in connect(three, held, 3):
                alive(three, connection)
            time.sleep(0.1)


def test_connections_beyond_the_descriptors_wait_and_are_served_later(groat: "Groat") -> None:
    """A server that may open no more files goes on with those it has, says so, and takes others in when it can again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = groat.serve()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (48, hard))
    try:
        with ExitStack() as held:
            inside, *_ = connect(server, held, 1)
            alive(server, inside)
            connect(server, held, 60)
            time.sleep(0.5)
            alive(server, inside)
        began = time.monotonic()
        connection = http.client.HTTPConnection(*server.address, timeout=10)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()
        assert time.monotonic() - began < 5 * NO_DESCRIPTOR_SECONDS
        complaints = [line for line in server.lines() if "cannot accept connections" in str(line)]
        assert 1 <= len(complaints) <= 5, complaints
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        server.stop()


def faults(server: "Server") -> list[str]:
    """Log lines with a traceback."""
    return [str(line) for line in server.lines() if "exception" in line]


def test_a_server_without_descriptors_ends_in_order(groat: "Groat") -> None:
    """SIGTERM while accepting has paused: nothing wakes up later to look at a listener that is closed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    server = groat.serve()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (48, hard))
    with ExitStack() as held:
        connect(server, held, 60)
        deadline = time.monotonic() + 5
        while not any("cannot accept connections" in str(line) for line in server.lines()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert server.stop() == 0  # the drain is longer than the pause
    assert faults(server) == []


def started(server: "Server", count: int) -> None:
    """Wait until so many workers have been ready; a traceback beside the log is no JSON and fails."""
    deadline = time.monotonic() + 20
    while sum(line.get("message") == "Application startup complete." for line in server.lines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def counts_file(worker: int) -> Path:
    """The memory of the connection counts, in the folder that the worker was told of."""
    entries = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (folder,) = [entry.partition(b"=")[2] for entry in entries if entry.startswith(MULTIPROCESS_FOLDER.encode())]
    return Path(folder.decode()) / CONNECTIONS_FILE


def test_a_worker_without_descriptors_is_not_waited_for(three: "Server") -> None:
    """It has the fewest connections and can take none: it takes no part until it can."""
    poor, *_ = three.workers()
    file = counts_file(poor)
    limits = resource.prlimit(poor, resource.RLIMIT_NOFILE)
    open_now = max(int(descriptor.name) for descriptor in Path(f"/proc/{poor}/fd").iterdir())
    resource.prlimit(poor, resource.RLIMIT_NOFILE, (open_now + 1, limits[1]))

    def absent() -> bool:
        return memoryview(file.read_bytes()).cast("q").tolist().count(-1) == 1

    with ExitStack() as held:
        deadline = time.monotonic() + 20
        while not absent():
            assert time.monotonic() < deadline
            for connection in connect(three, held, 6):
                alive(three, connection)
        looks = []
        for _ in range(20):
            looks.append(absent())
            time.sleep(NO_DESCRIPTOR_SECONDS / 40)
        assert sum(looks) >= 10, looks
        resource.prlimit(poor, resource.RLIMIT_NOFILE, limits)
        before = sockets(poor)
        while absent() or sockets(poor) == before:
            assert time.monotonic() < deadline
            for connection in connect(three, held, 3):
                alive(three, connection)
            time.sleep(0.1)


@pytest.mark.parametrize("lost", ["no place", "no memory"])
def test_a_worker_without_a_share_serves(three: "Server", lost: str) -> None:
    """One more at SIGTTIN than there are places, or one that starts after /tmp was cleaned: it stays, and takes part."""
    if lost == "no place":
        three.process.send_signal(signal.SIGTTIN)
    else:
        first, *_ = three.workers()
        counts_file(first).unlink()
        os.kill(first, signal.SIGKILL)
    started(three, 4)
    workers = three.workers()
    time.sleep(1)  # the supervisor looks twice a second whether they live
    assert three.workers() == workers
    with ExitStack() as held:
        for connection in connect(three, held, 30):
            alive(three, connection)
    assert faults(three) == []


@pytest.mark.rule("OPS-02")
def test_a_caller_who_resets_at_once_is_logged_with_its_address(groat: "Groat") -> None:
    """A reset connection has forgotten its peer, and its request can still be read."""
    server = groat.serve()
    os.kill(server.process.pid, signal.SIGSTOP)
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.kill(server.process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 5
    while not (refused := [line for line in server.lines() if line["event"] == "token.refused"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [line["source"] for line in refused] == ["127.0.0.1"]
    server.stop()
