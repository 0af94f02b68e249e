"""What is particular to the store on SQLite: its file, its durability, its schema."""

import asyncio
import contextlib
import fcntl
import os
import resource
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.store import Issuance, StoreUnavailable
from groat.server.store.changes import AddApi, AddClient, RemoveApi
from groat.server.store.group_commit import GATHER_UP_TO, MAX_BATCH, Use
from groat.server.store.records import ApiRecord, ClientRecord
from groat.server.store.sqlite.faults import FRESH_SECONDS
from groat.server.store.sqlite.store import SCHEMA_VERSION, SqliteStore
from groat.server.store.sqlite.writer import CHECK_SECONDS
from groat.server.turns import Turns
from tests.server.store.places import DEED

NOW = 1_800_000_000


def _create(path: Path) -> None:
    asyncio.run(SqliteStore.create(path).close())


@pytest.mark.rule("KEY-07")
def test_the_files_are_private(tmp_path: Path) -> None:
    """The database and everything beside it is readable by its owner alone."""

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", "v", NOW), Issuance("t", "c", "k", NOW))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        await store.close()
        assert set(modes) >= {"groat.db", "groat.db-wal", "groat.db.lock"}
        assert set(modes.values()) == {0o600}

    asyncio.run(work())


@pytest.mark.rule("K09", "F14")
def test_a_file_that_another_process_is_making(tmp_path: Path) -> None:
    """The first lock of a new file is waited for, too; SQLite by itself would say at once that it is locked."""
    path = tmp_path / "groat.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ("COMMIT",))
    release.start()
    _create(path)
    release.join()
    other.close()

    with closing(sqlite3.connect(path, isolation_level=None)) as third:
        third.execute("PRAGMA journal_mode=DELETE")
        third.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked"):
            SqliteStore.open(path)


def test_create_is_safe_to_repeat(tmp_path: Path) -> None:
    """A second creation leaves what is there."""

    async def work() -> bool:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", "v", NOW), Issuance("t", "c", "k", NOW))
        await store.close()
        again = SqliteStore.create(tmp_path / "groat.db")
        receipt = await again.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", "v", NOW), Issuance("u", "c", "k", NOW))
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
        await store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", "v", NOW), Issuance("t", "c", "k", NOW))
        with closing(sqlite3.connect(tmp_path / "groat.db")) as other:
            assert other.execute("SELECT token_id FROM used_once").fetchall() == [("t",)]
        await store.close()

    asyncio.run(work())


@pytest.mark.rule("AS-CA-13", "I8")
def test_only_digests_are_stored(tmp_path: Path) -> None:
    """No jti of an assertion stands in the file of used values, only 32 bytes that say nothing."""

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", "canary-jti", NOW), Issuance("t", "c", "k", NOW))
        await store.close()

    asyncio.run(work())
    for file in tmp_path.iterdir():
        assert b"canary" not in file.read_bytes()


def test_batches_beyond_the_limit(tmp_path: Path) -> None:
    """More uses in one turn than a batch holds are all answered, duplicates across batches included."""

    async def work() -> int:
        store = SqliteStore.create(tmp_path / "groat.db")
        values = [
            OneTimeValue(OneTimeKind.ASSERTION, "c", f"v{n % (MAX_BATCH + 10)}", NOW) for n in range(MAX_BATCH * 2 + 20)
        ]
        receipts = await asyncio.gather(
            *(store.use_once(value, Issuance(f"t{n}", "c", "k", NOW)) for n, value in enumerate(values))
        )
        await store.close()
        return sum(receipt.fresh for receipt in receipts)

    assert asyncio.run(work()) == MAX_BATCH + 10


