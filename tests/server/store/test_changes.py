"""Changes of many objects at once: all or nothing, once, and by nobody who read too early, on either engine."""

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
import pytest

from groat.server.store import RegistryMoved, Store, StoreConflict, StoreUnavailable, registry_sql
from groat.server.store.changes import (
    AddApi,
    AddClient,
    AddClientKey,
    Change,
    RemoveApi,
    ReplaceApi,
    ReplaceClient,
    SaveSigningKey,
    SwitchClient,
    Transaction,
)
from groat.server.store.records import ApiRecord
from groat.server.store.registrations import Registrations
from groat.server.store.registry_sql import Statement, alike
from tests.server.store.places import DEED, Place
from tests.server.store.test_contract import KEYS, NOW, ORDERS, client, key_record, run, signing

STOCK = ApiRecord("stock", "https://stock.example", ("read",), NOW)
MANY: Final[Sequence[Change]] = (
    AddApi(STOCK),
    AddClient(client("shop", allow={"stock": ("read",)})),
    AddClientKey(key_record(KEYS[1], "shop")),
    AddClient(client("till")),
    ReplaceClient(client(default_scopes=("read",))),
    SwitchClient("billing", enabled=False, now=NOW),
    SaveSigningKey(signing(KEYS[2])),
    RemoveApi("orders"),
)


async def furnish(store: Store) -> None:
    await store.change(DEED, None, [AddApi(ORDERS), AddClient(client()), AddClientKey(key_record(KEYS[0]))])


async def contents(store: Store) -> tuple[object, ...]:
    """All of the registry."""
    clients = await store.list_clients()
    keys = [key.kid for one in clients for key in await store.client_keys(one.client_id)]
    ring = [key.kid for key in await store.signing_keys()]
    return await store.registry_version(), await store.list_apis(), clients, keys, ring


@pytest.mark.rule("AS-CA-24", "I6")
def test_many_objects_are_one_change(place: Place) -> None:
    """Each kind of object in one transaction: another process sees all of it, and one new version."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await furnish(store)
            seen = await other.registry_version()
            await store.change(DEED, seen, MANY)
            assert await contents(other) == (
                seen + 1,
                (STOCK,),
                (
                    client(default_scopes=("read",), enabled=False),
                    client("shop", allow={"stock": ("read",)}),
                    client("till"),
                ),
                [KEYS[0].kid, KEYS[1].kid],
                [KEYS[2].kid],
            )

    run(work())


@pytest.mark.rule("AS-CA-24", "I6")
def test_who_read_too_early_changes_nothing(place: Place) -> None:
    """Of the many that were decided under an older registry not one is made; under the one in force all are."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await furnish(one)
            seen = await one.registry_version()
            await two.change(DEED, seen, [SwitchClient("billing", enabled=False, now=NOW)])
            before = await contents(two)
            with pytest.raises(RegistryMoved):
                await one.change(DEED, seen, MANY)
            assert await contents(two) == before
            await one.change(DEED, seen + 1, MANY)
            assert await two.registry_version() == seen + 2

    run(work())


@pytest.mark.rule("AS-CA-21", "AS-CA-24")
@pytest.mark.parametrize(
    ("colliding", "said"),
    [
        (AddApi(ORDERS), "an API with name orders or audience https://orders.example exists"),
        (ReplaceApi(ApiRecord("stock", ORDERS.audience, (), NOW)), f"an API with audience {ORDERS.audience} exists"),
        (AddClient(client()), "client billing exists, or existed"),
        (AddClientKey(key_record(KEYS[0], "shop")), "belongs to somebody else"),
        (SaveSigningKey(signing(KEYS[0])), "belongs to somebody else"),
    ],
    ids=["api", "audience", "client", "key", "signing-key"],
)
@pytest.mark.parametrize("after", [3, 7])
def test_one_that_collides_takes_the_others_back(place: Place, colliding: Change, said: str, after: int) -> None:
    """It is told in its own words, wherever it stands, and those before it are as if they had never been."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await furnish(store)
            before = await contents(other)
            with pytest.raises(StoreConflict, match=re.escape(said)):
                await store.change(DEED, None, [*MANY[:after], colliding, *MANY[after:]])
            assert await contents(other) == before
            await store.change(DEED, before[0], MANY)  # type: ignore[arg-type]

    run(work())


@dataclass(frozen=True, slots=True)
class Fails(Change):
    """A statement that the engine cannot carry out."""

    @property
    def object(self) -> str:
        return "api/orders"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(alike("DELETE FROM nowhere WHERE name = $1"), "orders")


@pytest.mark.rule("AS-TE-30")
@pytest.mark.parametrize("after", [0, 4, len(MANY)])
def test_a_statement_that_fails_takes_the_others_back(place: Place, after: int) -> None:
    """StoreUnavailable; nothing of it is there, and the connection it was on serves the next."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await furnish(store)
            before = await contents(other)
            with pytest.raises(StoreUnavailable):
                await store.change(DEED, None, [*MANY[:after], Fails(), *MANY[after:]])
            assert await contents(other) == before
            await store.change(DEED, None, MANY)

    run(work())


