"""What is particular to the store on PostgreSQL: connections that break, what it refuses to stand on, its past."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, Final, TypeVar

import psycopg
import pytest

from groat.outbound.clocks import Clocks
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.store import OPERATOR_PATIENCE, BeforeFloor, Issuance, Owned, Spans, StoreUnavailable
from groat.server.store.changes import AddClient, SwitchClient
from groat.server.store.group_commit import MAX_BATCH, Limits
from groat.server.store.postgres.link import Link, LinkLost, Refused, Target, array_of, array_of_bigint, texts
from groat.server.store.postgres.schema import SCHEMA_VERSION, Unsafe, migrate, open_link
from groat.server.store.postgres.store import LIMITS, PostgresStore
from groat.server.store.records import ClientRecord
from groat.server.store.registry_sql import PUBLISHED
from tests.postgres import GivenServer, PostgresServer
from tests.server.store.places import DEED

Result = TypeVar("Result")
Event = tuple[str, dict[str, Any]]
LIFETIME: Final = 300


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, 60))


def once(value: str, signed_at: float | None = None) -> OneTimeValue:
    """A value of now, or of another moment; real time, because the database's clock is real."""
    at = time.time() if signed_at is None else signed_at
    return OneTimeValue(OneTimeKind.ASSERTION, "billing", value, int(at) + LIFETIME, at)


def issuance(token_id: str) -> Issuance:
    return Issuance(token_id, "billing", "k1", int(time.time()))


async def use(store: PostgresStore, value: str, signed_at: float | None = None) -> bool:
    return (await store.use_once(once(value, signed_at), issuance(f"t-{time.monotonic_ns()}"))).fresh


@contextlib.asynccontextmanager
async def opened(url: str, events: list[Event] | None = None, limits: Limits = LIMITS) -> AsyncIterator[PostgresStore]:
    """One process's view of the store."""
    store = PostgresStore(
        url, Spans(), lambda event, facts: events.append((event, facts)) if events is not None else None, limits=limits
    )
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def url(postgres: PostgresServer | GivenServer) -> str:
    """A database with the schema and nothing in it."""
    url = postgres.database()
    run(migrate(Target(url)))
    return url


def execute(url: str, sql: str) -> list[Any]:
    """As an administrator, elsewhere."""
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        cursor = connection.execute(sql)  # type: ignore[call-overload]
        return list(cursor.fetchall()) if cursor.description else []


# Exactly once over processes

