"""The proxy does to a connection what it says: an echo server behind it tells."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from .proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of an echo server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()
        with Proxy(listener.getsockname()) as made:
            yield made
        listener.shutdown(socket.SHUT_RDWR)


def _echo(listener: socket.socket) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    with peer:
        try:
            while data := peer.recv(65536):
                peer.sendall(data)
        except OSError:
            return


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 5)


def test_it_forwards(proxy: Proxy) -> None:
    """What goes in comes back, and the end of one side reaches the other."""
    with connect(proxy) as peer:
        peer.sendall(b"hello")
        assert peer.recv(10) == b"hello"
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(10) == b""


def test_latency_counts_both_ways(proxy: Proxy) -> None:
    """Fifty milliseconds each way make a round trip of a hundred."""
    proxy.latency = 0.05
    with connect(proxy) as peer:
        begun = time.monotonic()
        peer.sendall(b"x")
        assert peer.recv(1) == b"x"
        assert time.monotonic() - begun >= 0.1


def test_bandwidth(proxy: Proxy) -> None:
    """Two kilobytes at ten a second take a fifth of a second each way."""
    proxy.bandwidth = 10_000
    with connect(proxy) as peer:
        begun = time.monotonic()
        peer.sendall(b"x" * 2000)
        got = 0
        while got < 2000:
            got += len(peer.recv(2000))
        assert time.monotonic() - begun >= 0.4


def test_a_frozen_link_is_silent_until_it_is_healed(proxy: Proxy) -> None:
    """Nothing passes and nothing is closed; afterwards what was on its way arrives."""
    with connect(proxy) as peer:
        peer.sendall(b"a")
        assert peer.recv(1) == b"a"
        proxy.frozen = True
        peer.sendall(b"b")
        peer.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        proxy.heal()
        peer.settimeout(5)
        assert peer.recv(1) == b"b"


def test_a_cut_is_a_reset(proxy: Proxy) -> None:
    """An open connection ends with RST."""
    with connect(proxy) as peer:
        peer.sendall(b"a")
        assert peer.recv(1) == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_a_response_is_torn_after_so_many_bytes(proxy: Proxy) -> None:
    """Half of it arrives, then the connection is reset."""
    proxy.reset_after = 5
    with connect(proxy) as peer:
        peer.sendall(b"0123456789")
        got = b""
        with pytest.raises(ConnectionResetError):
            while True:
                piece = peer.recv(10)
                assert piece
                got += piece
        assert got == b"01234"


def test_refused_connections_are_reset(proxy: Proxy) -> None:
    """A new connection gets nowhere."""
    proxy.refusing = True
    with pytest.raises(ConnectionResetError), connect(proxy) as peer:
        peer.recv(1)
