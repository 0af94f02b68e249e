"""Group commit: requests that are in flight together share one durable transaction.

While one batch is being written the next one gathers, so an fsync is paid per batch and not per token. This is the
front, the same for every engine: it decides on the event loop what is written together, bounds the queue by count,
by expected wait and by a deadline, and answers. A `Writer` behind it does the writing.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.store import BeforeFloor, BeforeHorizon, Issuance, Owned, Receipt, StoreBusy, StoreUnavailable
from groat.server.turns import Turns

MAX_BATCH: Final = 256
MAX_WAITING: Final = 4096
GATHER_UP_TO: Final = 16
MIN_TURNS: Final = 2
MAX_TURNS: Final = 64
PATIENCE_SECONDS: Final = 0.001  # the finest that the event loop's timers can do
SLOW_SECONDS: Final = 0.02
WATCH_SECONDS: Final = 0.04
BEFORE_HORIZON: Final = (
    "this assertion ended before what the store may have forgotten, though not by this server's clock; set the clock"
)
BEFORE_FLOOR: Final = "older than the store's memory (it was restored); sign anew. For a join code: groat client invite"
BUSY: Final = "more requests wait for the database than it can take; nothing was used up, try again"


@dataclass(slots=True)
class Use:
    """One value on its way to the database, and who waits for the answer. `since`: monotonic seconds.

    `proof`: a second value of the same request, that counts only together with the first. `owned`: one that must be
    owned by this use's caller, or the first does not count.
    """

    once: OneTimeValue
    issuance: Issuance
    since: float
    future: "asyncio.Future[Receipt]" = field(repr=False)
    proof: OneTimeValue | None = None
    owned: Owned | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long somebody waits at most, in seconds: to be sent (he is not used up before), and in all."""

    queue_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Written:
    """A batch that is durable: which uses came first, and what the store said of itself with them.

    In epoch seconds: the store's memory is complete for values that were made from `floor` on and end after `horizon`.
    `proofs`: which of their proofs came first; empty where no use of the batch had any.
    """

    fresh: Sequence[bool]
    registry_version: int
    floor: float
    horizon: float
    proofs: Sequence[bool] = ()


class Writer(Protocol):
    """What writes batches. Every batch is answered once, on the loop, by `written` or `refused` of the front."""

    def start(self, front: "GroupCommit") -> None: ...

    def check(self) -> None:
        """Raise StoreUnavailable while it is known that nothing can be written."""
        ...

    def catch_up(self) -> None:
        """Take answers that have arrived and were not looked at yet, because this loop was late."""
        ...

    def lanes(self) -> int:
        """How many batches may be under way at once now; 0 while there is no connection."""
        ...

    def write(self, batch: list[Use]) -> None: ...

    async def close(self) -> None: ...


