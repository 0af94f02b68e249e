"""The audit trail on either engine: one chain by all, rows and change or neither, and what is noticed that was tampered with."""

import asyncio
import hashlib
import json
import resource
import secrets
import signal
import sqlite3
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from groat.server.store import TABLES, Store, StoreConflict, StoreUnavailable
from groat.server.store.audit_chain import FORGOTTEN, Chain
from groat.server.store.audit_trail import AuditRow, Effect
from groat.server.store.changes import AddApi, AddClient, RemoveApi, SwitchClient
from groat.server.store.records import ApiRecord
from groat.server.store.sqlite.store import SqliteStore
from tests.server.store.places import DEED, Place
from tests.server.store.test_changes import _DYING, MANY, furnish, start
from tests.server.store.test_contract import NOW, ORDERS, client, run


async def every_row(store: Store) -> tuple[AuditRow, ...]:
    return await store.audit_rows_after(0, 100_000)


def faults(rows: Sequence[AuditRow], head: str | None = None) -> list[str]:
    chain = Chain(head)
    chain.take(rows)
    chain.finish()
    return chain.faults


def say(place: Place, statement: str, *values: Any) -> None:
    """What somebody does with the database himself."""
    if place.url.startswith("sqlite:"):
        with sqlite3.connect(place.url.removeprefix("sqlite:///")) as connection:
            connection.execute(statement.replace("%s", "?"), values)
    else:
        with psycopg.connect(place.url) as database:
            database.execute(statement, values)  # type: ignore[call-overload]


async def grow(store: Store, times: int) -> None:
    for n in range(times):
        await store.change(DEED, None, [AddApi(replace(ORDERS, name=f"a{n}", audience=f"https://a{n}.example"))])


def test_replicas_write_one_chain(place: Place) -> None:
    """Two stores change at once: numbers without a gap, each row with the hash of the one before it."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            apis = [replace(ORDERS, name=f"a{n}", audience=f"https://a{n}.example") for n in range(12)]
            some = enumerate(apis)
            await asyncio.gather(*((one, two)[n % 2].change(DEED, None, [AddApi(api)]) for n, api in some))
            rows = await every_row(one)
            assert sorted(row.object for row in rows) == sorted(f"api/{api.name}" for api in apis)
            assert ([row.seq for row in rows], faults(rows)) == ([*range(1, 13)], [])
            assert rows == await every_row(two)
            assert await two.audit_rows(limit=2, before=12) == (rows[10], rows[9])

    run(work())


def test_killed_in_between_there_is_neither(place: Place) -> None:
    """SIGKILL within the transaction leaves no change and no row; the next change goes on where the trail was."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            before = await every_row(store), await store.registry_version()
            process = await asyncio.to_thread(start, place, _DYING, str(len(MANY)))
            await asyncio.to_thread(process.communicate, timeout=60)
            assert process.returncode == -signal.SIGKILL
            assert (await every_row(store), await store.registry_version()) == before
            await store.change(DEED, None, MANY)
            rows = await every_row(store)
            assert (faults(rows), rows[: len(before[0])]) == ([], before[0])

    run(work())


def test_what_is_refused_leaves_no_row(place: Place) -> None:
    """A collision takes the rows back with the change."""

    async def work() -> None:
        async with place.store() as store:
            await store.change(DEED, None, [AddApi(ORDERS)])
            before = await every_row(store)
            with pytest.raises(StoreConflict):
                await store.change(DEED, None, [AddClient(client()), AddApi(ORDERS)])
            assert await every_row(store) == before

    run(work())


def test_documents_are_of_the_moment(place: Place) -> None:
    """What was before is read under the lock, not handed in: of two changes in one row the first is in between."""

    async def work() -> None:
        async with place.store() as store:
            await store.change(DEED, None, [AddApi(ORDERS), AddClient(client())])
            rows = await store.change(DEED, None, [SwitchClient("billing", enabled=False, now=0), RemoveApi("orders")])
            switched, removed = await store.audit_rows_after(rows[0] - 1, 10)
            before, after = (json.loads(text or "") for text in (switched.before, switched.after))
            assert (before["enabled"], after["enabled"], before | {"enabled": False}) == (True, False, after)
            assert (removed.object, removed.after) == ("api/orders", None)
            assert switched.registry_version == removed.registry_version == await store.registry_version()

    run(work())


def test_no_row_is_dated_before_what_the_store_has_seen(place: Place) -> None:
    """A clock that is behind shortens no retention."""

    async def work() -> None:
        async with place.store() as store:
            await store.raise_horizon(NOW + 500)
            await grow(store, 1)
            (row,) = await every_row(store)
            assert row.at == NOW + 500

    run(work())


