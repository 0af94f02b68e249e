"""F01, F02 and F15: servers that end without a word, at any moment and at every named one."""

import random
import signal
import time

import pytest

from benchmarks.load.history import Caller, Presentation
from benchmarks.load.presenter import BackgroundLoad, closed_loop, run

from .deployment import Deployment, share
from .kill_points import POINTS, Point
from .sizes import SIZES
from .verdicts import judge, record, require_kept

KILL_AT = "21"  # eight lines, of which each is judged twice while the memory is cold
READY_SECONDS = 10.0  # the promise is 3 s on a machine of its own; two cores are shared with the load here


@pytest.mark.rule("I1", "I11", "P04")
@pytest.mark.timeout(SIZES.kill_replica * 10 + 60)
def test_f01_a_killed_replica_forgets_nothing(store: str, deployment: Deployment) -> None:
    """Three replicas under load, one killed at a time: no token without a row, nothing accepted twice, ready again."""
    (caller,) = deployment.initialise("billing")
    deployment.start(3)
    ready = []
    with BackgroundLoad(caller.sign(SIZES.kill_replica * 300), deployment.targets, 300, 24) as load:
        for _ in range(SIZES.kill_replica):
            time.sleep(random.uniform(0.1, 0.5))
            victim = random.choice(deployment.replicas)
            victim.kill()
            ready.append(victim.start())
    _only_the_victims_failed(deployment, load.history)
    verdict = judge(deployment, load.history)
    require_kept("F01", verdict, load.history)
    assert max(ready) < READY_SECONDS
    record("F01", verdict, store=store, kills=SIZES.kill_replica, slowest_ready=round(max(ready), 2))


def _only_the_victims_failed(deployment: Deployment, history: list[Presentation]) -> None:
    """Whoever lost a connection lost it to a killed server: no answer is an error."""
    assert {presentation.status for presentation in history} <= {200, 0, 503}, deployment.hints()
    assert share(history, 503) < 0.05, deployment.hints()  # a machine with no time left for the database may say so
    assert sum(presentation.status == 200 for presentation in history) > len(history) / 4


@pytest.mark.rule("I1", "I11", "P04")
@pytest.mark.timeout(SIZES.kill_sqlite * 10 + 60)
def test_f15_sqlite_forgets_nothing(sqlite: Deployment) -> None:
    """One server on one file, killed under load again and again: whatever was answered is on disk."""
    (caller,) = sqlite.initialise("billing")
    (replica,) = sqlite.start(1)
    with BackgroundLoad(caller.sign(SIZES.kill_sqlite * 600), sqlite.targets, 600, 16) as load:
        for _ in range(SIZES.kill_sqlite):
            time.sleep(random.uniform(0.2, 0.6))
            replica.kill()
            replica.start()
    verdict = judge(sqlite, load.history)
    require_kept("F15", verdict, load.history)
    record("F15", verdict, store="sqlite", kills=SIZES.kill_sqlite)


def die_at(deployment: Deployment, caller: Caller, name: str, point: Point) -> None:
    """A server that ends at this point, under load; a healthy one on the same database judges what is left."""
    env = {"GROAT_TEST_FAULT": f"kill:{deployment.kind}/{name}", "GROAT_TEST_KILL_AT": KILL_AT}
    healthy = deployment.replicas[0].target
    (faulty,) = deployment.start(1, entry=deployment.faulty, env=env)
    history = run(closed_loop(caller.sign(400), [faulty.target], 8))
    assert faulty.process is not None
    assert faulty.process.wait(10) == -signal.SIGKILL
    assert {0, 200} <= {p.status for p in history} <= {200, 0, -1}, "it must have served some, and ended"
    verdict = judge(deployment, history, [healthy])
    require_kept(f"F02-{name}", verdict, history)
    if point.recorded and name != "sent":  # there the last of a batch leaves nobody behind
        assert verdict.rows_without_token >= 1, "the point lies behind the commit"
    record("F02", verdict, point=name, store=deployment.kind, lost=sum(p.status == 0 for p in history))


@pytest.mark.rule("I1", "I2", "I11")
@pytest.mark.parametrize("store", POINTS)
@pytest.mark.timeout(300)
def test_f02_dying_between_two_steps(store: str, deployment: Deployment) -> None:
    """Killed between any two steps: at most one token per assertion, none without a row, no row before the commit."""
    (caller,) = deployment.initialise("billing")
    deployment.start(1)
    for name, point in POINTS[store].items():
        die_at(deployment, caller, name, point)
