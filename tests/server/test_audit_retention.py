"""Retention of the audit trail: by trusted time alone, by whichever process comes first, and never without a word."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from groat.protocol.models import Policy
from groat.server import operations
from groat.server.chores.audit_retention import LOOK_SECONDS, AuditRetention
from groat.server.operations import Operator
from groat.server.store.changes import AddApi
from groat.server.store.records import ApiRecord
from groat.server.store.sqlite.store import SqliteStore
from groat.server.store.trusted_time import SETTLED_SECONDS, TrustedTime
from tests.server.store.places import DEED

NOW: Final = 1_800_000_000
DAY: Final = 86400
KEEP: Final = 30 * DAY


@dataclass(slots=True)
class Clock:
    """Both clocks of a host, turned by the test."""

    now: float = NOW
    monotonic: float = 1000.0

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds


@dataclass(slots=True)
class Scene:
    """A store with rows of several ages, and one process's retention."""

    clock: Clock
    store: SqliteStore
    retention: AuditRetention
    time: TrustedTime

    async def seqs(self) -> list[int]:
        return [row.seq for row in await self.store.audit_rows_after(0, 100)]


async def scene(path: Path, *ages: int) -> Scene:
    clock, store = Clock(), SqliteStore.create(path / "groat.db")
    for n, age in enumerate(ages):
        record = ApiRecord(f"a{n}", f"https://a{n}.example", (), NOW)
        await store.change(replace(DEED, at=NOW - age), None, [AddApi(record)])
    time = TrustedTime(store, lambda: clock.now, lambda: clock.monotonic)
    operator = Operator(store, Policy("https://as.example"), clock=lambda: clock.now)
    await store.raise_horizon(NOW - 600)
    return Scene(clock, store, AuditRetention(operator, KEEP, time), time)


def run(path: Path, work: Callable[[Scene], Awaitable[None]], *ages: int) -> None:
    async def whole() -> None:
        made = await scene(path, *ages)
        try:
            await work(made)
        finally:
            await made.store.close()

    asyncio.run(whole())


def test_old_rows_go_and_the_rest_is_whole(tmp_path: Path) -> None:
    """What is older than that goes at once, once one row is a day older; then nothing for a day."""

    async def work(made: Scene) -> None:
        assert await made.retention.look() == 2
        assert await made.seqs() == [3, 4, 5]
        verified = await operations.verify_audit(made.retention.operator)
        assert (verified.first, verified.last, verified.faults) == (3, 5, ())
        assert (await made.store.audit_rows(limit=1))[0].operation == "audit.forgotten"
        assert await made.retention.look() == 0

    run(tmp_path, work, KEEP + 2 * DAY, KEEP + 100, KEEP - 100, 10)


def test_a_row_that_is_less_than_a_day_too_old_waits(tmp_path: Path) -> None:
    """So that there is one row about this a day at most."""

    async def work(made: Scene) -> None:
        assert await made.retention.look() == 0
        assert await made.seqs() == [1, 2]

    run(tmp_path, work, KEEP + DAY - 100, 10)


@pytest.mark.parametrize("step", [400 * DAY, -400 * DAY])
def test_a_clock_that_steps_takes_nothing(tmp_path: Path, step: int) -> None:
    """Nothing goes while the time is in doubt; ahead of what the store has seen it is, until it settles."""

    async def work(made: Scene) -> None:
        made.clock.now += step
        assert await made.retention.look() == 0
        made.clock.pass_(SETTLED_SECONDS - 10)
        assert await made.retention.look() == 0
        assert await made.seqs() == [1, 2]

    run(tmp_path, work, 100, 10)


def test_two_processes_at_once(tmp_path: Path) -> None:
    """One of them does it; the other finds nothing to do."""

    async def work(made: Scene) -> None:
        other = SqliteStore.open(made.store.path)
        with contextlib.closing(other._reader):
            second = replace(made.retention.operator, store=other)
            retention = AuditRetention(second, KEEP, TrustedTime(other, lambda: NOW, lambda: 1000.0))
            gone = await asyncio.gather(made.retention.look(), retention.look())
            assert sorted(gone) == [0, 1]
            assert await made.seqs() == [2, 3]

    run(tmp_path, work, KEEP + 2 * DAY, 10)


def test_it_looks_about_every_hour_and_outlives_a_store_that_is_away(tmp_path: Path) -> None:
    """A look that fails is done again at the next."""
    slept: list[float] = []

    async def work(made: Scene) -> None:
        await made.store.shut(DEED, NOW)

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                await made.store.shut(DEED, None)
            if len(slept) == 3:
                raise asyncio.CancelledError

        made.retention.sleep = sleep
        with pytest.raises(asyncio.CancelledError):
            await made.retention.run()
        assert all(LOOK_SECONDS / 2 <= one <= 1.5 * LOOK_SECONDS for one in slept)
        assert (await made.seqs())[0] == 2

    run(tmp_path, work, KEEP + 2 * DAY, 10)