# Processes of their own; they read the URL, which may hold a password, from their input.

_DYING: Final = """
import asyncio, os, signal, sys
from pathlib import Path
from groat.server.settings.engines import open_url
from groat.server.store.changes import Change
from tests.server.store.places import DEED
from tests.server.store.test_changes import MANY
class Dies(Change):
    object = "api/orders"
    async def write(self, transaction):
        print("in between", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
async def main(url, after):
    await open_url(url, Path("/")).change(DEED, None, [*MANY[:after], Dies(), *MANY[after:]])
asyncio.run(main(sys.stdin.readline().strip(), int(sys.argv[1])))
"""
_COUNTING: Final = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from groat.server.settings.engines import open_url
from groat.server.store import RegistryMoved
from groat.server.store.changes import AddApi, ReplaceClient
from groat.server.store.records import ApiRecord
from tests.server.store.places import DEED
async def main(url, name, times):
    store, moved = open_url(url, Path("/")), 0
    await store.registry_version()
    print("ready", flush=True); sys.stdin.readline()
    for n in range(times):
        api = ApiRecord(f"{name}{n}", f"https://{name}{n}.example", (), 1)
        while True:
            seen = await store.registry_version()
            client = await store.find_client("billing")
            scopes = *client.settings.default_scopes, api.name
            counted = replace(client, settings=replace(client.settings, default_scopes=scopes))
            try:
                await store.change(DEED, seen, [ReplaceClient(counted), AddApi(api)])
                break
            except RegistryMoved:
                moved += 1
    await store.close()
    print(moved)
asyncio.run(main(sys.stdin.readline().strip(), sys.argv[1], int(sys.argv[2])))
"""


def start(place: Place, program: str, *words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(place.url + "\n")
    process.stdin.flush()
    return process


@pytest.mark.rule("F01", "AS-CA-24")
@pytest.mark.parametrize("after", [4, len(MANY)])
def test_a_process_that_is_killed_in_between(place: Place, after: int) -> None:
    """Killed with some or all of the statements sent, before the end: nothing was changed, and nobody is kept waiting."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            before = await contents(store)
            process = start(place, _DYING, str(after))
            output, _ = await asyncio.to_thread(process.communicate, timeout=60)
            assert (output, process.returncode) == ("in between\n", -signal.SIGKILL)
            assert await contents(store) == before
            async with asyncio.timeout(20):
                while await store.registry_version() == before[0]:
                    try:
                        await store.change(DEED, None, MANY)
                    except StoreUnavailable:  # until the server has noticed that nobody is there any more
                        await asyncio.sleep(0.1)

    run(work())


