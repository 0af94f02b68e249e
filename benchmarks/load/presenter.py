"""Presents assertions to replicas: in a closed loop, at a fixed rate, or many times at once; and writes the history.

All of it runs on one event loop and is bounded in count and time, so that it leaves the cores to the servers.
"""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import uvloop

from benchmarks.load.connection import Answer, Connection, Lost, Target, post_request
from benchmarks.load.history import AMBIGUOUS, UNSENT, Assertion, Presentation

ANSWER_SECONDS: Final = 10.0
PAUSE_AFTER_FAILURE: Final = 0.02
UNREACHABLE_PAUSE: Final = 0.1

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on an event loop as fast as the servers' own."""

    async def whole() -> Result:
        result = await work
        await asyncio.sleep(0.01)  # closed connections say goodbye in a later turn of the loop
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def _presentation(assertion: Assertion, target: Target, sent: float, answer: Answer | None) -> Presentation:
    now = time.monotonic()
    if answer is None:
        return Presentation(assertion, target.name, sent, now, AMBIGUOUS)
    token = json.loads(answer.body)["access_token"] if answer.status == 200 else None
    again = b"\r\nretry-after:" in answer.head.lower()
    return Presentation(assertion, target.name, sent, now, answer.status, token, again)


@dataclass(slots=True)
class Line:
    """One connection to one target, made anew whenever it was lost."""

    target: Target
    seconds: float = ANSWER_SECONDS
    _connection: Connection | None = None

    async def present(self, assertion: Assertion, since: float | None = None) -> Presentation:
        """Send once and never again; `since` is when it should have been sent (open loop)."""
        sent = time.monotonic() if since is None else since
        try:
            connection = await self._connected()
        except (OSError, TimeoutError):
            return Presentation(assertion, self.target.name, sent, time.monotonic(), UNSENT)
        try:
            answer = await connection.ask(post_request(assertion.body), self.seconds)
        except (Lost, TimeoutError):
            return _presentation(assertion, self.target, sent, None)
        return _presentation(assertion, self.target, sent, answer)

    async def _connected(self) -> Connection:
        if self._connection is None or not self._connection.open:
            self._connection = await Connection.connect(self.target, self.seconds)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def lines_to(targets: Sequence[Target], count: int, seconds: float = ANSWER_SECONDS) -> list[Line]:
    """So many lines, dealt out over the targets in turn."""
    return [Line(target, seconds) for target in itertools.islice(itertools.cycle(targets), count)]


async def closed_loop(
    assertions: Iterable[Assertion], targets: Sequence[Target], connections: int = 16, until: float = float("inf")
) -> list[Presentation]:
    """Every assertion once, each line sending its next when the last is answered; ends at `until` (monotonic)."""
    source = iter(assertions)
    history: list[Presentation] = []

    async def work(line: Line) -> None:
        for assertion in source:
            history.append(await line.present(assertion))
            if history[-1].status <= 0:
                await asyncio.sleep(PAUSE_AFTER_FAILURE)
            if time.monotonic() >= until:
                break
        line.close()

    await asyncio.gather(*(work(line) for line in lines_to(targets, connections)))
    return history


async def open_loop(
    assertions: Iterable[Assertion],
    targets: Sequence[Target],
    rate: float,
    connections: int = 256,
    seconds: float = ANSWER_SECONDS,
) -> list[Presentation]:
    """Every assertion once, `rate` a second whether answers come or not; waiting for a free line counts as latency."""
    free: asyncio.LifoQueue[Line] = asyncio.LifoQueue()
    lines = lines_to(targets, connections, seconds)
    for line in lines:
        free.put_nowait(line)
    history: list[Presentation] = []

    async def send(assertion: Assertion, due: float) -> None:
        line = await free.get()
        history.append(await line.present(assertion, due))
        free.put_nowait(line)

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, assertion in enumerate(assertions):
            due = begun + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            group.create_task(send(assertion, due))
    for line in lines:
        line.close()
    return history


async def storm(
    assertions: Iterable[Assertion], targets: Sequence[Target], copies: int = 8, groups: int = 4
) -> list[Presentation]:
    """Every assertion `copies` times at the same instant, over all targets; `groups` assertions at a time."""
    source = iter(assertions)
    history: list[Presentation] = []

    async def work() -> None:
        lines = lines_to(targets, copies)
        for assertion in source:
            # gather starts every copy in one turn of the loop: each connection is written before any is read.
            history.extend(await asyncio.gather(*(line.present(assertion) for line in lines)))
        for line in lines:
            line.close()

    await asyncio.gather(*(work() for _ in range(groups)))
    return history


@dataclass(slots=True)
class BackgroundLoad:
    """Load that goes on in a thread while a test breaks things: at most `rate` a second, each assertion once."""

    assertions: Sequence[Assertion]
    targets: Sequence[Target]
    rate: float = 400.0
    connections: int = 16
    seconds: float = ANSWER_SECONDS
    history: list[Presentation] = field(default_factory=list)
    unsent: int = 0  # tries that found nobody listening; such an assertion is presented again
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "BackgroundLoad":
        self._thread = threading.Thread(target=lambda: run(self._go()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(self.seconds + 10)
        assert not self._thread.is_alive()

    async def _go(self) -> None:
        source = iter(self.assertions)
        begun = time.monotonic()
        lines = lines_to(self.targets, self.connections, self.seconds)
        await asyncio.gather(*(self._work(line, source, begun, n) for n, line in enumerate(lines)))

    async def _work(self, line: Line, source: Iterator[Assertion], begun: float, number: int) -> None:
        """One line sends at its own beat; a beat that was missed while it waited is not made up for."""
        beat = self.connections / self.rate
        due = begun + beat * number / self.connections
        assertion = next(source, None)
        while assertion is not None and not self._stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            presentation = await line.present(assertion)
            due = max(due + beat, time.monotonic())
            if presentation.status == UNSENT:
                self.unsent += 1
                due += UNREACHABLE_PAUSE
            else:
                self.history.append(presentation)
                assertion = next(source, None)
        line.close()

    def since(self, moment: float) -> list[Presentation]:
        """What was sent after this moment (monotonic) and is answered by now."""
        return [presentation for presentation in list(self.history) if presentation.sent >= moment]
