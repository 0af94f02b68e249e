"""Who may be believed about time: every witness, and what it takes to believe a clock again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from groat.server.chores.forgetting import LOOK_SECONDS, STEP_SECONDS, Forgetter
from groat.server.log.event_log import EventLog
from groat.server.store import FORGET_AFTER, MAX_SKEW_SECONDS, Condition, StoreUnavailable
from groat.server.store.sqlite.store import SqliteStore
from groat.server.store.trusted_time import MAX_STEP_SECONDS, NEAR_SECONDS, SETTLED_SECONDS, TrustedTime, instant

NOW = 1_800_000_000
DAY = 86400
Result = TypeVar("Result")


@dataclass(slots=True)
class World:
    """Real time, and by how much this process's wall clock is wrong."""

    passed: float = 0.0
    wrong: float = 0.0
    database_wrong: float = 0.0
    horizon: float = NOW - FORGET_AFTER
    time: TrustedTime = field(init=False)

    def start(self, store: SqliteStore, log: EventLog | None = None) -> TrustedTime:
        self.time = TrustedTime(store, self.clock, lambda: 5000.0 + self.passed, log)
        return self.time

    def clock(self) -> float:
        return NOW + self.passed + self.wrong

    def condition(self, *, two_clocks: bool = False) -> Condition:
        offset = self.database_wrong - self.wrong if two_clocks else None
        return Condition(1, 0, int(self.horizon), None, offset)

    def doubt(self, *, two_clocks: bool = False) -> str:
        return self.time.judge(self.condition(two_clocks=two_clocks)).doubt or ""


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """A new store; its horizon is 0."""
    return SqliteStore.create(tmp_path / "groat.db")


@pytest.fixture
def world(store: SqliteStore) -> World:
    """A process that has just started beside a store that was in use a moment ago."""
    world = World()
    world.start(store)
    return world


def run(store: SqliteStore, work: Callable[[], Awaitable[Result]]) -> Result:
    async def whole() -> Result:
        try:
            return await work()
        finally:
            await store.close()

    return asyncio.run(whole())


@pytest.mark.rule("CL-3", "I13")
def test_after_an_ordinary_restart_time_is_trusted_at_once(world: World) -> None:
    """The clock is near the horizon and has not stepped: the reading is the time."""
    reading = world.time.judge(world.condition())
    assert (reading.now, reading.doubt, reading.fault, reading.trusted) == (NOW, None, None, True)


@pytest.mark.rule("CL-1", "CL-2", "I12", "I13")
@pytest.mark.parametrize("step", [6, -6, 1200, -1200, 60 * DAY, -60 * DAY])
def test_a_step_is_trusted_only_after_a_while(world: World, step: int) -> None:
    """A step in either direction, back too: a quarter of an hour without another one."""
    world.wrong = step
    assert world.doubt()
    world.wrong = 0
    assert "stepped" in world.doubt()
    world.passed = SETTLED_SECONDS - 1
    assert "stepped" in world.doubt()
    assert world.time.steps == 2
    world.passed = SETTLED_SECONDS
    world.horizon += SETTLED_SECONDS  # of other processes
    assert world.doubt() == ""


@pytest.mark.rule("I12")
def test_a_process_that_was_stopped_has_seen_no_step(store: SqliteStore) -> None:
    """Between the looks at one clock and at the other a minute may pass: both are read again."""
    passed = iter([0.0, 0.0, 10.0, 70.0, 70.0, 70.0])
    wall = iter([NOW, NOW + 70.0, NOW + 70.0])
    time = TrustedTime(store, lambda: next(wall), lambda: next(passed))
    assert time.sample() == NOW + 70
    assert time.steps == 0


@pytest.mark.rule("I12")
def test_small_steps_add_up(world: World) -> None:
    """A leap second or a correction of seconds is none; two that go the same way are one."""
    world.wrong = MAX_STEP_SECONDS
    assert world.doubt() == ""
    world.wrong += 1
    assert "stepped" in world.doubt()