_RACER: Final = """
import asyncio, sys
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.store import Issuance
from groat.server.store.group_commit import MAX_BATCH
from groat.server.store.group_commit import Limits
from groat.server.store.postgres.store import PostgresStore
async def main(url, name, step):
    store = PostgresStore(url, limits=Limits(10, 20))
    await store.condition()
    print("ready", flush=True); sys.stdin.readline()
    async def use(n):
        receipt = await store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "billing", f"v{n}", 2_000_000_000), Issuance(f"{name}-{n}", "billing", "k", 1))
        return receipt.fresh
    won = await asyncio.gather(*(use(n * step % 997) for n in range(997)))
    await store.close(); print(sum(won))
asyncio.run(main(sys.stdin.readline().strip(), sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.rule("I1", "P02", "L03", "AS-CA-11")
def test_processes_race_for_the_same_values(url: str) -> None:
    """Four processes present the same 997 values at once, each in another order: each is won once, without deadlock."""
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER, f"p{step}", str(step)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for step in (1, 996, 5, 331)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdin is not None
        assert racer.stdout is not None
        racer.stdin.write(url + "\n")
        racer.stdin.flush()
        assert racer.stdout.readline() == "ready\n"
    won = 0
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        won += int(racer.communicate(timeout=30)[0])
    assert won == 997
    assert execute(url, "SELECT count(*), count(DISTINCT token_id) FROM used_once") == [(997, 997)]
    assert execute(url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


@pytest.mark.rule("I1", "P02")
def test_an_uncommitted_use_elsewhere_decides(url: str) -> None:
    """While another transaction holds the value ours waits: replay when that one commits, fresh when it rolls back."""
    insert = "INSERT INTO used_once VALUES (%s, 'billing', 'other', 'k', 1, 'r', 2000000000)"

    async def work() -> list[bool]:
        results = []
        async with opened(url) as store:
            for n, end in enumerate(("COMMIT", "ROLLBACK")):
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute("BEGIN")
                    other.execute(insert, (once(f"v{n}").digest,))
                    waiting = asyncio.ensure_future(use(store, f"v{n}"))
                    await asyncio.sleep(0.1)
                    assert not waiting.done()
                    other.execute(end)
                    results.append(await waiting)
        return results

    assert run(work()) == [False, True]


@pytest.mark.rule("AS-RV-05")
def test_the_closing_waits_for_tokens_that_are_being_taken_back(url: str) -> None:
    """What was answered as taken back is in every copy; and who changes the registry meanwhile meets no deadlock."""

    async def work() -> None:
        async with opened(url) as store:
            with psycopg.connect(url) as client, psycopg.connect(url) as operator:
                client.execute("INSERT INTO revoked_tokens VALUES ('\\x01', 'billing', 1, 2)")
                operator.execute("SELECT version FROM registry FOR UPDATE")
                closing = asyncio.ensure_future(store.shut(DEED, 1))
                await asyncio.sleep(0.15)
                assert not closing.done()
                operator.execute("INSERT INTO revoked_tokens VALUES ('\\x02', 'billing', 1, 2)")
                operator.commit()
                await asyncio.sleep(0.15)
                assert not closing.done()
                client.commit()
                await closing

    run(work())


@pytest.mark.rule("F15", "T15")
def test_a_batch_that_waits_for_the_closing_sees_it(url: str) -> None:
    """A use that arrived before the mark and waits for the lock is refused, not slipped in after."""

    async def work() -> None:
        async with opened(url) as store:
            assert await use(store, "warm")
            with psycopg.connect(url) as closing:
                # In a thread: a trial of the store may hold the table, and needs this loop for its end.
                await asyncio.to_thread(closing.execute, "LOCK TABLE used_once IN SHARE MODE")
                waiting = asyncio.ensure_future(use(store, "late"))
                await asyncio.sleep(0.15)
                assert not waiting.done()
                closing.execute("UPDATE registry SET closed_at = 1")
            with pytest.raises(StoreUnavailable, match="closed"):
                await waiting
        assert execute(url, "SELECT count(*) FROM used_once") == [(1,)]

    run(work())


# Connections


@pytest.mark.rule("F03", "AS-TE-30")
def test_every_connection_ended_by_an_administrator(url: str) -> None:
    """The store is back within a second, tells of each change once, and remembers what it acknowledged."""
    events: list[Event] = []

    async def work() -> None:
        async with opened(url, events) as store:
            for round_ in range(3):
                await _until_used(store, f"v{round_}")
                await asyncio.to_thread(
                    execute, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )  # fmt: skip
                began = time.monotonic()
                await _until_used(store, f"w{round_}")
                assert time.monotonic() - began < 1
                assert not await use(store, f"v{round_}")

    run(work())
    assert [event for event, _ in events] == ["store.down", "store.up"] * 3


@pytest.mark.rule("AS-JB-11")
def test_what_another_owns_is_no_past_of_this_process(url: str) -> None:
    """Nothing was written for who came second, so the next connection must not look for it and take that for a loss."""
    events: list[Event] = []

    async def claim(store: PostgresStore, name: str, by: str) -> bool:
        owned = Owned(replace(once("token"), kind=OneTimeKind.OWNED_TOKEN), by)
        return (await store.use_once(once(name), issuance(name), None, owned)).fresh

    async def work() -> int:
        async with opened(url, events) as store:
            await _until_used(store, "a")
            assert await claim(store, "mine", "k1")
            assert not await claim(store, "another's", "k2")
            await asyncio.to_thread(
                execute, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )  # fmt: skip
            await _until_used(store, "b")
            return (await store.condition()).floor

    assert run(work()) == 0
    assert [event for event, _ in events] == ["store.down", "store.up"]


async def _until_used(store: PostgresStore, value: str, seconds: float = 10) -> None:
    """Ask until there is an answer; what comes before it is StoreUnavailable and nothing else."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await use(store, f"{value}-{time.monotonic_ns()}")
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert await use(store, value)


