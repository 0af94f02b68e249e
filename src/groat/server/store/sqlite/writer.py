"""The writer of the SQLite store: a thread with its own connection, one batch at a time, one statement per batch.

A batch with proofs is two statements in one transaction: whose value was known loses no proof. Who owns a value is one
before these, and whoever does not has none of the rest written.

Few calls into SQLite mean few waits for the interpreter lock. The worker processes queue up on a file lock, which
wakes the next one at once where SQLite's own busy handler would sleep and poll.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from groat.protocol.revocation import RevokedToken
from groat.server.store import Notify, StoreClosed, StoreUnavailable, silent
from groat.server.store import registry_sql as sql
from groat.server.store.group_commit import GroupCommit, Use, Written, use_of_owner, use_of_proof
from groat.server.store.records import Lease, LeaseWish
from groat.server.store.sqlite.faults import (
    STUCK,
    TRIAL_SECONDS,
    WriteFaults,
    spoils_connection,
    stops_writing,
    write_something,
)
from groat.server.store.sqlite.file import SameFiles

CHECK_SECONDS: Final = 0.1
Connect = Callable[[], sqlite3.Connection]
COLUMNS = "digest, client_id, token_id, kid, issued_at, replica, expires_at"
_VALUES: Final = ", ".join(f"column{n}" for n in range(1, 8))  # the eighth is the value's own expiry
FRESH: Final = "column8 > (SELECT horizon FROM registry WHERE closed_at IS NULL)"
FORGET: Final = """
DELETE FROM used_once WHERE rowid IN (
    SELECT rowid FROM used_once WHERE expires_at <= (SELECT horizon FROM registry WHERE closed_at IS NULL)
    ORDER BY expires_at LIMIT ?)
"""


@dataclass(slots=True)
class _Job:
    """Other work for the writer's connection, such as purging."""

    run: Callable[[sqlite3.Connection], int]
    future: "asyncio.Future[int]" = field(repr=False)


_Work = list[Use] | _Job | None  # None ends the thread


