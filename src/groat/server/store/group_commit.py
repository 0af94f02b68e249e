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
GATHER_UP_TO: Final = 32
QUIET_TURNS: Final = 3
MAX_TURNS: Final = 32

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


_Batch = Sequence[_Use] | _Job | None  # None ends the thread


class GroupCommit:
    """The one writer of one process: a thread with its own connection.

    The event loop decides what is written together, so that no state is shared: a batch is what asks while the loop
    has other requests in hand, and while the batch before it is being written. Waiting for those in hand costs less
    than it saves: they share the write, and their signatures are made in one go while the caches hold the curve's
    tables (docs/decisions/0006-hot-path.md).
    """

    def __init__(self, connect: Connect, read_version: Callable[[], int], lock_file: Path) -> None:
        self._connect = connect
        self._read_version = read_version
        self._lock_file = lock_file
        self._waiting: deque[_Use] = deque()
        self._writing: Sequence[_Use] = ()
        self._scheduled = False
        self._queue: queue.SimpleQueue[_Batch] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def use_once(self, once: OneTimeValue, token_id: str) -> Receipt:
        """Wait for a durable answer. Raises StoreUnavailable: overloaded, too slow, or the database refused."""
        loop = self._loop or self._start()
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("too many requests wait for the database")
        use = _Use(once, token_id, time.monotonic() + DEADLINE_SECONDS, loop.create_future())
        self._waiting.append(use)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._gather, loop)
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
            waiting = [use.future for use in (*self._writing, *self._waiting)]
            if waiting:
                await asyncio.wait(waiting, timeout=DEADLINE_SECONDS)
            _fail((*self._writing, *self._waiting), StoreUnavailable("the store is closing"))
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, DEADLINE_SECONDS)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_forever, name="groat-writer", daemon=True)
        self._thread.start()
        self._give_up_late()
        return self._loop

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int = 0, quiet: int = 0, turns: int = 0) -> None:
        """Write as soon as a few turns of the loop bring nobody new, or enough have come."""
        waiting = len(self._waiting)
        quiet = quiet + 1 if waiting == seen else 0
        if quiet >= QUIET_TURNS or waiting >= GATHER_UP_TO or turns >= MAX_TURNS:
            self._write_next()
        else:
            loop.call_soon(self._gather, loop, waiting, quiet, turns + 1)

    def _write_next(self) -> None:
        """Hand the next batch to the thread; those who were given up already are dropped unwritten."""
        batch: list[_Use] = []
        while self._waiting and len(batch) < MAX_BATCH:
            use = self._waiting.popleft()
            if not use.future.done():
                batch.append(use)
        self._writing = batch
        self._scheduled = bool(batch)
        if batch:
            self._queue.put(batch)

    def _continue(self) -> None:
        """After a batch: gather the next, if anybody waits."""
        self._writing = ()
        self._scheduled = bool(self._waiting)
        if self._waiting:
            assert self._loop is not None
            self._gather(self._loop)

    def _written(self, batch: Sequence[_Use], fresh: Sequence[bool]) -> None:
        """Answer a batch that is durable; the version is read now, after every change committed before it."""
        try:
            version = self._read_version()
        except StoreUnavailable as error:
            self._refused(batch, error)
            return
        for use, first in zip(batch, fresh, strict=True):
            if not use.future.done():
                use.future.set_result(Receipt(first, version))
        self._continue()

    def _refused(self, batch: Sequence[_Use], error: StoreUnavailable) -> None:
        _fail(batch, error)
        self._continue()

    def _give_up_late(self) -> None:
        """Answer those who waited too long: the writer may be stuck behind a lock or a slow disk."""
        now = time.monotonic()
        late = [use for use in (*self._writing, *self._waiting) if use.deadline < now]
        _fail(late, StoreUnavailable("the database did not answer in time"))
        assert self._loop is not None
        self._watch = self._loop.call_later(DEADLINE_SECONDS / 4, self._give_up_late)

    def _write_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        lock: int | None = None
        while (batch := self._queue.get()) is not None:
            try:
                # Opened when needed and until it works: what is missing now may be there for the next batch.
                lock = lock or _open_lock(self._lock_file)
                connection = connection or self._connect()
                with _held(lock):
                    self._perform(connection, batch)
            except Exception as error:  # whatever it is, the thread must live on and somebody waits for an answer
                self._answer_error(batch, StoreUnavailable(f"SQLite: {error}"))
        if connection is not None:
            connection.close()
        if lock is not None:
            os.close(lock)

    def _perform(self, connection: sqlite3.Connection, batch: Sequence[_Use] | _Job) -> None:
        if isinstance(batch, _Job):
            self._call(_set_result, batch.future, batch.run(connection))
        else:
            # Whoever was answered 503 while this waited for the lock must not have his jti spent now.
            live = [use for use in batch if not use.future.done()]
            fresh = write_batch(connection, [(use.once, use.token_id) for use in live]) if live else []
            self._call(self._written, live, fresh)

    def _answer_error(self, batch: Sequence[_Use] | _Job, error: StoreUnavailable) -> None:
        if isinstance(batch, _Job):
            self._call(_fail, [batch], error)
        else:
            self._call(self._refused, batch, error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def write_batch(connection: sqlite3.Connection, uses: Sequence[tuple[OneTimeValue, str]]) -> list[bool]:
    """Insert all values that are new, in one durable transaction, and say which uses came first."""
    rows = [part for once, token_id in uses for part in (once.digest, token_id, once.expires_at)]
    values = ",".join(["(?,?,?)"] * len(uses))
    # IGNORE covers the primary key only; STRICT types and disk errors still raise.
    inserted = connection.execute(  # only placeholders are joined in
        f"INSERT INTO used_once (digest, token_id, expires_at) VALUES {values} ON CONFLICT DO NOTHING", rows
    ).rowcount
    if inserted == len(uses):
        return [True] * len(uses)
    return [_first_use(connection, once) == token_id for once, token_id in uses]


def _first_use(connection: sqlite3.Connection, once: OneTimeValue) -> str:
    (token_id,) = connection.execute("SELECT token_id FROM used_once WHERE digest = ?", (once.digest,)).fetchone()
    return str(token_id)


def _set_result(future: "asyncio.Future[int]", result: int) -> None:
    if not future.done():
        future.set_result(result)


def _fail(waiters: Sequence[_Use | _Job], error: StoreUnavailable) -> None:
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def _held(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