@pytest.mark.rule("F03", "I1", "I2")
def test_a_server_that_is_killed_again_and_again(postgres_server: PostgresServer) -> None:
    """Nothing acknowledged is forgotten, and uses go on within 5 s of the database accepting connections."""
    url = postgres_server.database()
    acknowledged: list[str] = []
    events: list[Event] = []

    async def fire(store: PostgresStore, name: str, stop: asyncio.Event) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with contextlib.suppress(StoreUnavailable):
                assert await use(store, f"{name}-{n}")
                acknowledged.append(f"{name}-{n}")
            await asyncio.sleep(0.002)

    async def work() -> None:
        await migrate(Target(url))
        async with opened(url, events) as store, opened(url) as other:
            for round_ in range(3):
                stop = asyncio.Event()
                shots = [asyncio.ensure_future(fire((store, other)[n % 2], f"r{round_}-{n}", stop)) for n in range(8)]
                await asyncio.sleep(0.3)
                await asyncio.to_thread(postgres_server.kill)
                await asyncio.sleep(0.2)
                with pytest.raises(StoreUnavailable):
                    await use(store, "while it is away")
                await asyncio.to_thread(postgres_server.start)
                began, count = time.monotonic(), len(acknowledged)
                while len(acknowledged) < count + 20:
                    assert time.monotonic() - began < 5
                    await asyncio.sleep(0.01)
                stop.set()
                await asyncio.gather(*shots)
                await _until_used(store, f"back {round_}", 5)
            assert not any([await use(store, value) for value in acknowledged])

    run(work())
    assert len(acknowledged) > 100
    assert [event for event, _ in events] == ["store.down", "store.up"] * 3


@pytest.mark.rule("F04", "F07", "AS-TE-30")
def test_a_server_that_hangs(postgres_server: PostgresServer) -> None:
    """A stopped server costs each caller 0.7 s at most, then nothing; reads fail as fast; it comes back by itself."""
    url = postgres_server.database()

    async def work() -> None:
        await migrate(Target(url))
        async with opened(url) as store:
            assert await use(store, "before")
            await store.registry_version()
            frozen = [*postgres_server.backends(), postgres_server.process.pid]  # type: ignore[union-attr]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                for limit in (0.75, 0.75, 0.75, 0.1):
                    began = time.monotonic()
                    results = await asyncio.gather(
                        *(use(store, f"v{n}") for n in range(20)), store.registry_version(), return_exceptions=True
                    )
                    assert all(isinstance(result, StoreUnavailable) for result in results)
                    assert time.monotonic() - began < limit + 0.25
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            await _until_used(store, "after", 5)
            assert not await use(store, "before")

    run(work())


@pytest.mark.rule("F04", "AS-TE-30", "L10")
def test_a_locked_table_costs_no_caller_more_than_a_moment(url: str) -> None:
    """While another holds the table every caller, queued ones too, is refused within 0.6 s plus slack; none is used up."""

    async def work() -> None:
        async with opened(url) as store:
            await use(store, "warm")
            with psycopg.connect(url) as other:
                await asyncio.to_thread(other.execute, "LOCK TABLE used_once IN EXCLUSIVE MODE")
                began = time.monotonic()
                tasks = [asyncio.ensure_future(use(store, f"v{n}")) for n in range(20)]
                await asyncio.sleep(0.1)
                tasks += [asyncio.ensure_future(use(store, f"w{n}")) for n in range(20)]
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert time.monotonic() - began < 1
                assert all(isinstance(result, StoreUnavailable) for result in results)
                with contextlib.suppress(StoreUnavailable):  # where a statement found no answer, reads wait, too
                    assert await store.registry_version() == 1
                assert time.monotonic() - began < 1.5
                await asyncio.sleep(
                    1.0
                )  # the last statement is cancelled by then; with the table free it would be done
            await _until_used(store, "after")
            assert all([await use(store, f"{name}{n}") for name in "vw" for n in range(20)])

    run(work())


