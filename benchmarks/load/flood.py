"""Presents assertions as cheaply as Python can: a flood's sender must leave the cores to the server.

No task, no future and no timer of its own for any request, as `presenter.open_loop` has them.
Connections are made before the flood begins and are not made anew.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.load.connection import Target, post_request
from benchmarks.load.history import AMBIGUOUS, UNSENT, Assertion, Presentation

TICK_SECONDS: Final = 0.001
_AT_ONCE: Final = 64  # connections that are made together: more would overflow the listener's queue
_TOKEN: Final = b'"access_token":"'


class _Line(asyncio.Protocol):
    """One connection: at most one request at a time."""

    __slots__ = ("assertion", "due", "flood", "parts", "transport")

    def __init__(self, flood: "Flood") -> None:
        self.flood = flood
        self.assertion: Assertion | None = None
        self.due = 0.0
        self.parts = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, assertion: Assertion, due: float) -> None:
        self.assertion, self.due = assertion, due
        self.transport.write(post_request(assertion.body))

    def data_received(self, data: bytes) -> None:
        if self.parts:
            data = self.parts + data
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ", 0, end)
        if end < 0 or len(data) < end + 4 + int(data[at + 16 : data.index(b"\r", at)]):
            self.parts = data
            return
        self.parts = b""
        self.flood.answered(self, int(data[9:12]), data, end)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.flood.lost(self)


@dataclass(slots=True)
class Flood:
    """Sends to one server that answers as groat does: a Content-Length in each answer, header names in lower case."""

    target: Target
    history: list[Presentation] = field(default_factory=list)
    _source: Iterator[Assertion] = field(default_factory=lambda: iter(()))
    _free: "deque[_Line]" = field(default_factory=deque)
    _open: int = 0

    async def connect(self, connections: int) -> None:
        """Raises OSError when one of them cannot be made."""
        loop = asyncio.get_running_loop()
        host, port = self.target.host, self.target.port
        for begun in range(0, connections, _AT_ONCE):
            some = range(min(_AT_ONCE, connections - begun))
            pairs = await asyncio.gather(*(loop.create_connection(lambda: _Line(self), host, port) for _ in some))
            self._free.extend(line for _, line in pairs)
        self._open = connections

    async def send(self, assertions: Sequence[Assertion], rate: float, patience: float = 60.0) -> list[Presentation]:
        """`rate` a second, however slow the answers are (infinite: as fast as they come); ends when all are in.

        A request for which no connection is free waits, and its latency counts from the moment it was due. What has no
        answer `patience` seconds after the last was due is AMBIGUOUS, or UNSENT if no connection is left for it.
        """
        if rate == float("inf"):
            return await self._closed_loop(assertions, patience)
        begun = time.monotonic()
        sent = 0
        while sent < len(assertions) and self._open:
            due = min(len(assertions), int((time.monotonic() - begun) * rate) + 1)
            while sent < due and self._free:
                self._free.pop().send(assertions[sent], begun + sent / rate)
                sent += 1
            await asyncio.sleep(TICK_SECONDS)
        await self._all_answered(patience)
        now = time.monotonic()
        unsent = [Presentation(assertion, self.target.name, now, now, UNSENT) for assertion in assertions[sent:]]
        return self._taken() + unsent

    async def _closed_loop(self, assertions: Sequence[Assertion], patience: float) -> list[Presentation]:
        """Each line sends its next when it has its answer, without a turn of the loop between."""
        self._source = iter(assertions)
        for line in list(self._free):
            if (assertion := next(self._source, None)) is not None:
                self._free.remove(line)
                line.send(assertion, time.monotonic())
        await self._all_answered(patience)
        now = time.monotonic()
        unsent = [Presentation(assertion, self.target.name, now, now, UNSENT) for assertion in self._source]
        return self._taken() + unsent

    async def _all_answered(self, patience: float) -> None:
        """Until every line is free, or none has been answered for so long."""
        deadline, seen = time.monotonic() + patience, 0
        while len(self._free) < self._open and time.monotonic() < deadline:
            await asyncio.sleep(TICK_SECONDS)
            if len(self.history) > seen:
                deadline, seen = time.monotonic() + patience, len(self.history)

    def _taken(self) -> list[Presentation]:
        history, self.history = self.history, []
        return history

    def answered(self, line: _Line, status: int, data: bytes, end: int) -> None:
        assert line.assertion is not None
        token = None
        if status == 200:
            at = data.index(_TOKEN, end) + len(_TOKEN)
            token = data[at : data.index(b'"', at)].decode()
        again = status == 503 and data.find(b"\r\nretry-after:", 0, end) > 0
        now, name = time.monotonic(), self.target.name
        self.history.append(Presentation(line.assertion, name, line.due, now, status, token, again))
        line.assertion = next(self._source, None)
        if line.assertion is None:
            self._free.append(line)
        else:
            line.send(line.assertion, now)

    def lost(self, line: _Line) -> None:
        self._open -= 1
        if line.assertion is not None:
            now = time.monotonic()
            self.history.append(Presentation(line.assertion, self.target.name, line.due, now, AMBIGUOUS))
            line.assertion = None
        elif line in self._free:
            self._free.remove(line)

    async def close(self) -> None:
        for line in list(self._free):
            line.transport.close()
        await asyncio.sleep(0.05)