class SqliteWriter:
    """A `Writer` on one file. `read_state`: registry version, floor and horizon, read on the loop after each commit."""

    def __init__(
        self,
        connect: Connect,
        read_state: Callable[[], tuple[int, float, float]],
        files: SameFiles,
        replica: str,
        retention: int,
        notify: Notify = silent,
    ) -> None:
        self._connect = connect
        self._read_state = read_state
        self._files = files
        self._lock_file = files.path.with_name(files.path.name + ".lock")
        self._checked = float("-inf")  # monotonic
        self._replica = replica
        self._retention = retention
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._front: GroupCommit | None = None
        self._faults = WriteFaults(lambda event, facts: self._call(notify, event, facts))
        self._trial: asyncio.Task[int] | None = None

    def start(self, front: GroupCommit) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_forever, name="groat-writer", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """A file is never known to be away: the next batch finds out."""

    def catch_up(self) -> None:
        """The thread answers by itself."""

    def lanes(self) -> int:
        return 1

    def write(self, batch: list[Use]) -> None:
        self._queue.put(batch)

    async def run(self, work: Callable[[sqlite3.Connection], int]) -> int:
        """Run other work on the writer's connection, between batches."""
        assert self._loop is not None
        job = _Job(work, self._loop.create_future())
        self._queue.put(job)
        return await job.future

    async def fault(self) -> str | None:
        """Why nothing can be written now, found out by writing unless that was done a moment ago."""
        if self._faults.fresh:
            return None
        if self._trial is None or self._trial.done():
            self._trial = asyncio.get_running_loop().create_task(self.run(write_something))
        done, _ = await asyncio.wait([self._trial], timeout=TRIAL_SECONDS)
        if not done:
            self._faults.found(STUCK)
        elif (error := self._trial.exception()) is not None:
            return str(error)
        return self._faults.fault

    async def close(self) -> None:
        """End the thread; it may be stuck behind a lock, and is not waited for then."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, 2.0)

    def _write_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        lock: int | None = None
        while (work := self._queue.get()) is not None:
            try:
                # Opened when needed and until it works: what is missing now may be there for the next batch.
                lock = lock or _open_lock(self._lock_file)
                connection = connection or self._connect()
                with _held(lock):
                    self._check_files()
                    self._perform(connection, work)
            except Exception as error:  # whatever it is, the thread must live on and somebody waits for an answer
                failure = error if isinstance(error, StoreUnavailable) else StoreUnavailable(f"SQLite: {error}")
                if connection is None or stops_writing(error):
                    self._faults.found(str(failure))
                connection = _kept(connection, error)
                self._call(self._failed, work, failure)
        if connection is not None:
            connection.close()
        if lock is not None:
            os.close(lock)

    def _check_files(self) -> None:
        """Now and then, and at each work while it fails: what is written to files that moved is soon forgotten."""
        now = time.monotonic()
        if now - self._checked > CHECK_SECONDS:
            self._files.check()
            self._checked = now

    def _perform(self, connection: sqlite3.Connection, work: list[Use] | _Job) -> None:
        before = connection.total_changes
        answer = self._done(connection, work)
        if connection.total_changes != before:  # work that finds nothing to write succeeds on a full disk, too
            self._faults.wrote()
        self._call(*answer)

    def _done(self, connection: sqlite3.Connection, work: list[Use] | _Job) -> tuple[Any, ...]:
        """Do it; returns how to answer."""
        if isinstance(work, _Job):
            return _set_result, work.future, work.run(connection)
        # Whoever was answered 503 while this waited for the lock must not have his jti spent now.
        live = [use for use in work if not use.future.done()]
        fresh, proofs = self._insert_all(connection, live) if live else ([], [])
        if len(live) < len(work):
            fresh = _among(work, live, fresh)
            proofs = _among(work, live, proofs) if proofs else []
        return self._written, work, fresh, proofs

    def _insert_all(self, connection: sqlite3.Connection, uses: Sequence[Use]) -> tuple[list[bool], list[bool]]:
        """Which uses came first, and of which the proofs did; nothing of the second where there are no proofs."""
        bound = [use for use in uses if use.proof is not None or use.owned is not None]
        if not bound:
            return self._insert(connection, uses), []
        connection.execute("BEGIN IMMEDIATE")
        counting = self._owning(connection, uses)
        fresh = _among(uses, counting, self._insert(connection, counting)) if counting else [False] * len(uses)
        first = {use.issuance.token_id for use, won in zip(uses, fresh, strict=True) if won}
        bound = [use for use in bound if use.proof is not None and use.issuance.token_id in first]
        proven = self._insert(connection, [use_of_proof(use) for use in bound]) if bound else []
        connection.execute("COMMIT")
        return fresh, _among(uses, bound, proven)

    def _owning(self, connection: sqlite3.Connection, uses: Sequence[Use]) -> Sequence[Use]:
        """The uses without those of a value that somebody else owns; from now on, if nobody did before."""
        claims = [use for use in uses if use.owned is not None]
        if not claims:
            return uses
        mine = self._insert(connection, [use_of_owner(use) for use in claims])
        others = {use.issuance.token_id for use, owns in zip(claims, mine, strict=True) if not owns}
        return [use for use in uses if use.issuance.token_id not in others]

    def _insert(self, connection: sqlite3.Connection, uses: Sequence[Use]) -> list[bool]:
        """Insert all values that are new, durably unless a transaction is open, and say which uses came first."""
        rows = [part for use in uses for part in self._row(use)]
        values = ",".join(["(?,?,?,?,?,?,?,?)"] * len(uses))
        # IGNORE covers the primary key only; STRICT types and disk errors still raise.
        inserted = connection.execute(  # only placeholders are joined in
            f"INSERT INTO used_once ({COLUMNS}) SELECT {_VALUES} FROM (VALUES {values}) "
            f"WHERE {FRESH} ON CONFLICT DO NOTHING",
            rows,
        ).rowcount
        if inserted == len(uses):
            return [True] * len(uses)
        return [_came_first(connection, use) for use in uses]

    def _row(self, use: Use) -> tuple[object, ...]:
        once, issuance = use.once, use.issuance
        kept_until = max(once.expires_at, issuance.issued_at + max(self._retention, issuance.keep))
        return (once.digest, issuance.client_id, issuance.token_id, issuance.kid, issuance.issued_at, self._replica,
                kept_until, once.expires_at)  # fmt: skip

    def _written(self, batch: list[Use], fresh: list[bool], proofs: list[bool]) -> None:
        """The version is read now, after every change that was committed before the batch."""
        assert self._front is not None
        try:
            version, floor, horizon = self._read_state()
        except StoreUnavailable as error:
            self._front.refused(batch, error)
            return
        self._front.written(batch, Written(fresh, version, floor, horizon, proofs))

    def _failed(self, work: list[Use] | _Job, error: StoreUnavailable) -> None:
        if isinstance(work, _Job):
            if not work.future.done():
                work.future.set_exception(error)
        elif self._front is not None:
            self._front.refused(work, error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def take_back(token: RevokedToken, connection: sqlite3.Connection) -> int:
    """Remember that it was taken back; returns whether the store takes anything. Whoever repeats it wakes nobody."""
    connection.execute("BEGIN IMMEDIATE")
    (known,) = connection.execute(sql.IS_REVOKED.sqlite, (token.digest,)).fetchone()[1:]
    done = connection.execute(sql.REVOKE_TOKEN.sqlite, token.row).rowcount
    if done and not known:
        connection.execute(sql.RAISE_SEQ.sqlite, (token.made_at * 1000,))
    connection.execute("COMMIT")
    return done


def take_lease(wish: LeaseWish, connection: sqlite3.Connection) -> list[Lease]:
    """One, or none where the store takes nothing any more."""
    rows = connection.execute(sql.LEASE.sqlite, wish[:4]).fetchall()
    rows = rows or connection.execute(sql.OPEN_LIST.sqlite, wish).fetchall()
    return [Lease(list_id, start, wish.size, closes_at) for list_id, start, closes_at in rows]


def _among(batch: Sequence[Use], some: Sequence[Use], won: Sequence[bool]) -> list[bool]:
    """The same for the whole batch, where nobody else has won anything."""
    first = {use.issuance.token_id for use, one in zip(some, won, strict=True) if one}
    return [use.issuance.token_id in first for use in batch]


def _came_first(connection: sqlite3.Connection, use: Use) -> bool:
    row = connection.execute("SELECT token_id FROM used_once WHERE digest = ?", (use.once.digest,)).fetchone()
    if row is not None:
        return str(row[0]) == use.issuance.token_id
    # Neither inserted nor there before. A horizon that was in its way still is: it never goes down.
    (horizon,) = connection.execute("SELECT horizon FROM registry").fetchone() or (0,)
    if use.once.expires_at <= horizon:
        return False
    raise StoreClosed


def _kept(connection: sqlite3.Connection | None, error: Exception) -> sqlite3.Connection | None:
    """The connection for the next work; what one that failed may never do again, a new one may."""
    if connection is None:
        return None
    if spoils_connection(error):
        connection.close()
        return None
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    return connection


def _set_result(future: "asyncio.Future[int]", result: int) -> None:
    if not future.done():
        future.set_result(result)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def _held(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
