"""F07 and F08: links that are slow, narrow, torn or silent, between clients, replicas and PostgreSQL."""

import time
from pathlib import Path

import pytest

from benchmarks.load.connection import Target
from benchmarks.load.history import Presentation
from benchmarks.load.presenter import BackgroundLoad, closed_loop, run

from .balancers import haproxy
from .deployment import Deployment, wait_until
from .proxy import Proxy
from .scenario_postgres import ANSWER_SECONDS, require_honest, slowest, under_load
from .verdicts import judge, record, require_kept

READINESS_SECONDS = 4.0  # the promise is 2 s on a machine of its own


@pytest.mark.rule("P03", "I1")
def test_f07_links_between_clients_and_a_replica(postgres: Deployment) -> None:
    """Slow, narrow and torn links: whoever got no token asks again with a new jti and gets one, never with the old."""
    (caller,) = postgres.initialise("billing")
    (replica,) = postgres.start(1)
    history: list[Presentation] = []
    with Proxy(("127.0.0.1", replica.port)) as proxy:
        link = [Target("proxy", "127.0.0.1", proxy.port)]
        proxy.latency = 0.1
        slow = run(closed_loop(caller.sign(40), link, 8))
        proxy.heal()
        proxy.bandwidth = 10_000
        narrow = run(closed_loop(caller.sign(10), link, 2))
        proxy.heal()
        assert {p.status for p in slow + narrow} == {200}
        history += slow + narrow
        for assertion in caller.sign(10):
            proxy.reset_after = 100
            torn = run(closed_loop([assertion], link, 1))
            again = run(closed_loop([assertion, *caller.sign(1)], link, 1))
            assert [p.status for p in torn + again] == [0, 401, 200]
            history += torn + again
    verdict = judge(postgres, history)
    require_kept("F07-clients", verdict, history)
    assert verdict.rows_without_token == 10
    record(
        "F07",
        verdict,
        what="client links: +200 ms, 10 kB/s, reset in the response",
        slowest_answer=round(slowest(slow), 2),
    )


@pytest.mark.rule("I1", "I2", "I10")
def test_f07_links_between_a_replica_and_postgres(postgres: Deployment, link: Proxy) -> None:
    """Cuts, silence and 10 kB/s on the way to the database: an answer in time, 200 or 503, and nothing twice."""
    with under_load(postgres, 2, url=postgres.through(link.port)) as load:
        for _ in range(10):
            link.cut()
            time.sleep(0.3)
        link.frozen = True
        time.sleep(2.0)
        link.heal()
        time.sleep(1.0)
        link.bandwidth = 10_000
        time.sleep(2.0)
        link.heal()
        time.sleep(2.0)
    require_honest(load.history)
    assert slowest(load.history) < ANSWER_SECONDS
    verdict = judge(postgres, load.history)
    require_kept("F07-postgres", verdict, load.history)
    assert verdict.statuses[200] > 100
    record(
        "F07",
        verdict,
        what="database links: 10 cuts, 2 s half-open, 10 kB/s",
        slowest_answer=round(slowest(load.history), 2),
    )


@pytest.mark.rule("I1", "I2")
def test_f08_one_replica_loses_its_database(postgres: Deployment, link: Proxy, tmp_path: Path) -> None:
    """A silent link between one of three replicas and PostgreSQL: it says so, HAProxy leaves it out, others go on."""
    (caller,) = postgres.initialise("billing")
    (victim,) = postgres.start(1, url=postgres.through(link.port))
    postgres.start(2)
    with haproxy(tmp_path, postgres.replicas) as balancer:
        with BackgroundLoad(caller.sign(6000), [balancer.target], 200, 12) as load:
            time.sleep(1.0)
            link.frozen = True
            lost = time.monotonic()
            noticed = wait_until(lambda: victim.status("/readyz") == 503, READINESS_SECONDS, "readyz tells")
            time.sleep(3.0)
            link.heal()
            recovered = wait_until(lambda: victim.status("/readyz") == 200, 10.0, "ready again")
    require_honest(load.history)
    refused = [p for p in load.history if p.status == 503]
    assert not [p for p in refused if p.sent > lost + READINESS_SECONDS], "it must be left out by then"
    verdict = judge(postgres, load.history)
    require_kept("F08", verdict, load.history)
    record(
        "F08", verdict, refused=len(refused), readyz_503_after=round(noticed, 2), ready_again_after=round(recovered, 2)
    )