@pytest.mark.rule("F04", "F15")
def test_an_operator_waits_longer_than_a_request(url: str) -> None:
    """A write that is held up for a second: a server's store gives up, an operator's does what it was told to."""

    async def write(patience: int) -> int:
        store = PostgresStore(url, patience=patience)
        try:
            before = await store.registry_version()
            with psycopg.connect(url) as holder:
                await asyncio.to_thread(holder.execute, "LOCK TABLE registry IN EXCLUSIVE MODE")
                asyncio.get_running_loop().call_later(1.2, holder.rollback)
                await store.raise_floor(DEED, 0)
            return await store.registry_version() - before
        finally:
            await store.close()

    assert run(write(OPERATOR_PATIENCE)) == 1
    with pytest.raises(StoreUnavailable):
        run(write(1))


@pytest.mark.rule("L10", "F04")
def test_a_queue_that_is_too_slow_is_shed_by_the_wait_to_expect(url: str) -> None:
    """With commits of 0.2 s a burst beyond what 0.25 s can take is refused at once, though the queue has room."""
    execute(
        url,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'",
    )
    execute(url, "CREATE TRIGGER slow AFTER INSERT ON used_once FOR EACH STATEMENT EXECUTE FUNCTION slow()")

    async def work() -> None:
        async with opened(url, limits=Limits(queue_seconds=0.3, total_seconds=10)) as store:
            for n in range(12):
                with contextlib.suppress(StoreUnavailable):  # a busy machine may take longer than the queue allows
                    await use(store, f"warm{n}")
            tasks = [asyncio.ensure_future(use(store, f"v{n}")) for n in range(2000)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            shed = [n for n, task in enumerate(tasks) if task.done()]
            assert 1000 < len(shed) < 2000 - MAX_BATCH
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(result is True for result in results) >= MAX_BATCH
            execute(url, "DROP TRIGGER slow ON used_once")
            await _until_used(store, "after")
            assert all([await use(store, f"v{n}") for n in shed[:100]])

    run(work())


@pytest.mark.rule("F04")
def test_no_connection_is_left(postgres_server: PostgresServer) -> None:
    """While others hold every connection there is: StoreUnavailable; afterwards the store works."""
    postgres_server.stop()
    postgres_server.settings = {"max_connections": "8", "superuser_reserved_connections": "1"}
    postgres_server.start()
    url = postgres_server.database()

    async def work() -> None:
        await migrate(Target(url))
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(contextlib.closing(psycopg.connect(url)))
            async with opened(url) as store:
                with pytest.raises(StoreUnavailable, match=r"connection|clients"):
                    await use(store, "v")
                stack.close()
                await _until_used(store, "w", 5)

    run(work())


@pytest.mark.rule("F04", "AS-TE-30")
def test_a_caller_that_is_cancelled_leaves_a_clean_connection(url: str) -> None:
    """Readers and writers that give up at any moment disturb nobody after them."""

    async def work() -> None:
        async with opened(url) as store:
            for n in range(60):
                tasks = [
                    asyncio.ensure_future(store.list_apis()),
                    asyncio.ensure_future(store.change(DEED, None, [SwitchClient("x", enabled=True, now=0)])),
                ]
                await asyncio.sleep(0.0003 * (n % 12))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert await store.list_apis() == ()
                assert await use(store, f"v{n}")

    run(work())


@pytest.mark.rule("KEY-14", "OPS-03", "OPS-06")
@pytest.mark.parametrize(
    "form",
    [
        "postgresql://postgres:{}@127.0.0.1:1/x", "postgresql://postgres:{}@127.0.0.1:port/x",
        "postgresql://postgres:{}%zz@127.0.0.1/x", "postgresql://nobody:{}@{}/postgres",
        "postgresql://postgres:{}@127.0.0.1/x?nonsense=1",
    ],
)  # fmt: skip
def test_a_failure_to_connect_is_one_line_without_the_password(
    postgres: PostgresServer | GivenServer, form: str
) -> None:
    """Refused, malformed or wrong: what is raised, shown and told holds no part of the password."""
    port = postgres.port if isinstance(postgres, PostgresServer) else 5432
    events: list[Event] = []

    async def work() -> str:
        async with opened(form.format("hunter2", f"127.0.0.1:{port}"), events) as store:
            with pytest.raises(StoreUnavailable) as caught:
                await store.registry_version()
            return f"{caught.value} {caught.value!r} {store._target!r}"

    said = run(work())
    assert "hunter2" not in f"{said} {events}"
    assert "\n" not in said


def test_what_libpq_cannot_say_is_refused(url: str) -> None:
    """A NUL would end a text early and find somebody else; PostgreSQL's own errors leave the connection usable."""

    async def work() -> None:
        link = await open_link(Target(url))
        for value in ("a\0b", "\0"):
            with pytest.raises(Refused):
                await link.query("SELECT $1::text", value)
        with pytest.raises(Refused) as caught:
            await link.query("SELECT 1 / 0")
        assert caught.value.sqlstate == "22012"
        big = "x" * 3_000_000  # more than any socket buffer: goes out in several turns
        assert await link.query("SELECT length($1::text) AS n, $2::bytea AS b", big, b"\0\xff") == [
            {"n": 3_000_000, "b": b"\0\xff"}
        ]
        with pytest.raises(LinkLost):
            await link.query("SELECT pg_sleep(5)", seconds=0.05)
        with pytest.raises(LinkLost):
            await link.query("SELECT 1")

    run(work())


def test_binary_arrays_are_postgresqls(url: str) -> None:
    """What we encode by hand PostgreSQL reads, and what it sends back we read."""

    async def work(link: Link) -> None:
        await link.prepare(b"t", b"SELECT $1, $2, $3", (1001, 1009, 1016))
        for items in ([], [b""], [b"a", b"\xc3\xa9" * 300, b'{}",']):
            future = link.send_prepared(b"t", [array_of(17, items), array_of(25, items), array_of_bigint([-1, 2**40])])
            result = await future
            assert texts(result.get_value(0, 1) or b"") == [item.decode() for item in items]
        link.close()

    async def both() -> None:
        await work(await open_link(Target(url)))

    run(both())


@pytest.mark.rule("AS-TE-30", "OPS-06", "F05")
@pytest.mark.parametrize(
    ("harm", "heal"),
    [
        ("ALTER TABLE registry RENAME TO hidden", "ALTER TABLE hidden RENAME TO registry"),
        ("ALTER TABLE used_once RENAME TO hidden", "ALTER TABLE hidden RENAME TO used_once"),
        ("ALTER DATABASE {name} SET default_transaction_read_only = on", "ALTER DATABASE {name} RESET default_transaction_read_only"),
        ("ALTER TABLE used_once DROP CONSTRAINT used_once_pkey", "ALTER TABLE used_once ADD PRIMARY KEY (digest)"),
        ("ALTER TABLE used_once RENAME COLUMN kid TO key", "ALTER TABLE used_once RENAME COLUMN key TO kid"),
    ],
    ids=["registry", "table", "read-only", "no-key", "column"],
)  # fmt: skip
def test_a_database_that_changes_underneath(url: str, harm: str, heal: str) -> None:
    """Whatever was true when the connection was made and is not any more: StoreUnavailable, and back by itself."""
    name = url.rpartition("/")[2].partition("?")[0]
    events: list[Event] = []

    async def work() -> None:
        async with opened(url, events) as store:
            assert await use(store, "before")
            await asyncio.to_thread(execute, url, harm.format(name=name))
            if "DATABASE" in harm:  # takes effect for new sessions
                await asyncio.to_thread(execute, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                        "WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
            for n in range(5):
                with pytest.raises(StoreUnavailable):
                    await use(store, f"meanwhile {n}")
                await asyncio.sleep(0.05)
            await asyncio.to_thread(execute, url, heal.format(name=name))
            await _until_used(store, "after", 5)
            assert not await use(store, "before")

    run(work())
    assert [event for event, _ in events][-2:] == ["store.down", "store.up"]
    assert len(events) <= 4  # one pair for the connections that were cut, one for what came after


class Restless(PostgresStore):
    """Between any two of its statements somebody switches the client."""

    def __init__(self, url: str, operator: PostgresStore) -> None:
        super().__init__(url)
        self.operator = operator
        self.enabled_at: dict[int, bool] = {}

    async def _all(self, sql: str, *values: Any) -> list[Any]:
        rows = await super()._all(sql, *values)
        await self.switch()
        return rows

    async def switch(self) -> None:
        enabled = len(self.enabled_at) % 2 == 0
        await self.operator.change(DEED, None, [SwitchClient("silent", enabled=enabled, now=0)])
        self.enabled_at[await self.operator.registry_version()] = enabled


@pytest.mark.rule("AS-CA-24", "I6")
def test_a_look_up_is_of_one_moment(url: str) -> None:
    """Version and client come from one statement: a record is never told as of a version that it is older than."""

    async def work() -> None:
        async with opened(url) as operator:
            await operator.change(DEED, None, [AddClient(ClientRecord("silent", {}, 1))])
            store = Restless(url, operator)
            await store.switch()
            for _ in range(6):
                version, found = await store.look_up("silent")
                assert found is not None
                assert found[0].enabled == store.enabled_at[version]
            await store.close()

    run(work())


@pytest.mark.rule("OPS-06", "F16")
def test_a_database_that_was_restored_in_part(url: str) -> None:
    """Without the registry's one row there is no answer, and no other error."""

    async def work() -> None:
        async with opened(url) as store:
            await store.registry_version()
            execute(url, "DELETE FROM registry")
            for asking in (store.registry_version(), store.look_up("billing")):
                with pytest.raises(StoreUnavailable):
                    await asking

    run(work())


@pytest.mark.rule("AS-TE-30")
def test_no_statement_is_compiled(url: str) -> None:
    """The look-up of a client is over before a compiler would have started, whatever the planner thinks of its cost."""

    async def work() -> list[Any]:
        async with opened(url) as store:
            return await store._all("SELECT current_setting('jit') AS jit")

    assert run(work())[0]["jit"] == "off"


# What it stands on


@pytest.mark.rule("OPS-06", "T15")
@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_forgets_in_a_crash_is_refused(postgres_server: PostgresServer, setting: str) -> None:
    """With fsync or full_page_writes off nothing starts, and the message names the setting."""
    postgres_server.stop()
    postgres_server.settings = {setting: "off"}
    postgres_server.start()
    with pytest.raises(Unsafe, match=setting):
        run(migrate(Target(postgres_server.url())))


@pytest.mark.rule("I1", "T15")
@pytest.mark.parametrize(
    ("given", "used"), [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")]
)
def test_commits_are_durable_whatever_the_database_says(url: str, given: str, used: str) -> None:
    """Asynchronous commit set for the database or the role does not reach our sessions; what is stronger stays."""
    name = url.rpartition("/")[2].partition("?")[0]
    execute(url, f"ALTER DATABASE {name} SET synchronous_commit = {given}")

    async def work() -> str:
        link = await open_link(Target(url))
        (row,) = await link.query("SHOW synchronous_commit")
        link.close()
        return str(row["synchronous_commit"])

    assert run(work()) == used


@pytest.mark.rule("F13", "OPS-06")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE groat_schema", "groat init"),
        ("UPDATE groat_schema SET version = 0", "groat init"),
        (
            f"UPDATE groat_schema SET version = {SCHEMA_VERSION + 1}, compatible_from = {SCHEMA_VERSION + 1}",
            "newer groat",
        ),
        (f"UPDATE groat_schema SET version = {SCHEMA_VERSION + 1}", None),
    ],
    ids=["none", "older", "newer", "newer-but-compatible"],
)
def test_the_schemas_version_is_checked(url: str, change: str, said: str | None) -> None:
    """Another version is refused with the command to run; a newer one that still suits this program serves."""
    execute(url, change)

    async def work() -> bool:
        async with opened(url) as store:
            return await use(store, "v")

    if said is None:
        assert run(work())
    else:
        with pytest.raises(StoreUnavailable, match=said):
            run(work())


@pytest.mark.rule("F14", "F13")
def test_many_migrate_at_once(postgres: PostgresServer | GivenServer) -> None:
    """Eight processes on an empty database: one makes the schema, the others wait for it and find it made."""
    url = postgres.database()

    async def work() -> list[bool]:
        return await asyncio.gather(*(migrate(Target(url)) for _ in range(8)))

    assert sorted(run(work())) == [False] * 7 + [True]
    assert execute(url, "SELECT version FROM groat_schema") == [(SCHEMA_VERSION,)]


@pytest.mark.rule("F13")
def test_a_held_migration_lock_is_not_waited_for(url: str) -> None:
    """Two seconds, then StoreUnavailable that says why."""
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (0x67726F6174,))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="migration lock"):
            run(migrate(Target(url)))
        assert 1.9 < time.monotonic() - began < 4


