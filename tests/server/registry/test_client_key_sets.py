"""Key sets that clients publish: what is at hand, how often an address is asked, and whom a silent one delays."""

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.outbound.published import MAX_AGE, Fetched, Postponed, Refused
from groat.protocol.client_settings import ClientSettings, SettingsChange
from groat.protocol.jwk import generate_private_key
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.operations.operator import Operator
from groat.server.registry.host_turns import AT_ONCE, PER_HOST, TROUBLED
from groat.server.registry.key_sets import COOLDOWN, LONGEST_COOLDOWN, MAX_SETS, ClientKeySets
from groat.server.registry.publishers import Publishers
from groat.server.registry.registry import Registry
from groat.server.store.registry_sql import PUBLISHED
from groat.server.store.sqlite.store import SqliteStore
from tests.key_set_server import KEY
from tests.waiting import eventually

URI: Final = "https://a.example/k"
NEXT: Final = generate_private_key("ES256")


@dataclass(slots=True)
class Source:
    """A key set that the test changes, on a clock that the test turns."""

    fetched: Fetched = field(default_factory=lambda: Fetched((KEY.public,), 300.0))
    fetches: int = 0
    broken: bool = False
    now: float = 1000.0
    told: list[str] = field(default_factory=list)

    def __call__(self, uri: str) -> Fetched:
        self.fetches += 1
        if self.broken:
            raise Refused("nobody there")
        return self.fetched

    def sets(self) -> ClientKeySets:
        return ClientKeySets(self, lambda host, why: self.told.append(f"{host}: {why}"), lambda: self.now)


async def kids(sets: ClientKeySets, uri: str = URI) -> list[str]:
    """What is at hand once the fetch is over that looking at it may cause."""
    sets.at_hand(uri)
    await sets.settle(10)
    return [key.kid for key in sets.at_hand(uri)]


@pytest.mark.rule("AS-CA-18", "RS-20", "ST-10")
def test_nobody_waits_for_a_set_and_all_share_its_fetch() -> None:
    """Fifty looks at a set that is not there yet return at once, empty-handed, and cause one fetch."""
    source = Source()

    async def work() -> None:
        sets = source.sets()
        assert [sets.at_hand(URI) for _ in range(50)] == [()] * 50
        await sets.settle(10)
        assert [key.kid for key in sets.at_hand(URI)] == [KEY.kid]
        assert source.fetches == 1

    asyncio.run(work())


@pytest.mark.rule("AS-CA-18", "ST-10")
def test_a_set_is_renewed_ahead_of_its_time() -> None:
    """At four fifths of its age, by whoever looks at it or by the chore; what is at hand serves meanwhile."""
    source = Source()

    async def work() -> None:
        sets = source.sets()
        await kids(sets)
        for later, fetches in ((1, 1), (239, 1), (240, 2), (479, 2), (480, 3)):
            source.now = 1000 + later
            sets.tend()
            assert [key.kid for key in sets.at_hand(URI)] == [KEY.kid]
            await sets.settle(10)
            assert source.fetches == fetches, later
        source.fetched, source.now = Fetched((NEXT.public,), 300.0), 1720.0
        assert await kids(sets) == [NEXT.kid]

    asyncio.run(work())


@pytest.mark.rule("AS-CA-18", "ST-10", "I14")
def test_unproven_requests_cause_one_fetch_in_half_a_minute() -> None:
    """Whatever they claim; the first fetch and the renewals do not count, so that a new key is found at once."""
    source = Source()

    async def work() -> None:
        sets = source.sets()
        await kids(sets)
        for later, fetches in ((1, 2), (2, 2), (COOLDOWN, 2), (COOLDOWN + 1, 3), (COOLDOWN + 2, 3)):
            source.now = 1000 + later
            for _ in range(20):
                sets.ask(URI)
            await sets.settle(10)
            assert source.fetches == fetches, later

    asyncio.run(work())