class Batches(list[int]):
    """The sizes of the batches of a store, in order."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__()
        self._write = store._writer.write
        store._writer.write = self._noted  # type: ignore[method-assign]

    def _noted(self, batch: list[Use]) -> None:
        self.append(len(batch))
        self._write(batch)


def test_callers_out_of_step_fall_into_step(tmp_path: Path) -> None:
    """Two groups that ask in turns, each again as soon as it was answered, soon share every batch."""

    turns = Turns()

    async def call(store: SqliteStore, name: str, late: float) -> None:
        await asyncio.sleep(late)
        for n in range(30):
            await turns.next()
            assert (
                await store.use_once(
                    OneTimeValue(OneTimeKind.ASSERTION, "c", f"{name}{n}", NOW), Issuance(f"{name}{n}", "c", "k", NOW)
                )
            ).fresh
            await turns.next()
            await turns.next()

    async def work() -> Batches:
        store = SqliteStore.create(tmp_path / "groat.db")
        store.wait_for(turns)
        batches = Batches(store)
        async with asyncio.timeout(20):
            await asyncio.gather(*(call(store, f"v{n}-", 0.002 if n % 2 else 0) for n in range(12)))
        await store.close()
        return batches

    batches = asyncio.run(work())
    assert sum(batches) == 12 * 30
    assert batches.count(12) > 20, batches


def test_a_lone_caller_waits_for_nobody(tmp_path: Path) -> None:
    """Once the crowd has gone its size is forgotten, one by one: in the end a batch of one waits for nobody."""

    async def work() -> list[int]:
        store = SqliteStore.create(tmp_path / "groat.db")
        crowd = (
            store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", f"c{n}", NOW), Issuance(f"c{n}", "c", "k", NOW))
            for n in range(32)
        )
        await asyncio.gather(*crowd)
        expected = []
        for n in range(64):
            expected.append(store._front._expected)
            await store.use_once(
                OneTimeValue(OneTimeKind.ASSERTION, "c", f"v{n}", NOW), Issuance(f"v{n}", "c", "k", NOW)
            )
        await store.close()
        return expected

    expected = asyncio.run(work())
    assert expected[0] == GATHER_UP_TO
    assert expected[-1] == 1


@pytest.mark.rule("OPS-06", "OP-1")
def test_a_connection_that_can_only_read(tmp_path: Path) -> None:
    """Found out without any use, told once, and over as soon as the file can be opened for writing again."""
    events: list[str] = []

    async def work() -> None:
        store = SqliteStore.open(tmp_path / "groat.db", notify=lambda event, facts: events.append(event))
        usual = store._writer._connect
        store._writer._connect = lambda: sqlite3.connect(
            f"file:{tmp_path}/groat.db?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        for _ in range(2):
            assert "readonly" in str((await store.condition()).write_fault)
        store._writer._connect = usual
        assert (await store.condition()).write_fault is None
        await store.close()

    _create(tmp_path / "groat.db")
    asyncio.run(work())
    assert events == ["store.down", "store.up"]


@pytest.mark.rule("OP-1", "OPS-06")
def test_another_file_in_its_place(tmp_path: Path) -> None:
    """Other servers that start now would use that one: told until a restart, whether the old one can be written or not."""

    async def work() -> None:
        store = SqliteStore.open(tmp_path / "groat.db")
        assert (await store.condition()).write_fault is None
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"groat.db{suffix}").rename(tmp_path / f"old.db{suffix}")
        await SqliteStore.create(tmp_path / "groat.db").close()
        assert "another file" in str((await store.condition()).write_fault)
        store._writer._faults.found("as if it could not be written")
        await asyncio.sleep(FRESH_SECONDS)
        assert "another file" in str((await store.condition()).write_fault)
        await store.close()

    _create(tmp_path / "groat.db")
    asyncio.run(work())


@pytest.mark.rule("I1", "I15", "OP-1", "OP-4")
@pytest.mark.parametrize("moved", ["", "-wal"], ids=["database", "log"])
@pytest.mark.parametrize("back", [True, False])
def test_nothing_is_written_to_files_that_moved(tmp_path: Path, moved: str, back: bool) -> None:
    """Whoever opens the store now would not know of it: refused, told, and over once they are back."""
    value = OneTimeValue(OneTimeKind.ASSERTION, "c", "j", NOW)
    file, away = tmp_path / f"groat.db{moved}", tmp_path / "away"
    events: list[str] = []

    async def work() -> None:
        store = SqliteStore.open(tmp_path / "groat.db", notify=lambda event, facts: events.append(event))
        assert (await store.use_once(replace(value, value="before"), Issuance("t0", "c", "k", NOW))).fresh
        file.rename(away)
        await asyncio.sleep(2 * CHECK_SECONDS)
        with pytest.raises(StoreUnavailable, match="groat store fence"):
            await store.use_once(value, Issuance("t1", "c", "k", NOW))
        assert str(file) in str((await store.condition()).write_fault)
        with pytest.raises(StoreUnavailable):
            await store.raise_floor(DEED, 1)
        assert events == ["store.down"]
        if back:
            away.rename(file)
            assert (await store.condition()).write_fault is None
            assert (await store.use_once(value, Issuance("t2", "c", "k", NOW))).fresh
            assert events == ["store.down", "store.up"]
        await store.close()

    _create(tmp_path / "groat.db")
    asyncio.run(work())


@pytest.mark.rule("OP-1", "F04")
@pytest.mark.parametrize("queue", [True, False], ids=["queue", "transaction"])
def test_a_lock_that_stays(tmp_path: Path, queue: bool) -> None:
    """A process that hangs while it holds either lock is told like a full disk, and asked for once at a time."""

    async def work() -> None:
        store = SqliteStore.open(tmp_path / "groat.db")
        assert (await store.condition()).write_fault is None
        await asyncio.sleep(FRESH_SECONDS)
        with held_lock(tmp_path / "groat.db", queue=queue):
            faults = await asyncio.gather(*(store.condition() for _ in range(20)))
            assert all("lock" in str(condition.write_fault) for condition in faults)
            assert store._writer._queue.qsize() <= 1
        for _ in range(50):
            if (await store.condition()).write_fault is None:
                break
            await asyncio.sleep(0.1)
        assert (await store.condition()).write_fault is None
        await store.close()

    _create(tmp_path / "groat.db")
    asyncio.run(work())


@contextlib.contextmanager
def held_lock(database: Path, *, queue: bool) -> Iterator[None]:
    """The file lock on which writers queue, or the database's own, in another hand."""
    if queue:
        descriptor = os.open(database.with_name(f"{database.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)
        return
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.rule("OP-1", "I2")
def test_a_trial_changes_nothing(tmp_path: Path) -> None:
    """It writes a page durably, and the registry says what it said before."""

    async def work() -> None:
        store = SqliteStore.open(tmp_path / "groat.db")
        before, size = await store.registry_version(), (tmp_path / "groat.db-wal").stat().st_size
        assert (await store.condition()).write_fault is None
        assert await store.registry_version() == before
        assert (tmp_path / "groat.db-wal").stat().st_size > size
        await store.close()

    _create(tmp_path / "groat.db")
    asyncio.run(work())


@pytest.mark.rule("OPS-06")
def test_a_writer_that_cannot_open_the_file_yet(tmp_path: Path) -> None:
    """It tries again with the next work, and says that all is well once it is."""

    async def work() -> None:
        store = SqliteStore.open(tmp_path / "groat.db")
        lock = tmp_path / "groat.db.lock"
        lock.unlink(missing_ok=True)
        lock.mkdir()
        with pytest.raises(StoreUnavailable):
            await store.forget_expired()
        assert "directory" in str((await store.condition()).write_fault)
        lock.rmdir()
        assert (await store.condition()).write_fault is None
        await store.close()

    _create(tmp_path / "groat.db")
    asyncio.run(work())


# Changes of the registry


def _apis(count: int) -> list[AddApi]:
    return [AddApi(ApiRecord(f"a{n}", f"https://a{n}.example/{'x' * 200}", ("read",), NOW)) for n in range(count)]


@pytest.mark.rule("AS-CA-24", "I6")
def test_a_change_is_one_step(tmp_path: Path) -> None:
    """However many objects: no other coroutine gets a turn in which it would read what is not committed yet."""
    store = SqliteStore.create(tmp_path / "groat.db")
    change = store.change(DEED, None, [*_apis(300), AddClient(ClientRecord("billing", {}, NOW)), RemoveApi("a1")])
    with pytest.raises(StopIteration):
        change.send(None)
    assert len(asyncio.run(store.list_apis())) == 299


@pytest.mark.rule("OP-1", "AS-TE-30")
def test_a_change_on_a_full_disk(tmp_path: Path) -> None:
    """StoreUnavailable, and nothing of it is there; once there is room, the same change is made whole.

    Full is what a limit on the size of files says here, at the COMMIT of what fitted into memory.
    """

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        before = await store.registry_version()
        usual = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "groat.db-wal").stat().st_size + 50_000, usual[1]))
        try:
            with pytest.raises(StoreUnavailable):
                await store.change(DEED, before, _apis(1000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        other = SqliteStore.open(tmp_path / "groat.db")
        assert (await other.list_apis(), await other.registry_version()) == ((), before)
        await store.change(DEED, before, _apis(1000))
        assert len(await other.list_apis()) == 1000
        for opened in (store, other):
            await opened.close()

    asyncio.run(work())