@pytest.mark.rule("CL-1", "I13")
@pytest.mark.parametrize("ahead", [MAX_SKEW_SECONDS + 1, -MAX_SKEW_SECONDS - 1, 60.0 * DAY])
def test_two_clocks_must_agree(store: SqliteStore, ahead: float) -> None:
    """Wrong from the start against a database that has a clock: both times are named, for as long as they differ."""
    world = World(wrong=ahead)
    world.start(store)
    for passed in (0.0, 2 * SETTLED_SECONDS):
        world.passed = passed
        reading = world.time.judge(world.condition(two_clocks=True))
        assert reading.fault == reading.doubt
        assert instant(NOW + passed) in str(reading.fault)
        assert instant(NOW + passed + ahead) in str(reading.fault)


@pytest.mark.rule("CL-1", "I13")
@pytest.mark.parametrize(("own", "database"), [(20, 0), (0, 20), (-20, 0)])
def test_of_two_clocks_that_agree_the_earlier_counts(store: SqliteStore, own: int, database: int) -> None:
    """Within the tolerance nobody knows which is right; forgetting later is the safe side."""
    world = World(wrong=own, database_wrong=database)
    world.start(store)
    reading = world.time.judge(world.condition(two_clocks=True))
    assert (reading.trusted, reading.now) == (True, NOW + min(own, database))


@pytest.mark.rule("CL-2", "I13")
def test_behind_the_horizon_nothing_is_trusted(world: World) -> None:
    """The store has seen a later time: that does not settle."""
    world.horizon = NOW
    world.passed = 0.0
    assert "behind" in world.doubt()
    world.horizon = NOW + 10 * DAY
    world.passed = 2 * SETTLED_SECONDS
    reading = world.time.judge(world.condition())
    assert "behind" in str(reading.fault)


@pytest.mark.rule("CL-2", "CL-3", "I13")
def test_far_ahead_of_the_horizon_needs_a_while(store: SqliteStore) -> None:
    """A long pause or a clock that is wrong from the start: no fault, and no trust before it has run evenly."""
    world = World(horizon=NOW - FORGET_AFTER - NEAR_SECONDS - 1)
    world.start(store)
    reading = world.time.judge(world.condition())
    assert "far ahead" in str(reading.doubt)
    assert reading.fault is None
    world.passed = SETTLED_SECONDS
    assert world.doubt() == ""


@pytest.mark.rule("I4", "I5", "I12")
@pytest.mark.parametrize("step", [1200, -1200, 60 * DAY, -60 * DAY])
@pytest.mark.parametrize("two_clocks", [False, True])
def test_steady_time_does_not_jump(world: World, step: int, two_clocks: bool) -> None:
    """A clock that steps, before anybody looked at it, chooses no signing key; there and back again neither."""
    world.time.judge(world.condition(two_clocks=two_clocks))
    world.passed, world.wrong = 10.0, step
    assert world.time.steady() == NOW + 10
    world.time.judge(world.condition(two_clocks=two_clocks))
    assert world.time.steady() == NOW + 10
    world.passed, world.wrong = 20.0, 0.0
    assert world.time.steady() == NOW + 20


@pytest.mark.rule("I4", "I5", "I12")
@pytest.mark.parametrize("two_clocks", [False, True])
def test_steady_time_of_a_clock_that_was_wrong_from_the_start(store: SqliteStore, two_clocks: bool) -> None:
    """The database's time counts while they differ; a clock that comes near the horizon is right at once."""
    world = World(wrong=60 * DAY)
    world.start(store)
    world.time.judge(world.condition(two_clocks=two_clocks))
    assert world.time.steady() == (NOW if two_clocks else NOW + 60 * DAY)
    world.wrong = 0
    assert world.time.steady() == NOW


@pytest.mark.rule("I4", "I5", "I12")
@pytest.mark.parametrize("step", [1200, -1200, 60 * DAY, -60 * DAY])
@pytest.mark.parametrize("own", [False, True])
def test_steady_time_does_not_jump_with_the_database(world: World, step: int, own: bool) -> None:
    """Neither where its clock steps alone, nor with this process's, as on one host; there and back again."""
    world.time.judge(world.condition(two_clocks=True))
    world.passed, world.database_wrong, world.wrong = 10.0, step, step if own else 0.0
    for _ in range(2):
        assert world.time.steady() == NOW + 10
        world.time.judge(world.condition(two_clocks=True))
    world.passed, world.database_wrong, world.wrong = 20.0, 0.0, 0.0
    for _ in range(2):
        assert world.time.steady() == NOW + 20
        world.time.judge(world.condition(two_clocks=True))


