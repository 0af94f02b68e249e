"""A PostgreSQL that cannot write where the used values lie: told by the store itself though nobody asks for a token."""

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groat.server.store import StoreUnavailable
from groat.server.store.changes import AddApi
from groat.server.store.postgres.link import Target
from groat.server.store.postgres.links import MAX_DELAY_SECONDS
from groat.server.store.postgres.schema import migrate
from groat.server.store.postgres.store import PostgresStore
from groat.server.store.postgres.writer import FRESH_SECONDS
from groat.server.store.records import ApiRecord
from tests.disks import filled, small_disk
from tests.postgres import NOBODY, GivenServer, PostgresServer
from tests.server.store.places import DEED
from tests.server.store.test_postgres import Event, _until_used, execute, opened, run, use


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 2 MB for a tablespace."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        place = Path(directory) / "disk"
        place.mkdir()
        with small_disk(place, 2, f"mode=0700,uid={NOBODY},gid={NOBODY}"):
            yield place


async def _until_full(store: PostgresStore) -> None:
    """Use up the pages that the table has, until nothing could be written for longer than the store waits to try again.

    The rows of attempts that were rolled back make room once more, so it may come back before that.
    """
    full_since = None
    for n in itertools.count():
        try:
            await use(store, f"v{n}")
            full_since = None
        except StoreUnavailable as error:
            assert "space" in str(error)
            full_since = full_since or time.monotonic()
            if time.monotonic() - full_since > 2 * MAX_DELAY_SECONDS:
                return
            await asyncio.sleep(0.05)


def _ups_and_downs(events: list[Event]) -> list[str]:
    return [event for event, _ in events if event in ("store.down", "store.up")]


@pytest.mark.rule("OP-1", "F10", "I15")
def test_a_full_tablespace(postgres_server: PostgresServer, disk: Path) -> None:
    """Tokens fail, and so does the condition, with and without requests; one pair of lines; then all is as before."""
    events: list[Event] = []
    url = postgres_server.database()
    run(migrate(Target(url)))
    execute(postgres_server.url(), f"CREATE TABLESPACE small LOCATION '{disk}'")
    execute(url, "ALTER TABLE used_once SET TABLESPACE small")

    told: list[Event] = []

    async def work() -> None:
        async with opened(url, events) as store:
            await _until_used(store, "before")
            with filled(disk):
                await asyncio.sleep(FRESH_SECONDS)
                await _until_full(store)
                told.extend(events)
                assert _ups_and_downs(told)[-1] == "store.down"
                for _ in range(3):
                    with pytest.raises(StoreUnavailable, match="space"):
                        await store.condition()
                    await asyncio.sleep(0.7)
                assert events == told  # a full disk is told once, not at each attempt
                async with opened(url) as other:
                    with pytest.raises(StoreUnavailable, match="space"):
                        await other.condition()
            await _until_used(store, "after", 5)
            await store.condition()
            assert not await use(store, "before")

    try:
        run(work())
        assert _ups_and_downs(events[len(told) :]) == ["store.up"]
    finally:
        execute(url, "ALTER TABLE used_once SET TABLESPACE pg_default")
        execute(postgres_server.url(), "DROP TABLESPACE small")


@pytest.mark.rule("OP-1", "OPS-06")
def test_rows_that_cannot_be_written_though_nobody_asks(postgres: PostgresServer | GivenServer) -> None:
    """Whatever forbids it, here a constraint: the condition finds out by trying, and leaves no row."""
    url = postgres.database()
    run(migrate(Target(url)))

    async def work() -> None:
        async with opened(url) as store:
            await store.condition()
            await asyncio.to_thread(execute, url, "ALTER TABLE used_once ADD CONSTRAINT never CHECK (expires_at > 1)")
            await asyncio.sleep(FRESH_SECONDS)
            with pytest.raises(StoreUnavailable, match="never"):
                await store.condition()
            await asyncio.to_thread(execute, url, "ALTER TABLE used_once DROP CONSTRAINT never")
            await _until_used(store, "after", 5)
            assert execute(url, "SELECT count(*) FROM used_once WHERE client_id = 'trial'") == [(0,)]

    run(work())


@pytest.mark.rule("OP-1", "AS-TE-30")
def test_a_change_on_a_full_tablespace(postgres_server: PostgresServer, disk: Path) -> None:
    """StoreUnavailable, and nothing of it is there; once there is room, the same change is made whole."""
    url = postgres_server.database()
    run(migrate(Target(url)))
    execute(postgres_server.url(), f"CREATE TABLESPACE small LOCATION '{disk}'")
    execute(url, "ALTER TABLE apis SET TABLESPACE small")
    many = [AddApi(ApiRecord(f"a{n}", f"https://a{n}.example/{'x' * 200}", ("read",), 1)) for n in range(200)]

    async def work() -> None:
        async with opened(url) as store:
            before = await store.registry_version()
            with filled(disk), pytest.raises(StoreUnavailable, match="space"):
                await store.change(DEED, before, many)
            assert (await store.list_apis(), await store.registry_version()) == ((), before)
            await store.change(DEED, before, many)
            assert len(await store.list_apis()) == 200

    try:
        run(work())
    finally:
        execute(url, "ALTER TABLE apis SET TABLESPACE pg_default")
        execute(postgres_server.url(), "DROP TABLESPACE small")