# Its past


@contextlib.contextmanager
def _restored_dump(server: PostgresServer, url: str) -> Iterator[None]:
    """Dump now, restore over the same database afterwards, while the store's connections stay."""
    dump = server.directory / "dump.sql"
    database = url.rpartition("/")[2]
    address = ("-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres")
    dump.write_text(server.run("pg_dump", *address, "--clean", "--if-exists", database))
    yield
    server.run("psql", *address, "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", str(dump))


@contextlib.contextmanager
def _restored_files(server: PostgresServer, url: str) -> Iterator[None]:
    """Copy the data directory now, put it back afterwards: the database's past has no mark at all."""
    saved = server.directory / "saved"
    server.stop()
    server.run_as_owner("cp", "-a", str(server.data), str(saved))
    server.start()
    yield
    server.stop()
    shutil.rmtree(server.data)
    server.run_as_owner("mv", str(saved), str(server.data))
    server.start()


@contextlib.contextmanager
def _emptied(server: PostgresServer, url: str) -> Iterator[None]:
    """The table is filled anew from an old copy of its data."""
    execute(url, "CREATE TABLE old AS SELECT * FROM used_once")
    yield
    execute(url, "TRUNCATE used_once")
    execute(url, "INSERT INTO used_once SELECT * FROM old")


