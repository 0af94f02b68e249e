"""A small HTTP/1.1 client connection for load runs: one request at a time, kept alive, a few microseconds each.

It reads only what groat and nginx send to it: a status line, a Content-Length and a body. It is no general client.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Any, Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: the name for the history, and a TCP address; `tls`: whom to trust, where it speaks https."""

    name: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    head: bytes
    body: bytes


class Lost(ConnectionError):
    """The connection ended after the request was sent and before its answer was whole."""


class Connection(asyncio.Protocol):
    """One TCP connection. `ask` must not be called again before it has returned."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self.open = False

    @classmethod
    async def connect(cls, target: Target, seconds: float) -> "Connection":
        """Raises OSError, TimeoutError."""
        async with asyncio.timeout(seconds):
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(cls, target.host, target.port, ssl=target.tls)
        return connection

    def connection_made(self, transport: Any) -> None:
        self._transport, self.open = transport, True

    def send(self, request: bytes) -> "asyncio.Future[Answer]":
        """Write now; the future is the answer, or Lost."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.open:
            self._answer.set_exception(Lost())
        else:
            self._transport.write(request)
        return self._answer

    async def ask(self, request: bytes, seconds: float) -> Answer:
        """Send and wait. Raises Lost, TimeoutError (then the connection is closed)."""
        try:
            async with asyncio.timeout(seconds):
                return await self.send(request)
        except TimeoutError:
            self.close()
            raise

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[: end + 2])
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(self._buffer) < end + 4 + size:
            return
        answer = Answer(int(head[9:12]), head, bytes(self._buffer[end + 4 : end + 4 + size]))
        del self._buffer[: end + 4 + size]
        if _CLOSE.search(head):
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost())

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()


def post_request(body: bytes, host: str = "as.example") -> bytes:
    """`POST /token` with this form body."""
    return (
        b"POST /token HTTP/1.1\r\nHost: %b\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (host.encode(), len(body), body)
    )