@pytest.mark.rule("AS-CA-18", "KEY-21", "F11")
def test_the_last_good_set_serves_an_hour_of_outage_and_no_longer() -> None:
    """Then nothing vouches for the keys any more; the address is asked less and less often, whoever asks."""
    source = Source()

    async def work() -> None:
        sets = source.sets()
        assert await kids(sets) == [KEY.kid]
        source.broken = True
        tried = []
        for later in range(240, int(MAX_AGE) + 1, 10):
            source.now, before = 1000.0 + later, source.fetches
            sets.ask(URI)
            assert await kids(sets) == ([KEY.kid] if later < MAX_AGE else [])
            tried += [later] * (source.fetches - before)
        pauses = [after - before for before, after in itertools.pairwise(tried)]
        assert pauses[:5] == [30, 60, 120, 240, 480]
        assert set(pauses[4:]) == {LONGEST_COOLDOWN}
        assert set(source.told[1:]) == {"a.example: nobody there"}
        source.broken, source.now = False, source.now + LONGEST_COOLDOWN
        assert await kids(sets) == [KEY.kid]

    asyncio.run(work())


@pytest.mark.rule("AS-CA-18", "KEY-14")
def test_a_bug_in_a_fetch_is_told_by_its_type() -> None:
    """The text may quote what the other side sent."""

    def broken(uri: str) -> Fetched:
        raise ZeroDivisionError("secret")

    told: list[str] = []
    sets = ClientKeySets(broken, lambda host, why: told.append(why))
    assert asyncio.run(kids(sets)) == []
    assert told == ["a bug: ZeroDivisionError"]


@pytest.mark.rule("ST-4")
def test_a_fetch_without_room_is_tried_again_soon() -> None:
    """It says nothing about the host, so that no pause of a failure follows."""
    source = Source()

    def crowded(uri: str) -> Fetched:
        if source.now < 1001:
            raise Postponed("too many")
        return source(uri)

    async def work() -> None:
        told: list[str] = []
        sets = ClientKeySets(crowded, lambda host, why: told.append(why), lambda: source.now)
        assert await kids(sets) == []
        assert await kids(sets, "https://b.example/k") == []
        assert told == ["too many"]  # however many sets that concerns
        source.now = 1001.5
        assert await kids(sets) == [KEY.kid]

    asyncio.run(work())


@pytest.mark.rule("I9", "I14")
def test_the_sets_in_memory_are_bounded() -> None:
    """Those that nobody looked at for longest make room; of those to be kept, what is no longer named goes."""
    sets = ClientKeySets(lambda uri: Fetched((), 60.0))
    for number in range(MAX_SETS + 50):
        sets._find(f"https://{number}.example/k")
    assert len(sets._sets) == MAX_SETS
    sets.keep(["https://new.example/k", "https://9000.example/k"])
    assert set(sets._sets) == {"https://9000.example/k", "https://new.example/k"}


@dataclass(slots=True)
class Hosts:
    """Hosts of which the silent ones hold a fetch until the test ends; knows the most fetches under way at once."""

    ended: threading.Event = field(default_factory=threading.Event)
    under_way: dict[str, int] = field(default_factory=dict)
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, uri: str) -> Fetched:
        host = uri.split("/")[2]
        with self.lock:
            self.under_way[host] = self.under_way.get(host, 0) + 1
            self.most = max(self.most, sum(self.under_way.values()))
        try:
            if "silent" in host and self.ended.wait(20):
                raise Refused("silent")
            return Fetched((KEY.public,), 300.0)
        finally:
            with self.lock:
                self.under_way[host] -= 1


@contextmanager
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    try:
        yield made
    finally:
        made.ended.set()


@pytest.mark.rule("ST-4", "F11")
def test_silent_hosts_do_not_delay_the_first_fetch_of_another() -> None:
    """Sixteen hosts, and one with fifty sets: the honest set is at hand while all of them are silent."""

    async def work() -> None:
        with hosts() as made:
            sets = ClientKeySets(made)
            for number in range(50):
                sets.at_hand(f"https://silent{number % 16}.example/k")
                sets.at_hand(f"https://silent.example/{number}")
            await eventually(lambda: sum(made.under_way.values()) == 16 + PER_HOST)
            sets.at_hand("https://honest.example/k")
            await eventually(lambda: bool(sets.at_hand("https://honest.example/k")))
            assert made.under_way["silent.example"] == PER_HOST

    asyncio.run(work())