@pytest.mark.rule("F16", "F05", "T15", "I1")
@pytest.mark.parametrize("restore", [_restored_dump, _restored_files, _emptied], ids=["dump", "files", "data"])
def test_a_restore_to_an_older_state_is_noticed(
    postgres_server: PostgresServer, restore: Callable[..., contextlib.AbstractContextManager[None]]
) -> None:
    """What was used after the backup is refused although the database forgot it; what is signed later is accepted."""
    url = postgres_server.database()
    events: list[Event] = []

    async def work() -> None:
        await migrate(Target(url))
        async with opened(url, events) as store, opened(url, events) as other:
            assert await use(store, "before")
            await asyncio.to_thread(lambda: stack.enter_context(restore(postgres_server, url)))
            await _until_used(store, "lost")
            lost = await _used_at(other, "also lost")
            await asyncio.to_thread(stack.close)
            for replica in (store, other, store):
                deadline = time.monotonic() + 5
                while True:
                    try:
                        assert not await use(replica, "also lost", lost)
                    except BeforeFloor:
                        break
                    except StoreUnavailable:
                        assert time.monotonic() < deadline
                        await asyncio.sleep(0.02)
            floor = (await store.condition()).floor
            assert time.time() - 5 < floor <= time.time() + 11
            assert await use(store, "signed later", floor + 1)

    with contextlib.ExitStack() as stack:
        run(work())
    # Whichever replica looked first: it raised the floor, and the other one found it raised.
    assert "store.went_back" in [event for event, _ in events]


