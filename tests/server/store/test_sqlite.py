"""What is particular to the store on SQLite: its file, its durability, its schema."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from groat.protocol.models import OneTimeValue
from groat.server.store import Issuance, StoreUnavailable
from groat.server.store.group_commit import MAX_BATCH
from groat.server.store.sqlite import SCHEMA_VERSION, SqliteStore

NOW = 1_800_000_000


def _create(path: Path) -> None:
    asyncio.run(SqliteStore.create(path).close())


@pytest.mark.rule("KEY-07")
def test_the_files_are_private(tmp_path: Path) -> None:
    """The database and everything beside it is readable by its owner alone."""

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue("c", "v", NOW), Issuance("t", "c", "k", NOW))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        await store.close()
        assert set(modes) >= {"groat.db", "groat.db-wal", "groat.db.lock"}
        assert set(modes.values()) == {0o600}

    asyncio.run(work())


def test_create_is_safe_to_repeat(tmp_path: Path) -> None:
    """A second creation leaves what is there."""

    async def work() -> bool:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue("c", "v", NOW), Issuance("t", "c", "k", NOW))
        await store.close()
        again = SqliteStore.create(tmp_path / "groat.db")
        receipt = await again.use_once(OneTimeValue("c", "v", NOW), Issuance("u", "c", "k", NOW))
        await again.close()
        return receipt.fresh

    assert not asyncio.run(work())


@pytest.mark.rule("F15", "OPS-06")
@pytest.mark.parametrize("kind", ["missing", "garbage", "empty", "newer", "directory"])
def test_what_is_no_store(tmp_path: Path, kind: str) -> None:
    """A missing, foreign, empty or newer file is StoreUnavailable with its name, not a bug."""
    path = tmp_path / "groat.db"
    if kind == "garbage":
        path.write_bytes(b"not a database " * 500)
    elif kind == "empty":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "newer":
        _create(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
            connection.commit()
    with pytest.raises(StoreUnavailable):
        SqliteStore.open(path)


@pytest.mark.rule("I1", "F15")
def test_commits_are_durable(tmp_path: Path) -> None:
    """The writer's connection syncs its log at every commit, and what it wrote is there for others at once."""

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        connection = store._connect()
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        connection.close()
        await store.use_once(OneTimeValue("c", "v", NOW), Issuance("t", "c", "k", NOW))
        with closing(sqlite3.connect(tmp_path / "groat.db")) as other:
            assert other.execute("SELECT token_id FROM used_once").fetchall() == [("t",)]
        await store.close()

    asyncio.run(work())


@pytest.mark.rule("AS-CA-13", "I8")
def test_only_digests_are_stored(tmp_path: Path) -> None:
    """No jti of an assertion stands in the file of used values, only 32 bytes that say nothing."""

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue("c", "canary-jti", NOW), Issuance("t", "c", "k", NOW))
        await store.close()

    asyncio.run(work())
    for file in tmp_path.iterdir():
        assert b"canary" not in file.read_bytes()


def test_batches_beyond_the_limit(tmp_path: Path) -> None:
    """More uses in one turn than a batch holds are all answered, duplicates across batches included."""

    async def work() -> int:
        store = SqliteStore.create(tmp_path / "groat.db")
        values = [OneTimeValue("c", f"v{n % (MAX_BATCH + 10)}", NOW) for n in range(MAX_BATCH * 2 + 20)]
        receipts = await asyncio.gather(
            *(store.use_once(value, Issuance(f"t{n}", "c", "k", NOW)) for n, value in enumerate(values))
        )
        await store.close()
        return sum(receipt.fresh for receipt in receipts)

    assert asyncio.run(work()) == MAX_BATCH + 10


@pytest.mark.rule("AS-CA-13")
def test_every_digest_belongs_to_a_slice(tmp_path: Path) -> None:
    """The slices of the purge cover the first digest, the last one, and every border between two."""

    async def work() -> int:
        store = SqliteStore.create(tmp_path / "groat.db")
        with closing(sqlite3.connect(tmp_path / "groat.db")) as other:
            edges = [bytes([n]) + tail for n in range(256) for tail in (bytes(31), b"\xff" * 31)]
            other.executemany(
                "INSERT INTO used_once VALUES (?, 'c', 't', 'k', 0, 'r', ?)", [(edge, NOW - 1) for edge in edges]
            )
            other.commit()
        dropped = [await store.forget_expired(NOW) for _ in range(256)]
        await store.close()
        return sum(dropped)

    assert asyncio.run(work()) == 512
