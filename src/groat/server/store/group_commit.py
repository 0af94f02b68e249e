"""Group commit: requests that are in flight together share one durable transaction.

While one batch is being written the next one gathers, so an fsync is paid per batch and not per token. A batch is
one SQL statement: few calls into SQLite mean few waits for the interpreter lock. The worker processes queue up on a
file lock, which wakes the next one at once where SQLite's own busy handler would sleep and poll.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from groat.protocol.models import OneTimeValue
from groat.server.store import Receipt, StoreUnavailable

MAX_BATCH: Final = 256
MAX_WAITING: Final = 4096
DEADLINE_SECONDS: Final = 2.0

Connect = Callable[[], sqlite3.Connection]


@dataclass(slots=True)
class _Use:
    """One value on its way to the database, and who waits for the answer."""

    once: OneTimeValue
    token_id: str
    deadline: float
    future: "asyncio.Future[Receipt]" = field(repr=False)


@dataclass(slots=True)
class _Job:
    """Other work for the writer's connection, such as purging."""

    run: Callable[[sqlite3.Connection], int]
    future: "asyncio.Future[int]"


_Work = _Use | _Job | None  # None ends the thread


class GroupCommit:
    """The one writer of one process: a thread with its own connection."""

    def __init__(self, connect: Connect, lock_file: Path) -> None:
        self._connect = connect
        self._lock_file = lock_file
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._pending: deque[_Use] = deque()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def use_once(self, once: OneTimeValue, token_id: str) -> Receipt:
        """Wait for a durable answer. Raises StoreUnavailable: overloaded, too slow, or the database refused."""
        loop = self._loop or self._start()
        if self._queue.qsize() >= MAX_WAITING:
            raise StoreUnavailable("too many requests wait for the database")
        use = _Use(once, token_id, time.monotonic() + DEADLINE_SECONDS, loop.create_future())
        self._pending.append(use)
        self._queue.put(use)
        return await use.future

    async def run(self, work: Callable[[sqlite3.Connection], int]) -> int:
        """Run other work on the writer's connection, between batches."""
        loop = self._loop or self._start()
        job = _Job(work, loop.create_future())
        self._queue.put(job)
        return await job.future

    async def close(self) -> None:
        """Write what waits, then end the thread."""
        if self._watch is not None:
            self._watch.cancel()
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, DEADLINE_SECONDS)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_forever, name="groat-writer", daemon=True)
        self._thread.start()
        self._give_up_late()
        return self._loop

    def _give_up_late(self) -> None:
        """Answer those who waited too long: the writer may be stuck behind a lock or a slow disk."""
        now = time.monotonic()
        while self._pending and (self._pending[0].future.done() or self._pending[0].deadline < now):
            _fail([self._pending.popleft()], StoreUnavailable("the database did not answer in time"))
        assert self._loop is not None
        self._watch = self._loop.call_later(DEADLINE_SECONDS / 4, self._give_up_late)

    def _write_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        with _lock(self._lock_file) as lock:
            while (work := self._queue.get()) is not None:
                batch = self._gather(work)
                try:
                    connection = connection or self._connect()
                    with _held(lock):
                        results = _perform(connection, batch)
                    self._call(_succeed, batch, results)
                except sqlite3.Error as error:
                    self._call(_fail, batch, StoreUnavailable(f"SQLite: {error}"))
        if connection is not None:
            connection.close()

    def _gather(self, work: _Use | _Job) -> Sequence[_Use | _Job]:
        """One job alone, or all the uses that wait by now; those already given up are dropped unwritten."""
        if isinstance(work, _Job):
            return [work]
        batch, following = [work], None
        with contextlib.suppress(queue.Empty):
            while len(batch) < MAX_BATCH:
                following = self._queue.get_nowait()
                if not isinstance(following, _Use):
                    # Rare, and order does not matter: it goes to the back of the queue.
                    self._queue.put(following)
                    break
                batch.append(following)
        return [use for use in batch if not use.future.done()]

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _perform(connection: sqlite3.Connection, batch: Sequence[_Use | _Job]) -> Sequence[Receipt | int]:
    uses = [(work.once, work.token_id) for work in batch if isinstance(work, _Use)]
    if uses:
        return write_batch(connection, uses)
    return [work.run(connection) for work in batch if isinstance(work, _Job)]


def write_batch(connection: sqlite3.Connection, uses: Sequence[tuple[OneTimeValue, str]]) -> list[Receipt]:
    """Insert all values that are new, in one durable transaction, and say which uses came first.

    The registry version is read after the commit, so it is at least as new as every change committed before.
    """
    rows = [part for once, token_id in uses for part in (once.digest, token_id, once.expires_at)]
    values = ",".join(["(?,?,?)"] * len(uses))
    # IGNORE covers the primary key only; STRICT types and disk errors still raise.
    inserted = connection.execute(  # only placeholders are joined in
        f"INSERT INTO used_once (digest, token_id, expires_at) VALUES {values} ON CONFLICT DO NOTHING", rows
    ).rowcount
    if inserted == len(uses):
        fresh = [True] * len(uses)
    else:
        fresh = [_first_use(connection, once) == token_id for once, token_id in uses]
    (version,) = connection.execute("SELECT version FROM registry").fetchone()
    return [Receipt(first, version) for first in fresh]


def _first_use(connection: sqlite3.Connection, once: OneTimeValue) -> str:
    (token_id,) = connection.execute("SELECT token_id FROM used_once WHERE digest = ?", (once.digest,)).fetchone()
    return str(token_id)


def _succeed(waiters: Sequence[_Use | _Job], results: Sequence[Receipt | int]) -> None:
    for waiter, result in zip(waiters, results, strict=True):
        if not waiter.future.done():
            waiter.future.set_result(result)  # type: ignore[arg-type]


def _fail(waiters: Sequence[_Use | _Job], error: StoreUnavailable) -> None:
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _held(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