class GroupCommit:
    """The queue of one process.

    A batch is what asks while the loop has other requests in hand, and while the batches before it are being written.
    Waiting for those in hand costs less than it saves: they share the write, and their signatures are made in one go
    while the caches hold the curve's tables (docs/decisions/0006-hot-path.md).
    """

    def __init__(self, writer: Writer, limits: Limits) -> None:
        self._writer = writer
        self._limits = limits
        self._waiting: deque[Use] = deque()
        self._writing: dict[int, tuple[list[Use], float]] = {}
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._batch_seconds = 0.0
        self._last_sent = 0.0
        self._floor = 0.0
        self._horizon = 0.0
        self.turns = Turns()  # nobody is in it, unless it is everybody's
        self._expected = 0  # how many come together these days
        self._patience: asyncio.TimerHandle | None = None

    async def use_once(
        self,
        once: OneTimeValue,
        issuance: Issuance | None,
        proof: OneTimeValue | None = None,
        owned: Owned | None = None,
    ) -> Receipt:
        """Wait for a durable answer. Raises StoreUnavailable: overloaded, too slow, or the database refused."""
        loop = self.started()
        self._refuse_early(once)
        if proof is not None:
            self._check_memory(proof)
        if owned is not None:
            self._check_memory(owned.value)
        use = Use(once, issuance or _no_token(once), time.monotonic(), loop.create_future(), proof, owned)
        self._waiting.append(use)
        if not self._scheduled and self._may_write(use.since):
            self._scheduled = True
            loop.call_soon(self._gather, loop)
        elif self._patience is not None and len(self._waiting) >= self._expected:
            self._end_patience(loop)
        return await use.future

    def _refuse_early(self, once: OneTimeValue) -> None:
        """Refuse what would wait too long, or could not be believed, before anything is used up."""
        self._writer.check()
        waiting = len(self._waiting)
        if waiting >= MAX_WAITING or (
            waiting >= MAX_BATCH and self._expected_wait(waiting) > self._limits.queue_seconds
        ):
            raise StoreBusy(BUSY)
        self._check_memory(once)

    def _expected_wait(self, waiting: int) -> float:
        return waiting / MAX_BATCH * self._batch_seconds / max(self._writer.lanes(), 1)

    def _check_memory(self, once: OneTimeValue) -> None:
        if once.signed_at < self._floor:
            raise BeforeFloor(BEFORE_FLOOR)
        if once.expires_at <= self._horizon:
            raise BeforeHorizon(BEFORE_HORIZON)

    async def close(self) -> None:
        """Write what waits, then end."""
        self._expected = 0
        if self._watch is not None:
            self._watch.cancel()
        if self._loop is None:
            return
        if waiting := [use.future for use in self._unanswered()]:
            await asyncio.wait(waiting, timeout=self._limits.total_seconds)
        _fail(self._unanswered(), StoreUnavailable("the store is closing"))
        await self._writer.close()

    def started(self) -> asyncio.AbstractEventLoop:
        """The loop that the queue belongs to: the one that was running at its first use."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._writer.start(self)
            self._keep_watch()
        return self._loop

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int = 0, turns: int = 0) -> None:
        """Write as soon as nobody is on the way to here and as many wait as came the last time, or enough.

        Those who are missing get a millisecond, and another one whenever it brought somebody.
        """
        waiting = len(self._waiting)
        if waiting >= GATHER_UP_TO or turns >= MAX_TURNS:
            self._scheduled = False
            self._write()
        elif self.turns.pending or turns < MIN_TURNS:
            loop.call_soon(self._gather, loop, seen, turns + 1)
        elif seen < waiting < self._expected:
            self._patience = loop.call_later(PATIENCE_SECONDS, self._end_patience, loop, waiting)
        else:
            self._scheduled = False
            self._write()

    def _end_patience(self, loop: asyncio.AbstractEventLoop, seen: int = 0) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            self._gather(loop, seen)

    def _may_write(self, now: float) -> bool:
        """One batch at a time, so that the next can gather; another beside it only while the database is slow."""
        if len(self._writing) >= self._writer.lanes():
            return False
        return not self._writing or now - self._last_sent > SLOW_SECONDS

    def _write(self) -> None:
        """Hand over what waits; those who were given up already are dropped unwritten."""
        while self._waiting and self._may_write(now := time.monotonic()):
            if batch := self._next_batch():
                self._expected = min(max(len(batch), self._expected - 1), GATHER_UP_TO)
                self._writing[id(batch)] = (batch, now)
                self._last_sent = now
                self._writer.write(batch)

    def _next_batch(self) -> list[Use]:
        batch: list[Use] = []
        while self._waiting and len(batch) < MAX_BATCH:
            use = self._waiting.popleft()
            if not use.future.done():
                batch.append(use)
        return batch

    def write_next(self) -> None:
        """A lane is free: gather the next batch, if anybody waits."""
        if self._waiting and not self._scheduled and self._may_write(time.monotonic()):
            assert self._loop is not None
            self._scheduled = True
            self._loop.call_soon(self._gather, self._loop)

    def written(self, batch: list[Use], result: Written) -> None:
        """Answer a batch that is durable, in its order."""
        _, began = self._writing.pop(id(batch))
        self._batch_seconds += (time.monotonic() - began - self._batch_seconds) / 8
        self._floor = max(self._floor, result.floor)  # answers may overtake each other
        self._horizon = max(self._horizon, result.horizon)
        for use, fresh, proven in zip(batch, result.fresh, result.proofs or result.fresh, strict=True):
            if not use.future.done():
                self._answer(use, fresh, proven, result.registry_version)
        self.write_next()

    def _answer(self, use: Use, fresh: bool, proven: bool, version: int) -> None:
        if fresh and use.once.signed_at < self._floor:
            use.future.set_exception(BeforeFloor(BEFORE_FLOOR))
        elif not fresh and use.once.expires_at <= self._horizon:
            use.future.set_exception(BeforeHorizon(BEFORE_HORIZON))  # never written: the row of a first use may be gone
        elif (use.proof is not None or use.owned is not None) and (fault := self._beyond_memory(use, fresh, proven)):
            use.future.set_exception(fault)
        else:
            use.future.set_result(Receipt(fresh, version, proven or use.proof is None))

    def _beyond_memory(self, use: Use, fresh: bool, proven: bool) -> StoreUnavailable | None:
        """Why nobody can tell whether what came beside the first value was used before; None: it is as it was told."""
        beside = [] if use.owned is None else [(use.owned.value, fresh)]
        if use.proof is not None and fresh:
            beside.append((use.proof, proven))
        for value, counts in beside:
            if counts and value.signed_at < self._floor:
                return BeforeFloor(BEFORE_FLOOR)
            if not counts and value.expires_at <= self._horizon:
                return BeforeHorizon(BEFORE_HORIZON)
        return None

    def refused(self, batch: list[Use], error: StoreUnavailable) -> None:
        """Answer a batch that was not written, or of which nobody knows."""
        self._writing.pop(id(batch), None)
        _fail(batch, error)
        self.write_next()

    def refuse_all(self, error: StoreUnavailable) -> None:
        """Answer everybody who still waits: the database went away. What is being written is the writer's to answer."""
        waiting, self._waiting = list(self._waiting), deque()
        _fail(waiting, error)

    def _unanswered(self) -> list[Use]:
        return [use for batch, _ in self._writing.values() for use in batch] + list(self._waiting)

    def _keep_watch(self) -> None:
        """Look for those who wait too long; what has arrived meanwhile is answered first."""
        assert self._loop is not None
        self._writer.catch_up()
        self._loop.call_soon(self._give_up_late)
        self._watch = self._loop.call_later(WATCH_SECONDS, self._keep_watch)

    def _give_up_late(self) -> None:
        """Answer those who waited too long: the writer may be stuck behind a lock or a slow disk."""
        now = time.monotonic()
        total = now - self._limits.total_seconds
        late = [use for batch, _ in self._writing.values() for use in batch if use.since < total]
        _fail(late, StoreUnavailable("the database did not answer in time"))
        # Without any connection yet, the first one is worth waiting for.
        unsent = now - self._limits.queue_seconds if self._writer.lanes() else total
        _fail([use for use in self._waiting if use.since < unsent], StoreUnavailable(BUSY))
        self._waiting = deque(use for use in self._waiting if not use.future.done())
        self.write_next()


def _no_token(once: OneTimeValue) -> Issuance:
    """How the row reads of a use that no token comes of: what was used up, a name of this use alone, and no key."""
    return Issuance(f"{once.kind} {secrets.token_hex(8)}", once.owner, kid="", issued_at=int(once.signed_at))


def use_of_proof(use: Use) -> Use:
    """A proof as a row of its own, which no token is the record of: that is the row of the first value."""
    assert use.proof is not None
    record = use.issuance
    row = Issuance(f"{OneTimeKind.PROOF} {record.token_id}", record.client_id, kid="", issued_at=record.issued_at)
    return Use(use.proof, row, use.since, use.future)


def use_of_owner(use: Use) -> Use:
    """Who owns a value as a row of its own, named after him: whoever finds that name there is the owner."""
    assert use.owned is not None
    value, by = use.owned
    record = use.issuance
    row = Issuance(f"{value.kind} {by}", record.client_id, kid="", issued_at=record.issued_at)
    return Use(value, row, use.since, use.future)


def _fail(uses: Sequence[Use], error: StoreUnavailable) -> None:
    for use in uses:
        if not use.future.done():
            use.future.set_exception(error)
