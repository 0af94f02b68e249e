"""What every store promises, whatever engine it stands on: written against the Store protocol alone."""

import asyncio
import base64
import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import pytest

from groat.keys.ring.keyring import SigningKey
from groat.protocol.binding import Binding
from groat.protocol.client_settings import CLIENT_SETTINGS, DEFAULTS, AssertionAudience, ClientSettings, ScopePolicy
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_limits import KeyLimits
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.store import (
    PURGE_CHUNK,
    BeforeFloor,
    BeforeHorizon,
    Issuance,
    Owned,
    Receipt,
    RegistryMoved,
    Store,
    StoreClosed,
    StoreConflict,
    StoreUnavailable,
)
from groat.server.store.changes import (
    AddApi,
    AddClient,
    AddClientKey,
    LimitClientKey,
    RemoveApi,
    RemoveClient,
    RemoveClientKey,
    ReplaceApi,
    ReplaceClient,
    SaveSigningKey,
    SwitchClient,
)
from groat.server.store.group_commit import MAX_BATCH, MAX_WAITING
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from tests.certificates import Wish, issued
from tests.server.store.places import DEED, Place

NOW = 1_800_000_000
Result = TypeVar("Result")
ORDERS = ApiRecord("orders", "https://orders.example", ("read", "write"), NOW)
KEYS = [generate_private_key("ES256") for _ in range(4)]


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


def once(value: str, client_id: str = "billing", expires_at: int = NOW + 60) -> OneTimeValue:
    return OneTimeValue(OneTimeKind.ASSERTION, client_id, value, expires_at)


def issuance(token_id: str, client_id: str = "billing", **changes: Any) -> Issuance:
    return Issuance(token_id, client_id, "k1", NOW)._replace(**changes)


def client(client_id: str = "billing", **changes: Any) -> ClientRecord:
    """A record with changes to its fields and to its settings."""
    settings = {name: changes.pop(name) for name in CLIENT_SETTINGS if name in changes}
    return replace(ClientRecord(client_id, {"orders": ("read",)}, NOW, settings=ClientSettings(**settings)), **changes)


def key_record(key: PrivateKey, client_id: str = "billing", **changes: Any) -> ClientKeyRecord:
    public = key.public
    record = ClientKeyRecord(public.kid, client_id, public.thumbprint, public.algorithm, dict(public.jwk), NOW)
    return replace(record, **changes)


def signing(key: PrivateKey, **changes: Any) -> SigningKey:
    return replace(SigningKey(key.public, NOW, NOW, sealed=b"sealed"), **changes)


# use_once


@pytest.mark.rule("AS-CA-10", "I1")
def test_a_value_is_fresh_once(place: Place) -> None:
    """The first use is fresh and no later one is, by this store, another one, or one opened later."""

    async def work() -> list[bool]:
        fresh: list[bool] = []
        async with place.store() as one, place.store() as two:
            for store in (one, one, two):
                fresh.append((await store.use_once(once("a"), issuance(f"t{len(fresh)}"))).fresh)
        async with place.store() as three:
            fresh.append((await three.use_once(once("a"), issuance("t9"))).fresh)
        return fresh

    assert run(work()) == [True, False, False, False]


@pytest.mark.rule("AS-CA-11", "P02", "I1")
@pytest.mark.parametrize("stores", [1, 2, 3])
def test_duplicates_in_flight_together(place: Place, stores: int) -> None:
    """Of sixty uses of one value in one turn of the loop, over one or more stores, exactly one is fresh."""

    async def work() -> list[Receipt]:
        async with place.store() as one, place.store() as two, place.store() as three:
            chosen = [one, two, three][:stores]
            uses = [chosen[n % stores].use_once(once("same"), issuance(f"t{n}")) for n in range(60)]
            return await asyncio.gather(*uses)

    assert sum(receipt.fresh for receipt in run(work())) == 1


def proof(jti: str, key: str = "thumbprint", expires_at: int = NOW + 70, signed_at: float = 0) -> OneTimeValue:
    return OneTimeValue(OneTimeKind.PROOF, key, jti, expires_at, signed_at)


@pytest.mark.rule("AS-DP-14")
def test_a_value_and_its_proof_go_together(place: Place) -> None:
    """A known value leaves the proof unused; a known proof is told, and its value is used up; each key has its jtis."""

    async def work() -> list[tuple[bool, bool]]:
        async with place.store() as one, place.store() as two:
            told = []
            for number, (value, shown) in enumerate(
                [
                    ("a", proof("p")),  # both new
                    ("a", proof("q")),  # the value is known: q stays unused
                    ("b", proof("q")),
                    ("c", proof("p")),  # the proof is known, and c is used up
                    ("c", proof("r")),
                    ("d", proof("r")),
                    ("e", proof("r", "another")),
                    ("f", None),
                    ("f", proof("s")),
                ]
            ):
                store = (one, two)[number % 2]
                receipt = await store.use_once(once(value), issuance(f"t{number}"), shown)
                told.append((receipt.fresh, receipt.fresh and receipt.proof_fresh))
            return told

    yes, no, replayed = (True, True), (False, False), (True, False)
    assert run(work()) == [yes, no, yes, replayed, no, yes, yes, yes, no]


@pytest.mark.rule("AS-DP-14")
@pytest.mark.parametrize("stores", [1, 3])
def test_one_proof_with_many_values_at_once(place: Place, stores: int) -> None:
    """Fifty fresh values with one proof in one turn, over one or more stores, and as many without any: one is proven."""

    async def work() -> list[Receipt]:
        async with place.store() as one, place.store() as two, place.store() as three:
            chosen = [one, two, three][:stores]
            uses = [
                chosen[n % stores].use_once(once(f"v{n}"), issuance(f"t{n}"), proof("same") if n < 50 else None)
                for n in range(100)
            ]
            return await asyncio.gather(*uses)

    receipts = run(work())
    assert all(receipt.fresh for receipt in receipts)
    assert sum(receipt.proof_fresh for receipt in receipts[:50]) == 1
    assert all(receipt.proof_fresh for receipt in receipts[50:])


@pytest.mark.rule("AS-DP-14")
def test_values_and_proofs_that_cross(place: Place) -> None:
    """Batches that share values and proofs in every order never wait for each other in a circle, and count each once."""

    async def work() -> Counter[str]:
        won: Counter[str] = Counter()
        async with place.store() as one, place.store() as two:

            async def use(store: Store, number: int, value: str, jti: str) -> None:
                receipt = await store.use_once(once(value), issuance(f"t{number}"), proof(jti))
                won[value] += receipt.fresh
                won[jti] += receipt.fresh and receipt.proof_fresh

            uses = [use((one, two)[n % 2], n, f"v{n * 7 % 300}", f"p{n * 11 % 100}") for n in range(1200)]
            await asyncio.gather(*uses)
        return won

    won = run(work())
    assert {won[f"v{n}"] for n in range(300)} == {1}
    assert max(won.values()) == 1
    assert sum(won[f"p{n}"] for n in range(100)) > 0


@pytest.mark.rule("AS-DP-14", "AS-DP-08")
def test_the_rows_of_a_value_and_its_proof(place: Place) -> None:
    """One is the record of the token; the other names no signing key, and holds neither jti nor key in the clear."""

    async def work() -> list[dict[str, Any]]:
        async with place.store() as store:
            await store.use_once(once("a"), issuance("t"), proof("canary-jti", "canary-key"))
            return [row async for rows in store.read_all("used_once") for row in rows]

    rows = {row["token_id"]: row for row in run(work())}
    assert rows.keys() == {"t", "proof of possession t"}
    assert (rows["t"]["kid"], rows["proof of possession t"]["kid"]) == ("k1", "")
    assert "canary" not in repr(rows)


