"""One request and its answer, which goes out in one write."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

READ_SECONDS: Final = 5.0  # for a peer to go on reading its answers
_CLOSE: Final = (b"connection", b"close")


class OneWriteCycle(RequestResponseCycle):
    """One request and its answer: head and body go out in one write. Not for streams, which this server has none of."""

    _start: Any = None
    _taken = False

    async def receive(self) -> Any:
        """What is here, at the first call: nearly always the whole body, perhaps none of it; then what comes.

        So who asks knows, before it waits for the peer, that it will.
        """
        if self._taken or self.disconnected or self.response_complete:
            return await super().receive()
        self._taken = True
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        """Take an ASGI message; nothing is sent before the body, which must come whole."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self.flow.write_paused and not self.disconnected:
            await self._drain()
        if not self.disconnected:
            self._answer(self._start["status"], self._start["headers"], message["body"])

    async def _drain(self) -> None:
        """Wait for a peer that does not read, and not for ever."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self.flow.drain()
        except TimeoutError:
            self.end()
            self.transport.abort()

    def end(self) -> None:
        """Write nothing more, whatever the application has to say."""
        self.disconnected = True
        self.waiting_for_100_continue = False
        self.message_event.set()

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if not self.keep_alive or _CLOSE in headers:
            self.keep_alive = False
            headers = [_CLOSE, *(header for header in headers if header != _CLOSE)]
        fields = b"\r\n".join(map(b": ".join, (*self.default_headers, *headers)))
        breaks = len(headers) + len(self.default_headers) - 1
        if fields.count(b"\n") != breaks or fields.count(b"\r") != breaks:
            raise RuntimeError("a line break in a header")
        self.response_started = self.response_complete = True
        self.transport.write(b"".join((STATUS_LINE[status], fields, b"\r\n\r\n", body)))
        self.message_event.set()
        self.on_response()
