"""The rotator on a real store: who makes a step, what a crash leaves, what an outage does."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import pytest

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import KeyState, SigningKey, active_key
from groat.keys.ring.schedule import Timing
from groat.protocol.jwk import PublicKey
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.chores.rotator import LOOK_SECONDS, Rotator
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations.operator import Operator
from groat.server.store import StoreUnavailable
from groat.server.store.audit_trail import Deed
from groat.server.store.changes import Change
from groat.server.store.sqlite.store import SqliteStore

from .clock import DAY, KEK, NOW, Clock, settled_time


class Killed(BaseException):
    """The process ended here."""


class Dying(SqliteStore):
    """The real store in a process that dies before or after its next save."""

    when: str = ""

    async def change(self, deed: Deed, seen: int | None, many: Sequence[Change]) -> range:
        if self.when == "before":
            raise Killed
        rows = await super().change(deed, seen, many)
        if self.when == "after":
            raise Killed
        return rows


@dataclass(slots=True)
class Scene:
    """A store file, a clock, and any number of servers on it."""

    path: Path
    clock: Clock
    log: Path
    stream: TextIO
    stores: list[SqliteStore] = field(default_factory=list)

    def rotator(self, kind: type[SqliteStore] = SqliteStore, timing: Timing | None = None, **options: Any) -> Rotator:
        store = kind.open(self.path)
        self.stores.append(store)
        audit = Audit(EventLog(self.stream, "info", False))
        operator = Operator(store, Policy("https://as.example"), audit, self.clock)
        options.setdefault("time", settled_time(store, self.clock))
        return Rotator(operations.Ring(operator, KEK, "ES256"), lambda: timing or Timing(), **options)

    async def keys(self) -> tuple[SigningKey, ...]:
        return await self.stores[0].signing_keys()

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.read_text().splitlines()]


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """With the first key made."""
    await SqliteStore.create(directory / "groat.db").close()
    with (directory / "log").open("a") as stream:
        made = Scene(directory / "groat.db", Clock(), directory / "log", stream)
        await operations.first_signing_key(operations.Ring(made.rotator().ring.operator, KEK, "ES256"))
        stream.truncate(0)
        yield made
        for store in made.stores:
            await store.close()


def run(directory: Path, work: Callable[[Scene], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with scene(directory) as made:
            await work(made)

    asyncio.run(inside())


@pytest.mark.rule("KEY-19", "KEY-20", "KEY-22", "AS-MD-15")
def test_left_alone_it_rotates(tmp_path: Path) -> None:
    """Looked after once an hour for a hundred days: four signers, each known in time, and sealed keys that fade away."""

    async def work(made: Scene) -> None:
        rotator = made.rotator()
        signers = []
        for hour in range(24 * 100):
            made.clock.now = NOW + hour * 3600
            await rotator.look()
            keys = await made.keys()
            signer = active_key(keys, made.clock.now)
            assert signer is not None
            signers += [signer.kid] if signer.kid not in signers else []
        assert len(signers) == 4
        assert ring_faults(keys, Timing(), int(made.clock.now)) == ()
        assert [bool(key.sealed) for key in keys] == [False] * 3 + [True] * 2
        assert made.events().count("key.published") == 4
        assert made.events().count("key.destroyed") == 3

    run(tmp_path, work)


@pytest.mark.rule("K09", "KEY-22")
@pytest.mark.parametrize("replicas", [2, 8])
def test_of_many_replicas_one_makes_each_step(tmp_path: Path, replicas: int) -> None:
    """All look at once, in threads with stores of their own: each step is made once, and all agree on the ring."""

    async def work(made: Scene) -> None:
        def look() -> int:
            rotator = made.rotator()
            return asyncio.run(rotator.look())

        for day in (0, 32, 64):
            made.clock.now = NOW + day * DAY
            counts = await asyncio.gather(*(asyncio.to_thread(look) for _ in range(replicas)))
            keys = await made.keys()
            assert sum(key.state(made.clock.now) is KeyState.PENDING for key in keys) == 1
            assert sum(counts) == (2 if day else 1)
        published = made.events().count("key.published")
        assert published == len(keys) - 1

    run(tmp_path, work)


@pytest.mark.rule("K10", "KEY-22")
@pytest.mark.parametrize(("when", "made_it"), [("before", False), ("after", True)])
def test_a_crash_between_any_two_steps_costs_nothing_but_time(tmp_path: Path, when: str, made_it: bool) -> None:
    """A key that was made and not saved has signed nothing and is nowhere; the next server does what is left."""

    async def work(made: Scene) -> None:
        for at in (NOW, NOW + 29 * DAY, NOW + 31 * DAY + 121):
            made.clock.now = at
            before = await made.keys()
            dying = made.rotator(Dying)
            assert isinstance(dying.ring.operator.store, Dying)
            dying.ring.operator.store.when = when
            try:
                await dying.look()
            except Killed:
                assert (await made.keys() != before) is made_it
            assert ring_faults(await made.keys(), replace(Timing(), rotate_every=0), at) == ()
            await made.rotator().look()
            assert await made.rotator().look() == 0
        assert len(await made.keys()) >= 2

    run(tmp_path, work)


@pytest.mark.rule("KEY-22", "F12")
def test_an_outage_is_logged_once_and_survived(tmp_path: Path) -> None:
    """While the store is locked the rotator tries on; afterwards it does what was due, and says nothing twice."""

    async def work(made: Scene) -> None:
        looks = 0
        lock = sqlite3.connect(made.path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")

        async def sleep(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                lock.execute("ROLLBACK")
            if looks == 5:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await made.rotator(sleep=sleep).run()
        lock.close()
        assert made.events() == ["key.rotation_failed", "key.published"]

    run(tmp_path, work)


@pytest.mark.rule("KEY-14", "T7")
def test_a_bug_in_a_custodian_does_not_end_rotation(tmp_path: Path) -> None:
    """Whatever it raises is logged by its type alone, because its text may hold a secret, and tried again."""

    class Broken(KeyEncryptionKey):
        async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
            raise ZeroDivisionError("secret")

    async def work(made: Scene) -> None:
        looks = 0

        async def sleep(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            rotator = made.rotator(sleep=sleep)
            await replace(rotator, ring=replace(rotator.ring, custody=Broken(bytes(32)))).run()
        (line,) = [json.loads(line) for line in made.log.read_text().splitlines()]
        assert (line["event"], line["hint"]) == ("key.rotation_failed", "ZeroDivisionError: a bug")

    run(tmp_path, work)


@pytest.mark.rule("KEY-22")
@pytest.mark.parametrize(
    ("rotate_every", "jitter", "pause"),
    [(30 * DAY, 0.0, LOOK_SECONDS / 2), (30 * DAY, 1.0, LOOK_SECONDS * 1.5), (0, 0.5, LOOK_SECONDS), (60, 0.5, 6.0)],
)
def test_looks_are_spread(tmp_path: Path, rotate_every: int, jitter: float, pause: float) -> None:
    """Half a minute, more or less, so that replicas do not all look at once; often enough for fast rotations."""

    async def work(made: Scene) -> None:
        timing = replace(Timing(), rotate_every=rotate_every)
        assert made.rotator(timing=timing, jitter=lambda: jitter).pause == pytest.approx(pause)

    run(tmp_path, work)


@pytest.mark.rule("KEY-21", "T7")
def test_the_operations_on_a_running_ring(tmp_path: Path) -> None:
    """Prepare, activate, retire, taint, revoke: each leaves a ring that signs, and its line in the audit trail."""

    async def work(made: Scene) -> None:
        rotator = made.rotator()
        op, lead = rotator.ring.operator, rotator.timing().lead
        (held,) = await operations.prepare_signing_key(operations.Ring(op, KEK, "ES256"))
        assert held.held
        await operations.activate_signing_key(operations.Ring(op, KEK, "ES256", lead), held.kid)
        made.clock.now += lead.publish
        assert active_key(await made.keys(), made.clock.now).kid == held.kid  # type: ignore[union-attr]
        fresh, outgoing = await operations.retire_signing_key(operations.Ring(op, KEK, "ES256", lead), held.kid)
        assert outgoing.kid == held.kid
        gone, stays = await operations.retire_signing_key(operations.Ring(op, KEK, "ES256", lead), fresh.kid)
        assert (gone.state(made.clock.now), stays.kid, stays.retires_at) == ("removed", held.kid, None)
        tainted, heir = await operations.retire_signing_key(
            operations.Ring(op, KEK, "ES256", lead), held.kid, at_once=True
        )
        assert (tainted.state(made.clock.now), heir.state(made.clock.now)) == ("retiring", "active")
        await operations.prepare_signing_key(operations.Ring(op, KEK, "ES256"))
        revoked, promoted = await operations.revoke_signing_key(operations.Ring(op, KEK, "ES256", lead), heir.kid)
        assert (revoked.revoked, promoted.state(made.clock.now)) == (True, "active")
        expected = ["prepared", "activated", "retired", "retired", "tainted", "prepared", "revoked"]
        assert made.events() == [f"key.{event}" for event in expected]

    run(tmp_path, work)


@pytest.mark.rule("OPS-06")
def test_a_store_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    """`look` itself says so to its caller."""

    async def work(made: Scene) -> None:
        rotator = made.rotator()
        sqlite = sqlite3.connect(made.path, isolation_level=None)
        sqlite.execute("DROP TABLE signing_keys")
        sqlite.close()
        with pytest.raises(StoreUnavailable):
            await rotator.look()

    run(tmp_path, work)