@pytest.mark.rule("ST-4", "I14")
def test_fetches_are_bounded_in_all_and_hosts_in_trouble_among_themselves() -> None:
    """Hundreds of silent hosts fill the turns once; from their second fetch on they leave most of them free."""

    async def work() -> None:
        now = 1000.0
        with hosts() as made:
            sets = ClientKeySets(made, monotonic=lambda: now)
            uris = [f"https://silent{number}.example/k" for number in range(200)]
            for uri in uris:
                sets.at_hand(uri)
            await eventually(lambda: sum(made.under_way.values()) == AT_ONCE)
            await asyncio.sleep(0.1)
            assert made.most == AT_ONCE
            made.ended.set()
            await sets.settle(20)
            made.ended.clear()
            now += COOLDOWN
            for uri in uris:
                sets.at_hand(uri)
            await eventually(lambda: sum(made.under_way.values()) == TROUBLED)
            sets.at_hand("https://honest.example/k")
            await eventually(lambda: bool(sets.at_hand("https://honest.example/k")))
            assert sum(made.under_way.values()) == TROUBLED

    asyncio.run(work())


@pytest.mark.rule("AS-CA-18", "KEY-21")
def test_an_address_that_is_taken_back_vouches_for_nothing(tmp_path: Path) -> None:
    """From the next version of the registry on, the keys that were published there open nothing."""
    source = Source()

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        operator, kek = Operator(store, Policy("https://as.example")), KeyEncryptionKey(bytes(32))
        sets = source.sets()
        registry = Registry(store, kek, sets)
        await operations.add_api(operator, "orders", "https://orders.example", ["read"])
        settings = ClientSettings(jwks_uri="https://a.example/k")
        await operations.add_client(operator, "publisher", {"orders": ["read"]}, (), settings)
        seen = []
        for uri in ("https://a.example/k", None, "https://b.example/k"):
            await operations.update_client(operator, "publisher", change=SettingsChange(jwks_uri=uri))
            for _ in range(2):
                await registry.refresh()
                client = await registry.find_client("publisher")
                await sets.settle(10)
                client = await registry.find_client("publisher")
                assert client is not None
                assert registry.remembered("publisher") is client
                seen.append(len(client.keys))
        assert seen == [1, 1, 0, 0, 1, 1]
        assert source.fetches == 2
        await operations.remove_client(operator, "publisher")
        await registry.refresh()
        assert await registry.find_client("publisher") is None
        await store.close()

    asyncio.run(work())


@pytest.mark.rule("ST-10", "I16")
def test_publishers_are_followed_and_kept_while_the_store_is_away(tmp_path: Path) -> None:
    """A wait is conceivable until the list was read, and while it has anybody; without a store what was read stands."""
    source = Source()

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        operator, sets = Operator(store, Policy("https://as.example")), source.sets()
        registry = Registry(store, KeyEncryptionKey(bytes(32)), sets)
        publishers = Publishers(store, registry, sets)
        await operations.add_api(operator, "orders", "https://orders.example", ["read"])
        await registry.refresh()
        assert publishers.conceivable
        await publishers.warm()
        assert not publishers.conceivable
        await operations.add_client(operator, "publisher", {"orders": ["read"]}, (), ClientSettings(jwks_uri=URI))
        await registry.refresh()
        assert publishers.conceivable
        await publishers.warm()
        assert publishers.conceivable
        assert [key.kid for key in sets.at_hand(URI)] == [KEY.kid]
        await store.close()
        source.now += 240
        await publishers.warm()
        assert source.fetches == 2

    asyncio.run(work())


@pytest.mark.rule("ST-10")
def test_publishers_are_found_by_an_index(tmp_path: Path) -> None:
    """Among a million clients the few that publish keys are not searched for."""
    SqliteStore.create(tmp_path / "groat.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "groat.db")) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {PUBLISHED.sqlite}", (10,)).fetchall()
    assert ["clients_publishing" in row[-1] for row in plan] == [True]