@pytest.mark.rule("AS-CA-24", "I6")
def test_two_processes_change_at_once(place: Place) -> None:
    """Each replaces what it read and adds something, again where the other was first: no step of either is lost."""
    times = 12

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            before = await store.registry_version()
            counters = [start(place, _COUNTING, name, str(times)) for name in ("a", "b")]
            for counter in counters:
                assert counter.stdout is not None
                assert await asyncio.to_thread(counter.stdout.readline) == "ready\n"
            for counter in counters:
                assert counter.stdin is not None
                counter.stdin.write("\n")
                counter.stdin.flush()
            for counter in counters:
                await asyncio.to_thread(counter.communicate, timeout=60)
                assert counter.returncode == 0
            after = await store.find_client("billing")
            assert after is not None
            assert sorted(after.settings.default_scopes) == sorted(f"{name}{n}" for name in "ab" for n in range(times))
            assert len(await store.list_apis()) == 2 * times + 1
            assert await store.registry_version() == before + 2 * times

    run(work())


# What is to come


@dataclass(frozen=True, slots=True)
class Trust(Change):
    """A row of a table that there is not yet."""

    issuer: str

    @property
    def object(self) -> str:
        return f"trust/{self.issuer}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(alike("INSERT INTO trusted (issuer) VALUES ($1)"), self.issuer)


def test_a_new_table_touches_no_engine(place: Place) -> None:
    """Its changes and its reading are values that either engine takes as they are, collisions and `seen` included."""
    table = "CREATE TABLE trusted (issuer text PRIMARY KEY)"
    if place.url.startswith("sqlite:"):
        with sqlite3.connect(place.url.removeprefix("sqlite:///")) as connection:
            connection.execute(table)
    else:
        with psycopg.connect(place.url) as database:
            database.execute(table)

    async def work() -> None:
        async with place.store() as store:
            assert isinstance(store, Registrations)
            await store.change(
                DEED, await store.registry_version(), [Trust("https://b.example"), Trust("https://a.example")]
            )
            with pytest.raises(StoreConflict):
                await store.change(DEED, None, [Trust("https://c.example"), Trust("https://a.example")])
            with pytest.raises(RegistryMoved):
                await store.change(DEED, 0, [Trust("https://d.example")])
            found = await store._rows(alike('SELECT issuer FROM trusted ORDER BY issuer COLLATE "C"'))
            assert [row["issuer"] for row in found] == ["https://a.example", "https://b.example"]

    run(work())


# The statements

STATEMENTS = {name: value for name, value in vars(registry_sql).items() if isinstance(value, Statement)}


def test_both_engines_understand_every_statement(place: Place) -> None:
    """Each is prepared by its engine, and both spellings take the same values."""
    assert len(STATEMENTS) > 25
    for name, statement in STATEMENTS.items():
        spellings = statement.postgres, statement.sqlite
        numbers = [set(re.findall(r"[$?](\d+)", spelling)) for spelling in spellings]
        assert numbers[0] == numbers[1], name
        if place.url.startswith("sqlite:"):
            with sqlite3.connect(place.url.removeprefix("sqlite:///")) as connection:
                connection.execute(f"EXPLAIN {statement.sqlite}", [None] * len(numbers[1]))
        else:
            with psycopg.connect(place.url) as database:
                database.execute(f"PREPARE tried AS {statement.postgres}")  # type: ignore[call-overload]


def test_texts_are_compared_by_their_bytes(place: Place) -> None:
    """What is listed has the same order on both engines."""
    names = ["Zeta", "alpha", "_x", "Alpha", "zeta", "a-b", "aB"]

    async def work() -> None:
        async with place.store() as store:
            await store.change(DEED, None, [AddApi(ApiRecord(n, f"https://{n}.example", (), NOW)) for n in names])
            await store.change(DEED, None, [AddClient(client(n)) for n in names])
            assert [api.name for api in await store.list_apis()] == sorted(names)
            assert [one.client_id for one in await store.list_clients()] == sorted(names)

    run(work())


def test_no_order_depends_on_a_language() -> None:
    """PostgreSQL is told so for every text that something is ordered by: a database may be made for any language."""
    ordered = [
        (name, term.strip())
        for name, statement in STATEMENTS.items()
        for terms in re.findall(r"ORDER BY (.+?)(?: LIMIT|\)\s|$)", statement.postgres.strip(), re.MULTILINE)
        for term in terms.split(", ")
        if re.search(r"\b(name|client_id|kid)\b", term)
    ]
    assert len(ordered) >= 7
    assert [(name, term) for name, term in ordered if not term.endswith(' COLLATE "C"')] == []