async def _used_at(store: PostgresStore, value: str) -> float:
    """Use it, whatever it takes; returns when it was signed."""
    deadline = time.monotonic() + 5
    while True:
        at = time.time()
        try:
            assert await use(store, value, at)
            return at
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.mark.rule("F05", "I1", "T15")
def test_a_promoted_standby_is_noticed_by_whoever_starts_later(postgres_server: PostgresServer) -> None:
    """A standby is refused; promoted, it raises the floor at the first connection: a use that never reached it is lost to it."""
    url = postgres_server.database()
    standby = postgres_server.standby()

    async def prepare() -> float:
        await migrate(Target(url))
        async with opened(url) as store:
            assert await use(store, "replicated")
            return time.time()

    async def promoted(at: float) -> None:
        there = standby.url(url.rpartition("/")[2], password=postgres_server.password)
        async with opened(there) as store:
            with pytest.raises(StoreUnavailable, match="standby"):
                await store.registry_version()
            standby.run("pg_ctl", "promote", "-D", str(standby.data))
            await asyncio.sleep(0.2)
            deadline = time.monotonic() + 5
            while True:
                try:
                    await use(store, "never replicated", at)
                except BeforeFloor:
                    break
                except StoreUnavailable:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            assert await use(store, "signed later", time.time() + 11)

    at = run(prepare())
    with standby.running_standby(postgres_server):
        run(promoted(at))