@pytest.mark.rule("AS-DP-14")
def test_a_proof_that_the_memory_cannot_know(place: Place) -> None:
    """One that was signed before the floor, or ends before the horizon, is neither fresh nor known: no token."""

    async def work() -> None:
        async with place.store() as operator, place.store() as server:
            await server.use_once(once("warm"), issuance("t0"))
            await operator.raise_floor(DEED, NOW - 5)
            await operator.raise_horizon(NOW + 30)
            for _ in range(2):  # by what the batch says, then by what this process knows
                with pytest.raises(BeforeFloor):
                    await server.use_once(replace(once("a"), signed_at=NOW), issuance("t1"), proof("p", signed_at=1))
                with pytest.raises(BeforeHorizon):
                    late = proof("q", expires_at=NOW + 30, signed_at=NOW)
                    await server.use_once(replace(once("b"), signed_at=NOW), issuance("t2"), late)

    run(work())


def owned(by: str, value: str = "hash", expires_at: int = NOW + 3600, signed_at: float = 0) -> Owned:
    return Owned(OneTimeValue(OneTimeKind.OWNED_TOKEN, "https://ci.example", value, expires_at, signed_at), by)


@pytest.mark.rule("AS-JB-11")
def test_a_value_belongs_to_its_first_user(place: Place) -> None:
    """As often as he likes, by whichever store; of anybody else nothing is written, and his proof stays unused."""

    async def work() -> tuple[list[bool], list[dict[str, Any]]]:
        told = []
        async with place.store() as one, place.store() as two:
            for number, (by, value, shown) in enumerate(
                [
                    ("k1", "a", proof("p1")),
                    ("k1", "a", proof("p2")),
                    ("k2", "a", proof("p3")),
                    ("k1", "a", None),
                    ("k2", "b", proof("p3")),  # another value, and the proof is unused
                    ("k2", "a", None),
                ]
            ):
                store = (one, two)[number % 2]
                receipt = await store.use_once(once(f"v{number}"), issuance(f"t{number}"), shown, owned(by, value))
                told.append(receipt.fresh and receipt.proof_fresh)
            replayed = await one.use_once(once("v9"), issuance("t9"), proof("p1"), owned("k1", "a"))
            assert (replayed.fresh, replayed.proof_fresh) == (True, False)
            return told, [row async for rows in one.read_all("used_once") for row in rows]

    told, rows = run(work())
    assert told == [True, True, False, True, True, False]
    names = Counter(row["token_id"] for row in rows)
    assert {name for name in names if name.startswith("owned")} == {"owned token k1", "owned token k2"}
    assert {name for name in names if name.startswith("t")} == {"t0", "t1", "t3", "t4", "t9"}
    assert {row["kid"] for row in rows if row["token_id"].startswith("owned")} == {""}
    assert max(names.values()) == 1


