"""The listening socket at the end of a server's life, with real connections."""

import errno
import select
import socket

import pytest

from groat.serving.listening import bind, refuse_newcomers
from tests.missing import on_linux


@pytest.mark.rule("F12")
@on_linux  # nobody else can turn newcomers away before he closes
def test_whoever_comes_after_the_last_accept_is_refused_and_not_reset() -> None:
    """Connections from before are accepted and work; one that begins later is never connected, and refused at the end."""
    listener = bind("127.0.0.1", 0)
    listener.listen(16)
    listener.setblocking(False)
    address = listener.getsockname()
    before = [socket.create_connection(address, 5) for _ in range(3)]
    refuse_newcomers(listener)
    late = socket.socket()
    late.setblocking(False)
    late.connect_ex(address)
    assert select.select([], [late], [], 0.3)[1] == [], "not connected"
    accepted = [listener.accept()[0] for _ in before]
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()
    for client, server in zip(before, accepted, strict=True):
        client.sendall(b"question")
        assert server.recv(8) == b"question"
        server.sendall(b"answer")
        assert client.recv(8) == b"answer"
    assert select.select([], [late], [], 10)[1] == [late]
    assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    for connection in (*before, *accepted, late):
        connection.close()