@pytest.mark.rule("I4", "I5", "I12")
def test_steady_time_beside_a_database_that_was_wrong_from_the_start(store: SqliteStore) -> None:
    """Of two clocks that have never agreed the one counts that is near the horizon."""
    world = World(database_wrong=60 * DAY)
    world.start(store)
    world.time.judge(world.condition(two_clocks=True))
    assert world.time.steady() == NOW


@pytest.mark.rule("I4", "I5", "I12")
def test_two_clocks_that_stepped_alike_are_believed_in_the_end(world: World) -> None:
    """The same quarter of an hour as with one clock; while they differ it does not count."""
    world.time.judge(world.condition(two_clocks=True))
    world.wrong = 1200.0
    world.time.judge(world.condition(two_clocks=True))
    world.passed = 2 * SETTLED_SECONDS
    assert world.time.steady() == NOW + world.passed
    world.database_wrong = 1200.0
    world.time.judge(world.condition(two_clocks=True))
    assert world.time.steady() == NOW + world.passed + 1200


@pytest.mark.rule("CL-1", "CL-2", "I13", "OPS-04")
def test_a_step_is_logged_with_its_size(store: SqliteStore, tmp_path: Path) -> None:
    """One line a step."""
    world = World()
    with (tmp_path / "log").open("w") as stream:
        world.start(store, EventLog(stream, "info", False))
        for wrong in (1200, 1200, 0):
            world.wrong = wrong
            world.time.sample()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line["seconds"]) for line in lines] == [("clock.stepped", 1200), ("clock.stepped", -1200)]


@pytest.mark.rule("CL-1", "CL-2", "I13")
def test_the_horizon_follows_trusted_time_in_steps(store: SqliteStore) -> None:
    """It is raised only while time is trusted, to ten minutes ago, and not for less than half a minute."""
    world = World()
    forgetter = Forgetter(store, world.start(store))

    async def horizon() -> int:
        return (await store.condition()).horizon

    async def work() -> None:
        await store.raise_horizon(NOW - FORGET_AFTER)
        assert not await forgetter.move_horizon()
        world.passed = STEP_SECONDS - 1.0
        assert not await forgetter.move_horizon()
        world.passed = float(STEP_SECONDS)
        assert await forgetter.move_horizon()
        assert await horizon() == NOW - FORGET_AFTER + STEP_SECONDS
        for wrong in (1200.0, 0.0, -1200.0):
            world.passed, world.wrong = world.passed + LOOK_SECONDS, wrong
            assert not await forgetter.move_horizon()
        world.wrong = 0.0
        world.time.sample()
        world.passed += SETTLED_SECONDS
        assert await forgetter.move_horizon()
        assert await horizon() == int(NOW + world.passed) - FORGET_AFTER

    run(store, work)


@pytest.mark.rule("CL-2", "I13")
@pytest.mark.parametrize("wrong", [1200.0, 3000.0])
def test_a_lone_clock_that_is_ahead_from_the_start_raises_no_horizon(store: SqliteStore, wrong: float) -> None:
    """By minutes, where nobody can tell it from a pause: forgetting goes on only as fast as time passes, until it settles."""
    world = World(wrong=wrong)

    async def work() -> None:
        await store.raise_horizon(NOW - FORGET_AFTER)
        forgetter = Forgetter(store, world.start(store))
        assert not await forgetter.move_horizon()
        world.passed = 100.0
        assert await forgetter.move_horizon()
        assert (await store.condition()).horizon == NOW - FORGET_AFTER + 100
        world.passed = SETTLED_SECONDS
        assert await forgetter.move_horizon()
        assert (await store.condition()).horizon == int(NOW + SETTLED_SECONDS + wrong) - FORGET_AFTER

    run(store, work)


@pytest.mark.rule("CL-2", "OPS-06")
def test_a_store_that_is_away_says_so(store: SqliteStore) -> None:
    """Nobody is asked in its place."""
    world = World()

    async def work() -> None:
        store._reader.close()
        with pytest.raises(StoreUnavailable):
            await world.start(store).read()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("seconds", "shown"), [(NOW, "2027-01-15T08:00:00Z"), (1e30, "1000000000000000019884624838656")]
)
def test_instants_are_readable(seconds: float, shown: str) -> None:
    """Also those of a clock that has lost its senses."""
    assert instant(seconds) == shown