@pytest.mark.rule("AS-JB-11")
@pytest.mark.parametrize("stores", [1, 3])
def test_many_users_of_one_value_at_once(place: Place, stores: int) -> None:
    """Of sixty uses in one turn, by two in turns, over one or more stores: one of the two owns it, in all of his."""

    async def work() -> list[Receipt]:
        async with place.store() as one, place.store() as two, place.store() as three:
            chosen = [one, two, three][:stores]
            uses = [
                chosen[n % stores].use_once(once(f"v{n}"), issuance(f"t{n}"), proof(f"p{n}"), owned(f"k{n // 7 % 2}"))
                for n in range(60)
            ]
            return await asyncio.gather(*uses)

    receipts = run(work())
    winners = {n // 7 % 2 for n, receipt in enumerate(receipts) if receipt.fresh}
    assert len(winners) == 1
    assert all(receipt.fresh == (n // 7 % 2 in winners) for n, receipt in enumerate(receipts))


@pytest.mark.rule("AS-JB-11")
def test_owned_values_that_cross(place: Place) -> None:
    """Batches of owned values, proofs and plain ones in every order never wait in a circle; each has one owner."""

    async def work() -> dict[str, set[str]]:
        owners: dict[str, set[str]] = {}
        async with place.store() as one, place.store() as two:

            async def use(store: Store, n: int) -> None:
                value, by = f"h{n * 7 % 50}", f"k{n * 3 % 4}"
                mine = owned(by, value) if n % 3 else None
                shown = proof(f"p{n * 11 % 100}") if n % 2 else None
                receipt = await store.use_once(once(f"v{n}"), issuance(f"t{n}"), shown, mine)
                if receipt.fresh and mine is not None:
                    owners.setdefault(value, set()).add(by)

            await asyncio.gather(*(use((one, two)[n // 5 % 2], n) for n in range(900)))
        return owners

    owners = run(work())
    assert len(owners) == 50
    assert {len(found) for found in owners.values()} == {1}


@pytest.mark.rule("AS-JB-11")
def test_an_owner_that_the_memory_cannot_know(place: Place) -> None:
    """Of a value from before the floor, or that ends before the horizon, nobody can tell whose it is: no token."""

    async def work() -> None:
        async with place.store() as operator, place.store() as server:
            await server.use_once(once("warm"), issuance("t0"))
            await operator.raise_floor(DEED, NOW - 5)
            await operator.raise_horizon(NOW + 30)
            for _ in range(2):  # by what the batch says, then by what this process knows
                with pytest.raises(BeforeFloor):
                    await server.use_once(
                        replace(once("a"), signed_at=NOW), issuance("t1"), None, owned("k", signed_at=1)
                    )
                with pytest.raises(BeforeHorizon):
                    late = owned("k", "late", expires_at=NOW + 30, signed_at=NOW)
                    await server.use_once(replace(once("b"), signed_at=NOW), issuance("t2"), None, late)
            await operator.shut(DEED, NOW)
            with pytest.raises(StoreClosed):
                mine = owned("k", "closed", signed_at=NOW)
                await server.use_once(replace(once("c"), signed_at=NOW), issuance("t3"), None, mine)

    run(work())


@pytest.mark.rule("AS-JB-11")
def test_an_owner_is_forgotten_with_his_value(place: Place) -> None:
    """By the horizon, as every used value; then nobody can claim it either."""

    async def work() -> set[str]:
        async with place.store() as store:
            mine = owned("k", expires_at=NOW + 30)
            assert (await store.use_once(once("a", expires_at=NOW + 30), issuance("t"), None, mine)).fresh
            await store.use_once(once("b", expires_at=NOW + 3600), issuance("u"), None, owned("k", "stays"))
            await store.raise_horizon(NOW + 31)
            assert sum([await store.forget_expired() for _ in range(256)]) == 2
            with pytest.raises(BeforeHorizon):
                await store.use_once(once("c", expires_at=NOW + 3600), issuance("w"), None, mine)
            return {row["token_id"] async for rows in store.read_all("used_once") for row in rows}

    assert run(work()) == {"u", "owned token k"}


@pytest.mark.rule("AS-CA-11", "L03", "I1")
def test_two_writers_race(place: Place) -> None:
    """Six hundred values through two stores at once, each four times in mixed batches: each is fresh exactly once."""

    async def work() -> dict[str, int]:
        wins: dict[str, int] = {}
        async with place.store() as one, place.store() as two:

            async def use(store: Store, value: str, token_id: str) -> None:
                if await was_fresh(store, value, token_id):
                    wins[value] = wins.get(value, 0) + 1

            uses = [use((one, two)[n % 2], f"v{(n * 7) % 600}", f"t{n}") for n in range(2400)]
            await asyncio.gather(*uses)
        return wins

    wins = run(work())
    assert len(wins) == 600
    assert set(wins.values()) == {1}


async def was_fresh(store: Store, value: str, token_id: str) -> bool:
    """Tried again where too many waited: a busy machine sheds some, and uses nothing up for them."""
    while True:
        try:
            return (await store.use_once(once(value), issuance(token_id))).fresh
        except StoreUnavailable as error:
            assert "nothing was used up" in str(error)
            await asyncio.sleep(0.05)


@pytest.mark.rule("AS-CA-11", "P02")
def test_an_expiry_makes_no_other_value(place: Place) -> None:
    """The same value with another expiry is the same value."""

    async def work() -> list[bool]:
        async with place.store() as store:
            return [
                (await store.use_once(once("a", expires_at=NOW + n), issuance(f"t{n}"))).fresh for n in (60, 61, 600)
            ]

    assert run(work()) == [True, False, False]


@pytest.mark.rule("P06", "A12")
def test_values_belong_to_clients(place: Place) -> None:
    """Pairs that only look alike are different values, whatever characters they hold."""
    pairs = [("ab", "c"), ("a", "bc"), ("a", "b"), ("a", "B"), ("a", "b "), ("a", "b\0"), ("a", "\0b"), ("a", "'"),
             ("a", "\U0001f600"), ("a", "e\u0301"), ("a", "\u00e9"), ("a", "x" * 256)]  # fmt: skip

    async def work() -> list[bool]:
        async with place.store() as store:
            uses = [store.use_once(once(value, name), issuance(f"t{n}")) for n, (name, value) in enumerate(pairs)]
            return [receipt.fresh for receipt in await asyncio.gather(*uses)]

    assert run(work()) == [True] * len(pairs)


@pytest.mark.rule("AS-CA-24", "I6")
def test_a_receipt_tells_the_version_in_force(place: Place) -> None:
    """The version that comes with a use is at least that of every change that was done before the answer."""

    async def work() -> None:
        async with place.store() as store, place.store() as operator:
            await operator.change(DEED, None, [AddApi(ORDERS)])
            for n in range(10):
                await operator.change(DEED, None, [ReplaceApi(replace(ORDERS, scopes=(f"s{n}",)))])
                receipt = await store.use_once(once(f"v{n}"), issuance(f"t{n}"))
                assert receipt.registry_version == await operator.registry_version()
                assert receipt.registry_version == await store.registry_version()

    run(work())


@pytest.mark.rule("AS-TE-30", "F04")
def test_a_use_that_cannot_be_written_in_time(place: Place) -> None:
    """While writes are held up: StoreUnavailable within seconds, the value is not used up, and reads go on after it.

    Meanwhile they may be refused, too: a statement without an answer, as on a busy machine, opens the breaker, and it
    closes when values can be written.
    """

    async def work() -> None:
        async with place.store() as store:
            await store.use_once(once("warm"), issuance("t0"))
            release = await asyncio.to_thread(place.block)  # what it waits for needs this loop
            try:
                began = time.monotonic()
                reading = await store.registry_version()
                results = await asyncio.gather(
                    *(store.use_once(once(f"v{n}"), issuance(f"t{n}")) for n in range(5)), return_exceptions=True
                )
                assert all(isinstance(result, StoreUnavailable) for result in results), results
                assert time.monotonic() - began < 4
            finally:
                release()
            assert reading == await _read_within(store, 5)
            assert (await store.use_once(once("v0"), issuance("again"))).fresh

    run(work())


async def _read_within(store: Store, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await store.registry_version()
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@pytest.mark.rule("AS-TE-30")
def test_a_registration_that_cannot_be_written(place: Place) -> None:
    """A write to the registry that is held up raises StoreUnavailable and changes nothing."""

    async def work() -> None:
        async with place.store() as store:
            before = await store.registry_version()
            release = await asyncio.to_thread(place.block)  # what it waits for needs this loop
            try:
                with pytest.raises(StoreUnavailable):
                    await store.change(DEED, None, [AddApi(ORDERS)])
            finally:
                release()
            assert await store.list_apis() == ()
            assert await store.registry_version() == before
            await store.change(DEED, None, [AddApi(ORDERS)])

    run(work())


@pytest.mark.rule("F12")
def test_close_writes_what_waits(place: Place) -> None:
    """Uses that are in flight when the store closes are answered and remembered."""

    async def work() -> tuple[list[bool], list[bool]]:
        store = place.open()
        pending = [asyncio.ensure_future(store.use_once(once(f"v{n}"), issuance(f"t{n}"))) for n in range(300)]
        await asyncio.sleep(0)
        await store.close()
        first = [receipt.fresh for receipt in await asyncio.wait_for(asyncio.gather(*pending), 5)]
        async with place.store() as again:
            second = await asyncio.gather(*(again.use_once(once(f"v{n}"), issuance(f"u{n}")) for n in range(300)))
        return first, [receipt.fresh for receipt in second]

    first, second = run(work())
    assert first == [True] * 300
    assert second == [False] * 300


@pytest.mark.rule("F12")
def test_close_is_possible_at_any_time(place: Place) -> None:
    """A store that was never used closes, and so does one whose callers gave up."""

    async def work() -> None:
        await place.open().close()
        store = place.open()
        task = asyncio.ensure_future(store.use_once(once("a"), issuance("t")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(store.close(), 5)

    run(work())


@pytest.mark.rule("P10")
def test_callers_that_give_up_disturb_nobody(place: Place) -> None:
    """Half of the callers are cancelled at some moment; the others get their own answers, and later ones too."""

    async def work() -> None:
        async with place.store() as store:
            await store.use_once(once("odd-1"), issuance("used"))
            for round_ in range(10):
                tasks = [
                    asyncio.ensure_future(
                        store.use_once(once(f"r{round_}-{n}" if n % 3 else "odd-1"), issuance(f"t{round_}-{n}"))
                    )
                    for n in range(60)
                ]
                await asyncio.sleep(0.0005 * round_)
                for task in tasks[::2]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                for n, result in enumerate(results):
                    if not isinstance(result, asyncio.CancelledError):
                        assert isinstance(result, Receipt)
                        assert result.fresh is bool(n % 3)

    run(work())


@pytest.mark.rule("I11", "T14")
def test_a_use_is_the_record_of_its_issuance(place: Place) -> None:
    """The row says who got which token, signed by which key, when, from which process; and of the jti its digest."""
    value = once("jti-1")

    async def work() -> list[dict[str, Any]]:
        async with place.store() as store:
            await store.use_once(value, issuance("t1", kid="k9", issued_at=NOW + 3))
            await store.use_once(value, issuance("t2"))
            return [row async for rows in store.read_all("used_once") for row in rows]

    (row,) = run(work())
    assert row.pop("replica").endswith(f"/{os.getpid()}")
    assert row == {"digest": value.digest, "client_id": "billing", "token_id": "t1", "kid": "k9",
                   "issued_at": NOW + 3, "expires_at": NOW + 60}  # fmt: skip


@pytest.mark.rule("I11")
def test_a_use_that_no_token_comes_of_says_what_it_was(place: Place) -> None:
    """Counted once like any other, also among several at once; its row names no key, and no token that there could be."""
    value = OneTimeValue(OneTimeKind.JOIN_CODE, "billing", "nonce", NOW + 60, NOW - 5)

    async def work() -> tuple[list[Receipt], list[dict[str, Any]]]:
        async with place.store() as store:
            receipts = await asyncio.gather(*(store.use_once(value, None) for _ in range(3)))
            return receipts, [row async for rows in store.read_all("used_once") for row in rows]

    receipts, (row,) = run(work())
    assert [receipt.fresh for receipt in receipts] == [True, False, False]
    assert re.fullmatch("join code [0-9a-f]{16}", row.pop("token_id"))
    del row["replica"]
    assert row == {"digest": value.digest, "client_id": "billing", "kid": "", "issued_at": NOW - 5,
                   "expires_at": NOW + 60}  # fmt: skip


# Overload


@pytest.mark.rule("L10", "I2", "AS-TE-30")
def test_what_is_shed_is_not_used_up(place: Place) -> None:
    """Uses beyond the queue are refused at once; refused ones are fresh afterwards, and accepted ones are not."""

    async def work() -> None:
        async with place.store() as store:
            await store.use_once(once("warm"), issuance("t"))
            release = await asyncio.to_thread(place.block)  # what it waits for needs this loop
            try:
                tasks = [asyncio.ensure_future(store.use_once(once(f"v{n}"), issuance(f"t{n}"))) for n in range(6000)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                shed = [n for n, task in enumerate(tasks) if task.done()]
                assert len(shed) >= 6000 - MAX_WAITING - MAX_BATCH
                for n in shed:
                    with pytest.raises(StoreUnavailable, match="nothing was used up"):
                        tasks[n].result()
            finally:
                release()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await _read_within(store, 5)
            again = [await store.use_once(once(f"v{n}"), issuance(f"u{n}")) for n in (*shed[:50], *shed[-50:])]
            assert all(receipt.fresh for receipt in again)
            taken = [n for n, result in enumerate(results) if isinstance(result, Receipt)][:50]
            again = [await store.use_once(once(f"v{n}"), issuance(f"u{n}")) for n in taken]
            assert not any(receipt.fresh for receipt in again)

    run(work())


# The floor


def signed(value: str, at: int) -> OneTimeValue:
    return OneTimeValue(OneTimeKind.ASSERTION, "billing", value, at + 60, at)


@pytest.mark.rule("F16", "F05", "T15")
def test_the_floor_refuses_what_is_older_everywhere(place: Place) -> None:
    """From the very next use on, by every process; later values pass; a floor never goes down."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            for store in (one, two):
                assert (await store.use_once(signed(f"a{id(store)}", NOW), issuance("t"))).fresh
            before = await one.registry_version()
            await one.raise_floor(DEED, NOW + 100)
            await one.raise_floor(DEED, NOW + 50)
            # Past every number that a server may remember another, restored registry under.
            assert before < NOW + 100 <= await two.registry_version()
            for n, store in enumerate((two, one, two)):
                with pytest.raises(BeforeFloor):
                    await store.use_once(signed(f"old{n}", NOW + 99), issuance("t"))
                assert (
                    await store.use_once(signed(f"b{id(store)}-{time.monotonic()}", NOW + 100), issuance("t"))
                ).fresh
            with pytest.raises(BeforeFloor):  # a value that does not say when it was made
                await one.use_once(once("ageless"), issuance("t"))
            assert (await two.condition()).floor == NOW + 100

    run(work())


@pytest.mark.rule("CL-3", "I13")
def test_a_key_is_named_while_a_use_of_it_is_remembered(place: Place) -> None:
    """By whichever process, and until the last one is forgotten."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            assert not await one.names_key("k1")
            await one.use_once(once("a", expires_at=NOW + 60), issuance("t", kid="k1"))
            assert [await two.names_key(kid) for kid in ("k1", "k", "k2")] == [True, False, False]
            await two.shut(DEED, NOW)
            assert await one.names_key("k1")

    run(work())


# A closed store


@pytest.mark.rule("F15", "T15", "I1")
def test_a_closed_store_takes_nothing(place: Place) -> None:
    """Neither uses nor registrations, from any process; reading goes on; it can be taken up again."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await _furnish(one)
            assert (await two.use_once(once("a"), issuance("t"))).fresh
            await one.shut(DEED, NOW)
            assert (await two.condition()).closed_at == NOW
            for store in (two, one):
                with pytest.raises(StoreClosed):
                    await store.use_once(once("b"), issuance("t"))
                with pytest.raises(StoreClosed):
                    await store.change(DEED, None, [SwitchClient("billing", enabled=False, now=NOW)])
                assert await store.find_client("billing") == client()
            await two.shut(DEED, None)
            assert (await one.use_once(once("b"), issuance("t"))).fresh
            assert not (await one.use_once(once("a"), issuance("t2"))).fresh

    run(work())


@pytest.mark.rule("F15", "I1")
def test_closing_waits_for_what_is_under_way(place: Place) -> None:
    """Uses race the closing: whatever was accepted is in the store by the time that closing returns."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            accepted = 0

            async def fire(store: Store, name: str) -> None:
                nonlocal accepted
                for n in range(10_000):
                    try:
                        await store.use_once(once(f"{name}{n}"), issuance("t"))
                    except StoreUnavailable:
                        return
                    accepted += 1

            shots = [asyncio.ensure_future(fire((one, two)[n % 2], f"v{n}-")) for n in range(20)]
            async with asyncio.timeout(20):
                while accepted <= 40:
                    await asyncio.sleep(0.005)
            async with place.store() as operator:
                await operator.shut(DEED, NOW)
                found = sum([len(rows) async for rows in operator.read_all("used_once")])
            await asyncio.gather(*shots)
            assert found == accepted > 20

    run(work())


# forget_expired


@pytest.mark.rule("AS-CA-13", "P09", "L09")
def test_forgetting_is_complete_bounded_and_careful(place: Place) -> None:
    """What expired goes, in small chunks; what did not stays; nothing that is still alive becomes fresh again."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            old = [once(f"old{n}", expires_at=NOW - 1) for n in range(2500)]
            young = [once(f"young{n}", expires_at=NOW) for n in range(200)]
            records = [issuance(f"t{n}", issued_at=NOW - 600) for n in range(2700)]
            await _use_all(store, [*old, *young], records)
            await store.raise_horizon(NOW - 1)
            dropped = [await store.forget_expired() for _ in range(256)]
            assert sum(dropped) == 2500
            assert max(dropped) <= PURGE_CHUNK
            assert sum([await other.forget_expired() for _ in range(256)]) == 0
            again = await asyncio.gather(*(other.use_once(value, issuance(f"u{n}")) for n, value in enumerate(young)))
            assert not any(receipt.fresh for receipt in again)

    run(work())


async def _use_all(store: Store, values: Sequence[OneTimeValue], records: Sequence[Issuance]) -> None:
    """A batch at a time: what waits behind ten others is refused where the disk is slow for a moment."""
    for first in range(0, len(values), 100):
        some = slice(first, first + 100)
        await asyncio.gather(*map(store.use_once, values[some], records[some]))


@pytest.mark.rule("AS-CA-13", "P09", "L09")
def test_the_store_stays_bounded(place: Place) -> None:
    """Ten rounds of uses with a purge after each leave what is alive, not what was ever used."""

    async def work() -> None:
        async with place.store() as store:
            for round_ in range(10):
                now = NOW + 60 * round_
                values = [signed(f"r{round_}-{n}", now) for n in range(300)]
                records = [issuance(f"t{n}", issued_at=now) for n in range(300)]
                await _use_all(store, values, records)
                await store.raise_horizon(now)
                for _ in range(256):
                    await store.forget_expired()
                kept = sum([len(rows) async for rows in store.read_all("used_once")])
                assert kept <= 600

    run(work())


@pytest.mark.rule("AS-CA-13", "I11")
def test_retention_keeps_the_record_longer(keeping: Place) -> None:
    """With a retention of an hour the row stays an hour; before and after, the value is refused."""

    async def work() -> None:
        async with keeping.store() as store:
            await store.use_once(once("a"), issuance("t1"))
            assert not (await store.use_once(once("a"), issuance("t2"))).fresh
            await store.raise_horizon(NOW + 3599)
            assert [await store.forget_expired() for _ in range(256)] == [0] * 256
            with pytest.raises(BeforeHorizon):
                await store.use_once(once("a"), issuance("t3"))
            await store.raise_horizon(NOW + 3600)
            assert sum([await store.forget_expired() for _ in range(256)]) == 1

    run(work())


@pytest.mark.rule("AS-CA-13")
def test_forgetting_goes_on_beside_uses(place: Place) -> None:
    """Purging and using at the same time disturb each other in no way."""

    async def work() -> None:
        async with place.store() as store:
            uses = [store.use_once(once(f"v{n}", expires_at=NOW + n), issuance(f"t{n}")) for n in range(500)]
            await store.raise_horizon(NOW - 1)
            purges = [store.forget_expired() for _ in range(50)]
            results = await asyncio.gather(*uses, *purges)
            assert all(result.fresh for result in results[:500] if isinstance(result, Receipt))

    run(work())


# The horizon


@pytest.mark.rule("CL-1", "CL-2", "I1", "I13")
def test_what_may_be_forgotten_is_never_fresh(place: Place) -> None:
    """From the next use on and by every process, also one that opens later; what ends after the horizon is not touched."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            for n, store in enumerate((one, two)):
                assert (await store.use_once(once(f"used{n}"), issuance(f"t{n}"))).fresh
            await one.raise_horizon(NOW + 60)
            await two.raise_horizon(NOW + 30)  # never goes down
            assert (await two.condition()).horizon == NOW + 60
            async with place.store() as three:
                for store in (two, one, three):
                    for value in (once("used0"), once("used1"), once(f"new{id(store)}")):
                        with pytest.raises(BeforeHorizon):
                            await store.use_once(value, issuance("t"))
                    assert (await store.use_once(once(f"later{id(store)}", expires_at=NOW + 61), issuance("t"))).fresh
            assert {row["token_id"] async for rows in one.read_all("used_once") for row in rows} == {"t0", "t1", "t"}

    run(work())


@pytest.mark.rule("CL-1", "I1", "I13")
def test_nothing_goes_that_lies_above_the_horizon(place: Place) -> None:
    """Whoever asks, and whatever his clock says: without a horizon nothing is forgotten."""

    async def work() -> None:
        async with place.store() as store:
            await store.use_once(once("a", expires_at=1), issuance("t1"))
            assert [await store.forget_expired() for _ in range(20)] == [0] * 20
            assert not (await store.use_once(once("a", expires_at=1), issuance("t2"))).fresh

    run(work())


@pytest.mark.rule("CL-1", "CL-2", "I1", "I13")
def test_raising_the_horizon_races_uses(place: Place) -> None:
    """Uses of dying values, a rising horizon and purges at once by several processes: nothing is fresh twice.

    Each value is presented over and over around the moment at which it is forgotten.
    """
    wins: Counter[int] = Counter()
    refused: set[int] = set()
    numbers, rising = count(), True

    async def present(store: Store, value: int) -> None:
        try:
            receipt = await store.use_once(once(f"v{value}", expires_at=NOW + value), issuance(f"t{next(numbers)}"))
        except BeforeHorizon:
            refused.add(value)
        except StoreUnavailable:
            pass  # a disk that is slow for a moment; nobody was told that it is fresh
        else:
            wins[value] += receipt.fresh

    async def rise(store: Store) -> int:
        nonlocal rising
        forgotten = horizon = 0
        while horizon < 60:
            with contextlib.suppress(StoreUnavailable):  # as the chore does: it is tried again
                await store.raise_horizon(NOW + horizon)
                horizon += 1
                forgotten += await store.forget_expired()
            await asyncio.sleep(0.03)
        rising = False
        return forgotten

    async def press(store: Store) -> None:
        while rising:
            await asyncio.gather(*(present(store, value) for value in range(80)))

    async def work() -> int:
        async with place.store() as one, place.store() as two, place.store(careful=True) as three:
            forgotten, *_ = await asyncio.gather(rise(three), press(one), press(two))
            return forgotten

    assert run(work()) > 10
    assert set(wins.values()) <= {0, 1}
    assert wins.total() > 60
    assert len(refused) > 50


@pytest.mark.rule("CL-2", "I1", "I13")
def test_a_horizon_that_is_taken_back_leaves_a_floor(place: Place) -> None:
    """By the word of an operator: whatever was signed until then is refused by the floor, later values pass."""

    async def work() -> None:
        async with place.store() as store:
            assert (await store.use_once(signed("used", NOW), issuance("t"))).fresh
            await store.raise_horizon(NOW + 5_000_000)
            while not await store.forget_expired():
                pass
            before = await store.registry_version()
            await store.lower_horizon(DEED, NOW - 600, NOW + 10)
            condition = await store.condition()
            assert (condition.horizon, condition.floor) == (NOW - 600, NOW + 10)
            assert condition.registry_version > before
        async with place.store() as store:
            with pytest.raises(BeforeFloor):
                await store.use_once(signed("used", NOW), issuance("t2"))
            assert (await store.use_once(signed("later", NOW + 10), issuance("t3"))).fresh
            await store.lower_horizon(DEED, NOW, NOW)
            assert (await store.condition()).horizon == NOW - 600

    run(work())


@pytest.mark.rule("CL-1", "F15", "I1")
def test_a_closed_store_keeps_its_horizon(place: Place) -> None:
    """What moved elsewhere stays as it was copied: a horizon that rose behind the copy would be unknown there."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await one.use_once(once("a", expires_at=NOW), issuance("t"))
            await one.raise_horizon(NOW + 1)
            await two.shut(DEED, NOW)
            await one.raise_horizon(NOW + 2)
            assert [await one.forget_expired() for _ in range(20)] == [0] * 20
            assert (await two.condition()).horizon == NOW + 1
            await two.shut(DEED, None)
            assert sum([await one.forget_expired() for _ in range(20)]) == 1

    run(work())


@pytest.mark.rule("CL-1", "F15", "I1")
def test_a_filled_store_knows_the_horizon(place: Place) -> None:
    """Contents come with the horizon of the store that they come from."""

    async def contents() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
        yield "apis", [{"name": "orders", "audience": "https://orders.example", "scopes": "[]", "created_at": NOW}]

    async def work() -> None:
        async with place.store() as store:
            await store.fill(DEED, contents(), 7, NOW, NOW + 60)
            assert (await store.condition()).horizon == NOW + 60
            with pytest.raises(BeforeHorizon):
                await store.use_once(signed("a", NOW), issuance("t"))

    run(work())


# The registry

Write = Callable[[Store], Coroutine[Any, Any, range]]
WRITES: dict[str, Write] = {
    "add_api": lambda store: store.change(
        DEED, None, [AddApi(replace(ORDERS, name="new", audience="https://new.example"))]
    ),
    "update_api": lambda store: store.change(DEED, None, [ReplaceApi(replace(ORDERS, scopes=("read",)))]),
    "remove_api": lambda store: store.change(DEED, None, [RemoveApi("orders")]),
    "add_client": lambda store: store.change(
        DEED, None, [AddClient(client("new")), AddClientKey(key_record(KEYS[1], "new"))]
    ),
    "update_client": lambda store: store.change(DEED, None, [ReplaceClient(client(default_scopes=("read",)))]),
    "switch_client": lambda store: store.change(DEED, None, [SwitchClient("billing", enabled=False, now=NOW)]),
    "remove_client": lambda store: store.change(DEED, None, [RemoveClient("billing", NOW)]),
    "add_client_keys": lambda store: store.change(DEED, None, [AddClientKey(key_record(KEYS[1]))]),
    "remove_client_key": lambda store: store.change(DEED, None, [RemoveClientKey("billing", KEYS[0].kid)]),
    "limit_client_key": lambda store: store.change(
        DEED, None, [LimitClientKey("billing", KEYS[0].kid, KeyLimits(NOW, NOW + 1))]
    ),
    "save_signing_keys": lambda store: store.change(DEED, None, [SaveSigningKey(signing(KEYS[2]))]),
}


async def _furnish(store: Store) -> None:
    await store.change(DEED, None, [AddApi(ORDERS)])
    await store.change(DEED, None, [AddClient(client()), AddClientKey(key_record(KEYS[0]))])


@pytest.mark.rule("AS-CA-24", "I6")
@pytest.mark.parametrize("name", WRITES)
def test_every_write_raises_the_version(place: Place, name: str) -> None:
    """Each kind of write is seen by another process as a new, higher version."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await _furnish(store)
            before = await other.registry_version()
            await WRITES[name](store)
            assert await other.registry_version() > before

    run(work())


@pytest.mark.rule("AS-CA-10")
def test_uses_and_purges_leave_the_version_alone(place: Place) -> None:
    """Single use is no change of the registry."""

    async def work() -> None:
        async with place.store() as store:
            before = await store.registry_version()
            await store.use_once(once("a"), issuance("t"))
            await store.raise_horizon(NOW)
            await store.forget_expired()
            assert await store.registry_version() == before

    run(work())


def test_records_come_back_as_they_went_in(place: Place) -> None:
    """Every field of APIs, clients, keys and signing keys survives, also in another process."""
    own = (base64.b64encode(issued(Wish()).der).decode(),)
    full = client(
        certificates=own, certificate_ca=own, certificate_dns="billing.example",
        allow={"orders": ("read", "write"), "z": ()}, enabled=False, default_scopes=("read",), grant_types=("a", "b"),
        assertion_audience=AssertionAudience.ISSUER_OR_TOKEN_ENDPOINT, max_assertion_lifetime=77, signing_alg="ES256",
        strict_typ=True, jwks_uri="https://keys.example/jwks", token_lifetime=90, scope_policy=ScopePolicy.NARROW,
        claims={"tenant": "acmé"}, owner="Accounts", labels={"env": "prod"}, binding=Binding.DPOP,
    )  # fmt: skip
    unset = {name for name in CLIENT_SETTINGS if getattr(full.settings, name) == getattr(DEFAULTS, name)}
    assert unset == {f"certificate_{kind}" for kind in ("uri", "dn", "ip", "email")}  # one name at most
    ring = (signing(KEYS[2], retires_at=NOW + 1, removes_at=NOW + 2), signing(KEYS[3], activates_at=NOW + 1))

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            short = ApiRecord("short", "https://short.example", (), NOW, 120, Binding.DPOP)
            await store.change(DEED, None, [AddApi(ORDERS), AddApi(short)])
            await store.change(DEED, None, [ReplaceApi(replace(ORDERS, token_lifetime=61, binding=Binding.ANY))])
            limited = key_record(KEYS[1], not_before=NOW + 5, expires_at=NOW + 9, last_used_at=NOW + 7)
            await store.change(DEED, None, [AddClient(full), AddClientKey(key_record(KEYS[0])), AddClientKey(limited)])
            await store.change(DEED, None, [*map(SaveSigningKey, ring)])
            assert await other.list_apis() == (replace(ORDERS, token_lifetime=61, binding=Binding.ANY), short)
            assert await other.find_client("billing") == full
            assert await other.list_clients() == (full,)
            assert {k.kid for k in await other.client_keys("billing")} == {KEYS[0].kid, KEYS[1].kid}
            assert set(map(repr, await other.client_keys("billing"))) == {repr(key_record(KEYS[0])), repr(limited)}
            read = await other.signing_keys()
            assert [(k.kid, k.created_at, k.activates_at, k.retires_at, k.removes_at, k.sealed) for k in read] == [
                (k.kid, k.created_at, k.activates_at, k.retires_at, k.removes_at, k.sealed) for k in ring
            ]

    run(work())


@pytest.mark.rule("AS-CA-18", "ST-10")
def test_where_clients_publish_their_keys(place: Place) -> None:
    """Each address once, those of enabled clients alone, as of now; no more clients than were asked for."""
    one, two = "https://a.example/k", "https://b.example/k?x=1"

    async def work() -> None:
        async with place.store() as store:
            assert await store.published_at(10) == ()
            for name, uri in (("a", one), ("b", two), ("c", one), ("d", None), ("e", "https://e.example/")):
                await store.change(DEED, None, [AddClient(client(client_id=name, jwks_uri=uri))])
            await store.change(DEED, None, [SwitchClient("e", enabled=False, now=NOW)])
            assert await store.published_at(10) == (one, two)
            assert await store.published_at(1) == (one,)
            await store.change(DEED, None, [ReplaceClient(client(client_id="a", jwks_uri=None))])
            assert await store.published_at(10) == (two, one)
            await store.change(DEED, None, [RemoveClient("b", NOW)])
            assert await store.published_at(10) == (one,)

    run(work())


def test_what_is_not_there(place: Place) -> None:
    """Unknown names are None or empty, exactly: no pattern and no other case matches."""

    async def work() -> None:
        async with place.store() as store:
            await _furnish(store)
            for name in ("", "bill", "BILLING", "billing ", "%", "_illing", "' OR 1=1--", "billing\0"):
                assert await store.find_client(name) is None
                assert await store.client_keys(name) == ()
                assert await store.look_up(name) == (await store.registry_version(), None)

    run(work())


@pytest.mark.rule("AS-CA-24", "I6")
def test_a_look_up_tells_the_version_of_what_it_found(place: Place) -> None:
    """Many at once, known and unknown: each with the version in force, also right after another's change."""

    async def work() -> None:
        async with place.store() as store, place.store() as operator:
            await _furnish(operator)
            await operator.change(DEED, None, [AddClient(client("silent"))])
            known = ("billing", "silent")
            for enabled in (False, True, False):
                await operator.change(DEED, None, [SwitchClient("silent", enabled=enabled, now=NOW)])
                version = await operator.registry_version()
                names = [*known, "nobody", "billing\0", *known]
                answers = await asyncio.gather(*map(store.look_up, names))
                assert {version} == {seen for seen, _ in answers}
                found = [found for _, found in answers]
                assert found[2:4] == [None, None]
                assert found[:2] == found[4:]
                assert found[1] == (client("silent", enabled=enabled), ())
                assert found[0] == (client(), await operator.client_keys("billing"))

    run(work())


@pytest.mark.rule("AS-CA-21", "AS-CA-22", "KEY-01", "DEMO-01")
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda store: store.change(DEED, None, [AddApi(ORDERS)]), id="same-api"),
        pytest.param(lambda store: store.change(DEED, None, [AddApi(replace(ORDERS, name="x"))]), id="same-audience"),
        pytest.param(
            lambda store: store.change(DEED, None, [AddClient(client()), AddClientKey(key_record(KEYS[1]))]),
            id="same-client",
        ),
        pytest.param(
            lambda store: store.change(DEED, None, [AddClient(client("x")), AddClientKey(key_record(KEYS[0], "x"))]),
            id="same-key",
        ),
        pytest.param(lambda store: store.change(DEED, None, [AddClientKey(key_record(KEYS[0]))]), id="key-again"),
        pytest.param(
            lambda store: store.change(
                DEED, None, [AddClientKey(key_record(KEYS[1])), AddClientKey(key_record(KEYS[1]))]
            ),
            id="key-twice",
        ),
        pytest.param(
            lambda store: store.change(DEED, None, [AddClientKey(key_record(KEYS[2]))]), id="key-of-the-server"
        ),
        pytest.param(
            lambda store: store.change(DEED, None, [AddClientKey(replace(key_record(KEYS[1]), kid=KEYS[0].kid))]),
            id="same-kid",
        ),
        pytest.param(
            lambda store: store.change(DEED, None, [AddClientKey(key_record(KEYS[1], "nobody"))]), id="key-of-nobody"
        ),
        pytest.param(
            lambda store: store.change(DEED, None, [SaveSigningKey(signing(KEYS[0]))]), id="clients-key-as-servers"
        ),
        pytest.param(
            lambda store: store.change(
                DEED, None, [SaveSigningKey(signing(KEYS[3])), SaveSigningKey(signing(KEYS[0]))]
            ),
            id="all-or-none",
        ),
    ],
)
def test_collisions(place: Place, write: Write) -> None:
    """What collides is StoreConflict, changes nothing at all, and leaves the store usable."""

    async def snapshot(store: Store) -> tuple[object, ...]:
        return (
            await store.registry_version(), await store.list_apis(), await store.list_clients(),
            await store.client_keys("billing"), [key.kid for key in await store.signing_keys()],
        )  # fmt: skip

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await _furnish(store)
            await store.change(DEED, None, [SaveSigningKey(signing(KEYS[2]))])
            before = await snapshot(other)
            with pytest.raises(StoreConflict):
                await write(store)
            assert await snapshot(other) == before
            await store.change(DEED, None, [ReplaceApi(replace(ORDERS, scopes=()))])

    run(work())


@pytest.mark.rule("AS-CA-21", "AS-CA-05")
def test_a_removed_client_is_gone_for_good(place: Place) -> None:
    """Its record and keys are gone, an update does not revive it, its id is taken, and its key is free."""

    async def work() -> None:
        async with place.store() as store:
            await _furnish(store)
            await store.change(DEED, None, [RemoveClient("billing", NOW)])
            assert await store.find_client("billing") is None
            assert await store.list_clients() == ()
            assert await store.client_keys("billing") == ()
            await store.change(DEED, None, [ReplaceClient(client())])
            await store.change(DEED, None, [SwitchClient("billing", enabled=True, now=NOW)])
            assert await store.find_client("billing") is None
            with pytest.raises(StoreConflict):
                await store.change(DEED, None, [AddClient(client()), AddClientKey(key_record(KEYS[1]))])
            await store.change(DEED, None, [AddClient(client("heir")), AddClientKey(key_record(KEYS[0], "heir"))])

    run(work())


@pytest.mark.rule("AS-CA-05", "AS-CA-21")
def test_a_removed_client_takes_no_keys(place: Place) -> None:
    """A key cannot be registered for a client that is gone."""

    async def work() -> None:
        async with place.store() as store:
            await _furnish(store)
            await store.change(DEED, None, [RemoveClient("billing", NOW)])
            with pytest.raises(StoreConflict):
                await store.change(DEED, None, [AddClientKey(key_record(KEYS[1]))])

    run(work())


@pytest.mark.rule("AS-CA-24")
def test_switching_off_survives_a_concurrent_change(place: Place) -> None:
    """An operator who disables a client wins over one who read the record before and writes it back after."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await _furnish(one)
            read = await one.find_client("billing")
            assert read is not None
            changed = replace(read, settings=ClientSettings(default_scopes=("read",)))
            await two.change(DEED, None, [SwitchClient("billing", enabled=False, now=NOW)])
            await one.change(DEED, None, [ReplaceClient(changed)])
            after = await two.find_client("billing")
            assert after == replace(changed, enabled=False)
            await one.change(DEED, None, [SwitchClient("billing", enabled=True, now=NOW)])
            assert await two.find_client("billing") == replace(after, enabled=True)

    run(work())


@pytest.mark.rule("KEY-19", "K09")
def test_of_two_plans_for_one_ring_one_is_written(place: Place) -> None:
    """Signing keys that were planned on an older registry are StoreConflict, and none of them is written."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            seen = await one.registry_version()
            await two.change(DEED, seen, [SaveSigningKey(signing(KEYS[2]))])
            with pytest.raises(StoreConflict):
                await one.change(DEED, seen, [SaveSigningKey(signing(KEYS[3]))])
            assert [key.kid for key in await one.signing_keys()] == [KEYS[2].kid]
            await one.change(DEED, await one.registry_version(), [SaveSigningKey(signing(KEYS[3]))])

    run(work())


def test_saving_signing_keys_replaces_by_kid(place: Place) -> None:
    """A key that is saved again changes its instants and stays one key."""

    async def work() -> None:
        async with place.store() as store:
            await store.change(DEED, None, [SaveSigningKey(signing(KEYS[2])), SaveSigningKey(signing(KEYS[3]))])
            await store.change(DEED, None, [SaveSigningKey(signing(KEYS[2], retires_at=NOW + 9))])
            instants = {key.kid: key.retires_at for key in await store.signing_keys()}
            assert instants == {KEYS[2].kid: NOW + 9, KEYS[3].kid: None}

    run(work())


def test_many_writers_of_the_registry(place: Place) -> None:
    """Registrations from two processes at once all arrive, and the version counts every one of them."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            before = await one.registry_version()
            apis = [ApiRecord(f"a{n}", f"https://a{n}.example", (), NOW) for n in range(40)]
            for first in range(0, 40, 8):  # each waits for those before it, and behind a slow disk forty would be late
                some = enumerate(apis[first : first + 8])
                await asyncio.gather(*((one, two)[n % 2].change(DEED, None, [AddApi(api)]) for n, api in some))
            assert await two.registry_version() == before + 40
            assert len(await one.list_apis()) == 40

    run(work())


@pytest.mark.rule("AS-CA-24", "I6")
def test_a_writer_who_read_too_early_is_told(place: Place) -> None:
    """Whoever replaces what somebody changed since must read again; the first change stands."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await _furnish(one)
            seen = await one.registry_version()
            read = await one.find_client("billing")
            assert read is not None
            changed = replace(read, settings=ClientSettings(default_scopes=("read",)))
            await two.change(DEED, await two.registry_version(), [ReplaceClient(changed)])
            with pytest.raises(RegistryMoved):
                await one.change(DEED, seen, [ReplaceClient(read)])
            after = await two.find_client("billing")
            assert after is not None
            assert after.settings.default_scopes == ("read",)

    run(work())


@pytest.mark.rule("KEY-23")
def test_limits_of_a_key_are_replaced(place: Place) -> None:
    """Both at once, for this key alone, unless the registry moved since it was read."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await _furnish(store)
            await store.change(DEED, None, [AddClientKey(key_record(KEYS[1]))])
            seen = await store.registry_version()
            await store.change(DEED, seen, [LimitClientKey("billing", KEYS[0].kid, KeyLimits(NOW + 1, NOW + 2))])
            limits = {key.kid: key.limits for key in await other.client_keys("billing")}
            assert limits == {KEYS[0].kid: KeyLimits(NOW + 1, NOW + 2), KEYS[1].kid: KeyLimits()}
            for late in (
                store.change(DEED, seen, [LimitClientKey("billing", KEYS[0].kid, KeyLimits())]),
                store.change(DEED, seen, [RemoveClientKey("billing", KEYS[0].kid)]),
            ):
                with pytest.raises(RegistryMoved):
                    await late
            await store.change(DEED, None, [LimitClientKey("billing", KEYS[0].kid, KeyLimits())])
            assert {key.limits for key in await other.client_keys("billing")} == {KeyLimits()}

    run(work())


@pytest.mark.rule("KEY-23")
def test_noted_uses_only_go_up(place: Place) -> None:
    """The latest instant of any process stands; a key of another client or of nobody is left alone; no version moves."""
    own, foreign = KEYS[0].public.thumbprint, KEYS[1].public.thumbprint

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await _furnish(one)
            await one.change(DEED, None, [AddClient(client("other")), AddClientKey(key_record(KEYS[1], "other"))])
            before = await one.registry_version()
            await one.note_key_uses([("billing", own, NOW + 8), ("billing", foreign, NOW), ("nobody", "none", NOW)])
            await two.note_key_uses([("billing", own, NOW + 5)])
            await two.note_key_uses([])
            keys = (*await two.client_keys("billing"), *await two.client_keys("other"))
            assert [key.last_used_at for key in keys] == [NOW + 8, None]
            assert await two.registry_version() == before

    run(work())


def test_since_when_clients_are_unused(place: Place) -> None:
    """A use counts for the client whatever becomes of its key; hours apart, never backwards, and never twice."""
    own = KEYS[0].public.thumbprint
    later = NOW + 10 * 3600

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            await _furnish(one)
            await one.change(
                DEED, None, [AddClient(client("publishes")), AddClient(client("never")), AddClient(client("gone"))]
            )
            await one.change(DEED, None, [RemoveClient("gone", NOW)])
            assert await two.unused_since() == dict.fromkeys(["billing", "publishes", "never"], NOW)
            before = await one.registry_version()
            uses = [("billing", own, later), ("publishes", "elsewhere", later - 9), ("publishes", "other", later)]
            await one.note_key_uses([*uses, ("gone", own, later), ("nobody", "none", later)])
            assert await two.unused_since() == {"billing": later, "publishes": later, "never": NOW}
            await two.note_key_uses([("billing", own, later - 3600), ("publishes", "elsewhere", later + 3599)])
            assert await one.unused_since() == {"billing": later, "publishes": later, "never": NOW}
            await two.note_key_uses([("billing", own, later + 60), ("publishes", "elsewhere", later + 3600)])
            assert await one.unused_since() == {"billing": later + 60, "publishes": later + 3600, "never": NOW}
            await one.change(DEED, None, [RemoveClientKey("billing", KEYS[0].kid)])
            assert (await two.unused_since())["billing"] == later  # to the hour
            await one.change(
                DEED,
                None,
                [ReplaceClient(client("publishes", owner="x")), SwitchClient("publishes", enabled=False, now=NOW)],
            )
            assert (await two.unused_since())["publishes"] == later + 3600
            assert await one.registry_version() == before + 2
            await one.shut(DEED, NOW)
            await one.note_key_uses([("never", "elsewhere", later)])
            assert (await two.unused_since())["never"] == NOW

    run(work())


@pytest.mark.rule("KEY-23")
def test_many_note_uses_beside_registrations(place: Place) -> None:
    """Four processes note the same thirty keys in different orders while keys come and go: nobody is turned away."""
    keys = [generate_private_key("Ed25519") for _ in range(30)]

    async def noting(store: Store, step: int) -> None:
        for turn in range(20):
            uses = [("billing", key.public.thumbprint, NOW + turn) for key in keys]
            await store.note_key_uses(uses[:: (-1) ** step])

    async def registering(store: Store) -> None:
        for turn in range(20):
            await store.change(DEED, None, [AddClient(client(f"c{turn}"))])
            await store.change(DEED, None, [RemoveClient(f"c{turn}", NOW)])
            await store.change(DEED, None, [RemoveClientKey("billing", keys[turn].kid)])

    async def work() -> None:
        async with place.store() as a, place.store() as b, place.store() as c, place.store() as d:
            await a.change(DEED, None, [AddClient(client()), *(AddClientKey(key_record(key)) for key in keys)])
            await asyncio.gather(noting(a, 0), noting(b, 1), noting(c, 2), registering(d))
            assert {key.last_used_at for key in await a.client_keys("billing")} == {NOW + 19}
            assert len(await a.client_keys("billing")) == 10

    run(work())


@pytest.mark.rule("KEY-23")
def test_a_closed_store_takes_no_note(place: Place) -> None:
    """What moved elsewhere stays as it was copied, and whoever notes is not disturbed."""

    async def work() -> None:
        async with place.store() as store:
            await _furnish(store)
            await store.shut(DEED, NOW)
            await store.note_key_uses([("billing", KEYS[0].public.thumbprint, NOW)])
            assert [key.last_used_at for key in await store.client_keys("billing")] == [None]

    run(work())


@pytest.mark.rule("KEY-23")
def test_keys_that_expire_soon_come_with_their_siblings(place: Place) -> None:
    """From `after` on, before `before`, soonest clients first, with all keys of theirs; disabled clients do not count."""
    new = [generate_private_key("Ed25519") for _ in range(7)]
    spans = {"early": NOW + 10, "edge": NOW + 99, "late": NOW + 100, "past": NOW - 1, "off": NOW + 20, "gone": NOW + 20}

    async def work() -> None:
        async with place.store() as store:
            for (name, expires_at), key in zip(spans.items(), new, strict=False):
                await store.change(
                    DEED, None, [AddClient(client(name)), AddClientKey(key_record(key, name, expires_at=expires_at))]
                )
            await store.change(DEED, None, [AddClientKey(key_record(new[6], "early"))])
            await store.change(DEED, None, [SwitchClient("off", enabled=False, now=NOW)])
            await store.change(DEED, None, [RemoveClient("gone", NOW)])
            found = await store.keys_of_expiring(NOW, NOW + 100, 10)
            assert {(key.client_id, key.expires_at) for key in found} == {
                ("early", NOW + 10), ("early", None), ("edge", NOW + 99)}  # fmt: skip
            assert {key.client_id for key in await store.keys_of_expiring(NOW, NOW + 100, 1)} == {"early"}
            assert await store.keys_of_expiring(NOW + 500, NOW + 900, 10) == ()

    run(work())