TAMPERING: Final[dict[str, tuple[list[str], str]]] = {
    "changed": (["UPDATE audit SET actor = 'user:eve uid:1' WHERE seq = 3"], "row 3 was changed"),
    "changed-document": (["UPDATE audit SET after = NULL WHERE seq = 5"], "row 5 was changed"),
    "changed-last": (["UPDATE audit SET object = 'api/x' WHERE seq = 6"], "row 6 was changed"),
    "removed": (["DELETE FROM audit WHERE seq = 3"], "row 3 is missing"),
    "removed-some": (["DELETE FROM audit WHERE seq IN (3, 4)"], "rows 3 to 4 are missing"),
    "removed-first": (["DELETE FROM audit WHERE seq <= 2"], "rows 1 to 2 are missing, and no row says"),
    "removed-all": (["DELETE FROM audit"], "there are no rows"),
    "closed-up": (
        ["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4",
         "UPDATE audit SET seq = 4 WHERE seq = 5", "UPDATE audit SET seq = 5 WHERE seq = 6"],
        "row 3 was changed",
    ),
    "swapped": (
        ["UPDATE audit SET seq = 99 WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4",
         "UPDATE audit SET seq = 4 WHERE seq = 99"],
        "row 3 was changed",
    ),
}  # fmt: skip


def put_back(place: Place, rows: Sequence[AuditRow]) -> None:
    say(place, "DELETE FROM audit")
    names = [field.name for field in fields(AuditRow)]
    for row in rows:
        places = ", ".join(["%s"] * len(names))
        say(place, f"INSERT INTO audit ({', '.join(names)}) VALUES ({places})", *(getattr(row, one) for one in names))


def test_what_was_tampered_with_is_named(place: Place) -> None:
    """By whoever can write to the database, one row or a few; the others can still be read."""

    async def work() -> None:
        async with place.store() as store:
            await grow(store, 6)
            whole = await every_row(store)
            found = {}
            for name, (statements, _) in TAMPERING.items():
                for statement in statements:
                    say(place, statement)
                found[name] = faults(await every_row(store))[0]
                put_back(place, whole)
                assert faults(await every_row(store)) == []
            assert {name: text[: len(TAMPERING[name][1])] for name, text in found.items()} == {
                name: expected for name, (_, expected) in TAMPERING.items()
            }

    run(work())


def test_a_row_that_was_written_anew_with_its_hash(place: Place) -> None:
    """The next one names the one that was there."""

    async def work() -> None:
        async with place.store() as store:
            await grow(store, 4)
            row = replace((await every_row(store))[1], actor="user:eve uid:1")
            say(place, "UPDATE audit SET actor = %s, hash = %s WHERE seq = 2", row.actor, row.digest())
            assert faults(await every_row(store)) == [
                "row 3 names another row before it: it or row 2 was put there or changed"
            ]

    run(work())


def test_a_tail_that_is_gone_shows_by_a_head(place: Place) -> None:
    """Cut off, or written anew from some row on, it is a good chain: only a head that was kept elsewhere tells."""

    async def work() -> None:
        async with place.store() as store:
            await grow(store, 5)
            rows = await every_row(store)
            say(place, "DELETE FROM audit WHERE seq >= 4")
            left = await every_row(store)
            assert (faults(left), faults(left, rows[1].hash)) == ([], [])
            assert "rows are gone" in faults(left, rows[4].hash)[0]
            await store.change(DEED, None, [RemoveApi("a0")])
            assert "rows are gone" in faults(await every_row(store), rows[4].hash)[0]

    run(work())


DAMAGE: Final = [
    "UPDATE audit SET after = '{\"scopes\": [' WHERE seq = 2",
    "UPDATE audit SET hash = 'x' WHERE seq = 2",
    "UPDATE audit SET after = CAST(x'ff00fe' AS TEXT), actor = CAST(x'c328' AS TEXT) WHERE seq = 3",
]


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_damaged_row_hides_no_other(place: Place, statement: str) -> None:
    """All rows can be read, that one as far as it is text, the next change goes on, and the check names it."""
    if "CAST" in statement and not place.url.startswith("sqlite:"):
        statement = DAMAGE[0]  # PostgreSQL takes no text that is none
    seq = int(statement[-1])

    async def work() -> None:
        async with place.store() as store:
            await grow(store, 3)
            say(place, statement)
            await store.change(DEED, None, [RemoveApi("a0")])
            rows = await every_row(store)
            assert [row.seq for row in rows] == [1, 2, 3, 4]
            assert f"row {seq} was changed" in faults(rows)[0]
            assert all(f"row {seq}" in fault for fault in faults(rows))

    run(work())