@pytest.mark.rule("F03", "F16")
def test_a_restart_is_no_restore(postgres_server: PostgresServer) -> None:
    """Stopping, crashing and starting again raise no floor: nothing was forgotten."""
    url = postgres_server.database()

    async def work() -> None:
        await migrate(Target(url))
        async with opened(url) as store:
            await _until_used(store, "a")
            for end in (postgres_server.stop, postgres_server.kill):
                await asyncio.to_thread(end)
                await asyncio.to_thread(postgres_server.start)
                await _until_used(store, f"b{end.__name__}")
            assert (await store.condition()).floor == 0
            execute(url, "VACUUM used_once")
            assert await use(store, "c")
            assert not await use(store, "a")

    run(work())


@pytest.mark.rule("F09", "T15")
def test_the_databases_clock_is_compared(url: str) -> None:
    """The offset is that between the database's clock and this process's, as it was given."""

    async def work() -> list[float]:
        offsets = []
        for ahead in (0.0, 40.0, -40.0):
            store = PostgresStore(url, clocks=Clocks(lambda ahead=ahead: time.time() + ahead))  # type: ignore[misc]
            offsets.append((await store.condition()).clock_offset or 0.0)
            await store.close()
        return offsets

    near, behind, before = run(work())
    assert abs(near) < 1
    assert abs(behind + 40) < 1
    assert abs(before - 40) < 1


@pytest.mark.rule("ST-10")
def test_publishers_are_found_by_an_index(url: str) -> None:
    """The condition of the question is that of the partial index: among a million clients none is searched for."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(f"EXPLAIN {PUBLISHED.postgres.replace('$1', '10')}").fetchall()
    assert any("clients_publishing" in line for (line,) in plan)
