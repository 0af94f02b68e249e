"""PostgreSQL and the clocks: from when a horizon may be acted on, and what a wrong clock does not make of the past."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import psycopg
import pytest

from groat.outbound.clocks import Clocks
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.store import Issuance, StoreUnavailable
from groat.server.store.postgres.forgetting import IN_FORCE_SECONDS
from groat.server.store.postgres.link import Target
from groat.server.store.postgres.schema import migrate
from groat.server.store.postgres.store import PostgresStore
from groat.server.unavailable import ClocksDiffer
from tests.postgres import GivenServer, PostgresServer

DAY: Final = 86400
SOON: Final = int(time.time()) + 86_400  # also at the end of a long run
Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def url(postgres: PostgresServer | GivenServer) -> str:
    """A database with the schema and nothing in it."""
    url = postgres.database()
    run(migrate(Target(url)))
    return url


def execute(url: str, sql: str) -> None:
    """As an administrator, elsewhere."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)  # type: ignore[call-overload]


def cut(url: str) -> None:
    """End every other connection to this database."""
    execute(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                 "WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip


async def use(store: PostgresStore, value: str) -> bool:
    once = OneTimeValue(OneTimeKind.ASSERTION, "billing", value, SOON, time.time())
    return (await store.use_once(once, Issuance(f"t-{time.monotonic_ns()}", "billing", "k1", int(time.time())))).fresh


async def used(store: PostgresStore, value: str) -> bool:
    """Use it as soon as the database answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return await use(store, value)
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.mark.rule("CL-1", "I1", "I13")
def test_nothing_goes_before_the_horizon_is_in_force(url: str) -> None:
    """A batch may have begun before the horizon rose: seconds pass between its commit and the first row that goes."""
    passed = 0.0

    async def work() -> None:
        nonlocal passed
        store = PostgresStore(url, clocks=Clocks(monotonic=lambda: 100 + passed))
        assert await use(store, "a")
        await store.raise_horizon(SOON)
        assert await store.forget_expired() == 0
        passed = IN_FORCE_SECONDS - 0.1
        assert [await store.forget_expired() for _ in range(3)] == [0] * 3
        passed = IN_FORCE_SECONDS
        assert await store.forget_expired() == 1
        await store.close()

    run(work())


@pytest.mark.rule("CL-1", "F16", "I1", "I13")
def test_the_horizon_of_a_database_that_went_back_counts(url: str) -> None:
    """What this process knows of a later horizon is no leave to forget there."""
    passed = 0.0

    async def work() -> None:
        nonlocal passed
        store = PostgresStore(url, clocks=Clocks(monotonic=lambda: 100 + passed))
        assert await use(store, "a")
        await store.raise_horizon(SOON)
        await store.forget_expired()
        execute(url, f"UPDATE registry SET horizon = {SOON - 1}")
        passed = IN_FORCE_SECONDS
        assert await store.forget_expired() == 0
        await store.close()

    run(work())


@pytest.mark.rule("CL-1", "F16", "I1", "I12")
def test_a_lost_use_is_missed_by_whatever_clock(url: str) -> None:
    """Files that were put back under a process that is 60 days ahead: it misses its last use, and raises no floor."""
    wrong = 0.0

    async def work() -> None:
        nonlocal wrong
        store = PostgresStore(url, clocks=Clocks(lambda: time.time() + wrong))
        assert await used(store, "a")
        wrong = 60 * DAY
        execute(url, "DELETE FROM used_once")
        cut(url)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert not await use(store, "a")
            except ClocksDiffer as error:
                assert error.reason == "clock_skew"
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        wrong = 0.0
        await asyncio.sleep(0)
        while (await _floor(store)) == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert abs(await _floor(store) - time.time()) < 60
        await store.close()

    run(work())


async def _floor(store: PostgresStore) -> int:
    try:
        return (await store.condition()).floor
    except StoreUnavailable:
        return 0


@pytest.mark.rule("CL-1", "F16")
def test_what_was_forgotten_is_not_missed(url: str) -> None:
    """The last use of a process may have been purged by others once the horizon is past its expiry."""

    async def work() -> None:
        store = PostgresStore(url)
        assert await used(store, "a")
        await store.raise_horizon(SOON)
        execute(url, "DELETE FROM used_once")
        cut(url)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert (await store.condition()).floor == 0
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        await store.close()

    run(work())