def test_the_hash_is_what_the_guide_says(place: Place) -> None:
    """Anybody can check it without groat: SHA-256 of a JSON array in ASCII without spaces."""

    async def work() -> None:
        async with place.store() as store:
            ours = replace(DEED, actor=replace(DEED.actor, name="user:änn uid:1"))
            await store.change(ours, None, [AddApi(ORDERS)])
            await grow(store, 2)
            previous = "0" * 64
            for row in await every_row(store):
                content = [getattr(row, field.name) for field in fields(AuditRow)][:-1]
                text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
                assert row.previous == previous
                previous = hashlib.sha256(text.encode("ascii")).hexdigest()
                assert row.hash == previous

    run(work())


# Retention


async def _aged(store: Store, *ages: int) -> None:
    """Rows of so many seconds before NOW."""
    for n, age in enumerate(ages):
        record = ApiRecord(f"r{n}-{secrets.token_hex(2)}", f"https://{secrets.token_hex(8)}.example", (), NOW)
        await store.change(replace(DEED, at=NOW - age), None, [AddApi(record)])


def test_what_went_by_retention_is_no_fault(place: Place) -> None:
    """A row says up to where they went, with the last one's hash: the rest is whole, again and again."""
    forgets = replace(DEED, operation=FORGOTTEN)

    async def work() -> None:
        async with place.store() as store:
            await _aged(store, 500, 400, 300, 100, 50)
            old = await every_row(store)
            gone, numbers = await store.forget_audit(forgets, NOW - 200)
            assert (gone, list(numbers)) == (3, [6])
            rows = await every_row(store)
            assert ([row.seq for row in rows], faults(rows, old[3].hash)) == ([4, 5, 6], [])
            assert faults(rows, old[2].hash) == []  # the last that went is known by its hash
            assert await store.forget_audit(forgets, NOW - 200) == (0, range(0))
            gone, _ = await store.forget_audit(replace(forgets, at=NOW + 900), NOW + 800)
            rows = await every_row(store)
            assert (gone, [row.seq for row in rows], faults(rows)) == (3, [7], [])
            say(place, "UPDATE audit SET operation = 'api.added' WHERE seq = 7")
            assert any("no row says that it went by retention" in fault for fault in faults(await every_row(store)))

    run(work())


def test_an_old_date_after_a_young_one_stays(place: Place) -> None:
    """Only from the beginning on, and only up to the first that is young: one wrong clock takes no row of others."""

    async def work() -> None:
        async with place.store() as store:
            await _aged(store, 500, 10, 500, 500)
            assert (await store.forget_audit(replace(DEED, operation=FORGOTTEN), NOW - 200))[0] == 1
            assert [row.seq for row in await every_row(store)] == [2, 3, 4, 5]

    run(work())


def test_a_copy_takes_the_trail_along(place: Place, tmp_path: Path) -> None:
    """And goes on where it was, with a row about that."""

    async def work() -> None:
        target = SqliteStore.create(tmp_path / "target.db")
        async with place.store() as store:
            await grow(store, 3)

            async def contents() -> Any:
                for table in TABLES:
                    async for rows in store.read_all(table):
                        yield table, rows

            await target.fill(replace(DEED, operation="store.copied"), contents(), 9, NOW)
            rows = await every_row(target)
            assert (rows[:3], faults(rows)) == (await every_row(store), [])
            assert (rows[3].operation, rows[3].object) == ("store.copied", "store")
        await target.close()

    run(work())


def test_a_record_by_itself_raises_no_version(place: Place) -> None:
    """A right that was given away is in the trail, and no server has to read anything anew."""

    async def work() -> None:
        async with place.store() as store:
            before = await store.registry_version()
            assert list(await store.record(DEED, Effect("client/billing", None, "{}"))) == [1]
            assert (await store.registry_version(), faults(await every_row(store))) == (before, [])

    run(work())


def test_a_disk_that_is_full_takes_neither(tmp_path: Path) -> None:
    """Where there is room for the change, and none for its rows: nothing is there, and all of it once there is room."""
    big = "x" * 60_000

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        await grow(store, 1)
        wal, usual = tmp_path / "groat.db-wal", resource.getrlimit(resource.RLIMIT_FSIZE)
        before = await every_row(store), await store.registry_version()
        many = [AddApi(replace(ORDERS, name=f"b{n}", audience=f"https://{n}.example/{big}")) for n in range(3)]
        # The rows say what the changes do once more, so that there is room for one of the two.
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 450_000, usual[1]))
        try:
            with pytest.raises(StoreUnavailable):
                await store.change(DEED, None, many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        assert (await every_row(store), await store.registry_version()) == before
        await store.change(DEED, None, many)
        assert faults(await every_row(store)) == []
        await store.close()

    run(work())
