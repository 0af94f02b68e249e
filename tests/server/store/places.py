"""Where the stores are that the contract is tried on, one of each engine."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from groat.outbound.clocks import Clocks
from groat.server.store import Spans, Store
from groat.server.store.audit_trail import Actor, Deed, Face
from groat.server.store.group_commit import Limits
from groat.server.store.postgres.store import PostgresStore
from groat.server.store.sqlite.store import SqliteStore

# Whatever a test changes is done by somebody.
DEED = Deed(Actor("user:ann uid:1000", Face.CLI), "test.done", 1_800_000_000)
# Tests are about what is promised, not about how fast the machine is at the moment.
PATIENT = Limits(queue_seconds=10, total_seconds=20)


@dataclass(frozen=True, slots=True)
class Place:
    """One store's place: every `store()` is another process's view of the same one, and `url` is for one indeed."""

    url: str = field(repr=False)
    create: Callable[[], Coroutine[Any, Any, Store]]
    open: Callable[[], Store]
    # Hold up every write for as long as the returned function is not called.
    block: Callable[[], Callable[[], None]]
    # As `open`, but forgetting waits until no batch under way can be older than the horizon; not for seconds, though.
    open_careful: Callable[[], Store]

    @asynccontextmanager
    async def store(self, *, careful: bool = False) -> AsyncIterator[Store]:
        store = self.open_careful() if careful else self.open()
        try:
            yield store
        finally:
            await store.close()


def _sqlite(path: Path, retention: int) -> Place:
    async def create() -> Store:
        return SqliteStore.create(path)

    def block() -> Callable[[], None]:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection.close

    def opened() -> Store:
        return SqliteStore.open(path, retention)

    return Place(f"sqlite:///{path}", create, opened, block, opened)


def _postgres(url: str, retention: int) -> Place:
    async def create() -> Store:
        return await PostgresStore.create(url)

    def block() -> Callable[[], None]:
        connection = psycopg.connect(url)
        connection.execute("LOCK TABLE used_once, registry IN EXCLUSIVE MODE")
        return connection.close

    def opened(haste: float) -> Store:
        return PostgresStore(
            url, Spans(retention), limits=PATIENT, clocks=Clocks(monotonic=lambda: time.monotonic() * haste)
        )

    return Place(url, create, lambda: opened(1e6), block, lambda: opened(10.0))


def made(request: pytest.FixtureRequest, path: Path, retention: int = 0) -> Place:
    if request.param == "sqlite":
        found = _sqlite(path / "groat.db", retention)
    else:
        found = _postgres(request.getfixturevalue("postgres").database(), retention)

    async def create() -> None:
        await (await found.create()).close()

    asyncio.run(create())
    return found
