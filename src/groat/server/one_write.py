"""uvicorn's HTTP/1.1 protocol with one system call per response, and with bounds on what a request head may take.

uvicorn writes headers and body one after the other, and each would be a packet; what is written in one turn of the
event loop goes out together at its end (docs/decisions/0006-hot-path.md). httptools bounds neither the size of a head
nor the time it takes, so an anonymous peer could fill the memory or hold connections for ever.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from groat.protocol.errors import InvalidRequest
from groat.server.http import refusal_body

MAX_HEAD_BYTES: Final = 32 * 1024  # checked per chunk read, so one chunk more may be held
HEAD_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 1.0
_MALFORMED: Final = b"".join(
    (
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n",
        b"cache-control: no-store\r\npragma: no-cache\r\n",
        b"content-length: %d\r\n" % len(refusal_body(InvalidRequest("head"))),
    )
)


class GatheringTransport:
    """A transport that keeps what is written until the end of the turn; everything else goes straight through."""

    __slots__ = ("_loop", "_parts", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWriteProtocol(HttpToolsProtocol):
    """One connection. A head over 32 KiB is answered 400, one that takes over 10 seconds is cut off."""

    _heads = 0  # complete heads so far
    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _draining = False

    def shutdown(self) -> None:
        """Let the peer send one more request: it may be on its way, and closing now would reset it."""
        self._draining = True
        if self._is_busy():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(DRAIN_SECONDS, self._close_if_idle)

    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first head, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _close_if_idle(self) -> None:
        if not self._is_busy() and not self.transport.is_closing():
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        began_in_head, heads = self._in_head, self._heads
        super().data_received(data)
        # Nearly every chunk holds a whole request; only what leaves a head unfinished is counted.
        if began_in_head and self._in_head and heads == self._heads:
            self._unfinished(len(data))

    def _unfinished(self, size: int) -> None:
        self._head_bytes += size
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._cut_off)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request head is too large.")

    def on_headers_complete(self) -> None:
        self._heads += 1
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()
        if self._draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP as every other malformed request; `msg` is for the log alone."""
        date = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(_MALFORMED + date + b"\r\n" + refusal_body(InvalidRequest("head")))
        self.transport.close()

    def _cut_off(self) -> None:
        self._head_timer = None
        self.transport.close()
