"""F09: wall clocks that are wrong by minutes to months, that step there and back, at one replica and at all."""

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from benchmarks.load.history import Caller, Presentation
from benchmarks.load.presenter import BackgroundLoad, closed_loop, run

from .deployment import Deployment, share
from .sizes import PROFILE
from .test_clocks import floor, go_back
from .turning import DAY, HOUR, MINUTE, Turnable, turnable, wrong
from .verdicts import judge, record, require_kept

# Of the assertions, in seconds: by a clock that is twenty minutes ahead they ended more than ten minutes ago.
LIFETIME: Final = 300
BOTH_STORES: Final = ["postgres", "sqlite"]
TURNS: Final = [20 * MINUTE, -20 * MINUTE, HOUR, -HOUR, 60 * DAY, -60 * DAY]
SHORT: Final = {1: [20 * MINUTE, -60 * DAY], 2: [HOUR]}  # by how many are wrong
WRONG_SECONDS: Final = 6.0
PLANTED: Final = [("postgres", "own-clock"), ("postgres", "unchecked"), ("sqlite", "unchecked"), ("sqlite", "gullible")]
EVERY: Final = [(store, plant) for store in BOTH_STORES for plant in ("own-clock", "unchecked", "gullible")]


@dataclass(slots=True)
class Run:
    """Replicas whose clocks are turned, one client, and what came of it."""

    deployment: Deployment
    clocks: Sequence[Turnable]
    caller: Caller
    history: list[Presentation] = field(default_factory=list)
    slowest: float = 0.0  # seconds until every replica served again

    @classmethod
    def on(cls, deployment: Deployment, plant: str = "right") -> "Run":
        (caller,) = deployment.initialise("billing")
        return cls(deployment, turnable(deployment, 2, plant), caller)

    def step(self, turned: Sequence[Turnable], seconds: float) -> None:
        """Under load, step there and back; each time everything is asked for at replicas that have just started."""
        for clock in turned:
            clock.replica.terminate()
            clock.replica.start()
        before = run(closed_loop(self.caller.sign(60, LIFETIME), self.deployment.targets, 8))
        with BackgroundLoad(self.caller.sign(900, LIFETIME), self.deployment.targets, 60, 8) as load:
            time.sleep(0.5)
            begun = time.monotonic()
            with wrong(turned, seconds, WRONG_SECONDS):
                time.sleep(WRONG_SECONDS / 2)
                again = run(closed_loop([p.assertion for p in before], self.deployment.targets, 8))
            ended = time.monotonic()
            self.slowest = max(self.slowest, self._served_again(load, ended))
        names = {clock.replica.name for clock in turned}
        self.history += before
        for presentation in (*again, *load.history):
            if not self._by_a_wrong_clock(presentation, names, begun, ended):
                self.history.append(presentation)

    def _by_a_wrong_clock(self, p: Presentation, names: set[str], begun: float, ended: float) -> bool:
        """A refusal by such a clock says nothing about single use: expired, or not signed yet."""
        near = begun <= p.received and p.sent <= ended + 0.5
        return p.status == 401 and p.replica in names and near

    def _served_again(self, load: BackgroundLoad, moment: float) -> float:
        deadline = time.monotonic() + 20
        names = {target.name for target in self.deployment.targets}
        while {p.replica for p in load.since(moment) if p.status == 200} != names:
            assert time.monotonic() < deadline, "no recovery"
            time.sleep(0.05)
        return time.monotonic() - moment

    def horizon(self) -> int:
        sql = "SELECT horizon FROM registry"
        if self.deployment.kind == "postgres":
            with self.deployment.connect() as connection:
                ((found,),) = connection.execute(sql).fetchall()
        else:
            with contextlib.closing(sqlite3.connect(f"file:{self.deployment.database}?mode=ro", uri=True)) as file:
                ((found,),) = file.execute(sql).fetchall()
        return int(found)

    def keys(self) -> set[str]:
        """The kids that are published."""
        return {key["kid"] for key in self.deployment.published_keys()["keys"]}


@pytest.fixture(params=BOTH_STORES)
def store(request: pytest.FixtureRequest) -> str:
    """Both in the short form, too: SQLite has no other clock to ask."""
    return str(request.param)


@pytest.mark.rule("CL-1", "CL-2", "F09", "I1", "I12", "I13")
@pytest.mark.parametrize("count", [1, 2], ids=["one", "all"])
@pytest.mark.timeout(400)
def test_f09_wrong_clocks(store: str, deployment: Deployment, count: int) -> None:
    """Two replicas; one clock or both are wrong for 6 s under load: single use holds, and right clocks serve at once."""
    work = Run.on(deployment)
    turns = TURNS if PROFILE == "soak" else SHORT[count]
    for seconds in turns:
        work.step(work.clocks[:count], seconds)
    assert work.horizon() <= time.time() - 600
    verdict = judge(deployment, work.history)
    record("F09", verdict, store=store, turned=count, turns=len(turns), slowest_recovery=round(work.slowest, 2))
    require_kept(f"F09-{store}-{count}", verdict, work.history)
    assert share(work.history, 503) < 0.9
    assert work.slowest < 5


@pytest.mark.rule("CL-1", "CL-2", "F09", "I1", "I13")
@pytest.mark.parametrize(("store", "plant"), EVERY if PROFILE == "soak" else PLANTED)
@pytest.mark.timeout(200)
def test_f09_finds_planted_bugs(deployment: Deployment, plant: str) -> None:
    """Replicas that purge, raise the horizon, or insert by their own clocks: twenty minutes ahead give them away."""
    work = Run.on(deployment, plant)
    if plant == "gullible":  # what is still good has ended before the horizon, for everybody and for ten minutes
        with pytest.raises(AssertionError, match="no recovery"):
            work.step(work.clocks[:1], 20 * MINUTE)
        assert work.horizon() > time.time()
    else:
        work.step(work.clocks[:1], 20 * MINUTE)
        assert "forgotten" in judge(deployment, work.history).kinds


@pytest.mark.rule("CL-1", "F09", "F16", "I13")
@pytest.mark.parametrize("plant", ["right", "own-floor"])
@pytest.mark.timeout(120)
def test_f09_a_restore_meets_a_wrong_clock(postgres: Deployment, plant: str) -> None:
    """A database that went back, and a replica that is 60 days ahead: the right one raises the floor, tokens come soon.

    With the planted bug the floor lies 60 days ahead, and nobody gets a token until then.
    """
    work = Run.on(postgres, plant)
    right, turned = work.clocks
    if plant != "right":
        right.replica.terminate()
    with wrong([turned], 60 * DAY, WRONG_SECONDS):
        go_back(postgres)
        time.sleep(WRONG_SECONDS / 2)
    far = floor(postgres) > time.time() + DAY
    assert far is (plant != "right")
    if plant == "right":
        time.sleep(max(0.0, floor(postgres) - time.time() + 1))
        history = run(closed_loop(work.caller.sign(20), postgres.targets, 4))
        assert {p.status for p in history} == {200}
        require_kept("F09-restore", judge(postgres, history), history)
