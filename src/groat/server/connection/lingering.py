"""Closes a connection so that the peer can read the answer that ends it (RFC 9112 9.6).

Closing while bytes of the request are unread or on their way resets the connection, and a reset may overtake the
answer: a proxy then tells its client 502 where we said 413. So the write side is closed first, and what still comes is
read and thrown away, for a bounded time and a bounded number of bytes; of many that linger the oldest goes first.
"""

import asyncio
from typing import Any, Final

from groat.server.connection.states import LINGER_SECONDS

MAX_LINGERED_BYTES: Final = 4 * 1024 * 1024
FLUSH_SECONDS: Final = 5.0


class Lingering(asyncio.Protocol):
    """Stands in for the protocol of a connection whose last answer was written."""

    def __init__(self, transport: Any, before: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._before = before
        self._left = MAX_LINGERED_BYTES
        self._timer = loop.call_later(LINGER_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Nobody reads this, and there is an end to it."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def eof_received(self) -> None:
        """The peer has sent all it wanted; the transport closes itself."""

    def pause_writing(self) -> None:
        """Nothing more is written."""

    def resume_writing(self) -> None:
        """Nothing more is written."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._before.connection_lost(exc)


def linger(transport: Any) -> None:
    """End a connection after what was written to it, once its peer closes or 5 seconds have passed."""
    if transport.is_closing():
        return
    transport.set_protocol(Lingering(transport, transport.get_protocol(), asyncio.get_running_loop()))
    transport.resume_reading()  # a peer that is still sending may be waiting for us to read
    if transport.can_write_eof():  # TLS has no half of a connection
        transport.write_eof()


def close(transport: Any) -> None:
    """End a connection after what was written to it; a peer that does not read that is not waited for long."""
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, transport.abort)
