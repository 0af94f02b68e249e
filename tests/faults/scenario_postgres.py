"""F03 and F04: PostgreSQL ends, hangs, is slow, locked or full of connections, while replicas are under load."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence

import psycopg
import pytest

from benchmarks.load.history import Presentation
from benchmarks.load.presenter import BackgroundLoad
from tests.postgres import PostgresServer

from .deployment import Deployment, Replica, share
from .proxy import Proxy
from .sizes import SIZES
from .verdicts import judge, record, require_kept

# The promise is 600 ms for an answer and 5 s for recovery on a machine of its own; here the load shares two cores.
ANSWER_SECONDS = 2.0
RECOVERY_SECONDS = 8.0


@contextlib.contextmanager
def under_load(
    deployment: Deployment, replicas: int = 3, rate: float = 240, url: str | None = None
) -> Iterator[BackgroundLoad]:
    """Replicas with a client under load that ends with the block."""
    (caller,) = deployment.initialise("billing")
    deployment.start(replicas, url=url)
    seconds = 30 + SIZES.freeze_seconds + SIZES.kill_postgres * 12
    with BackgroundLoad(caller.sign(int(rate * seconds)), deployment.targets, rate, 24) as load:
        time.sleep(1.0)
        yield load


def require_honest(history: Sequence[Presentation]) -> None:
    """Nothing but tokens and 503 with Retry-After: an outage is neither a bug nor the client's fault."""
    statuses = {p.status for p in history}
    assert statuses <= {200, 503}, statuses
    assert all(p.retry_after for p in history if p.status == 503)


def slowest(history: Sequence[Presentation]) -> float:
    return max((p.seconds for p in history), default=0.0)


def first_token_after(load: BackgroundLoad, moment: float, seconds: float = 30.0) -> float:
    """Seconds from a moment to the first token that was asked for after it, on every replica."""
    deadline = time.monotonic() + seconds
    names = {target.name for target in load.targets}
    while time.monotonic() < deadline:
        served = [p for p in load.since(moment) if p.status == 200]
        if {p.replica for p in served} == names:
            return max(min(p.received for p in served if p.replica == name) for name in names) - moment
        time.sleep(0.05)
    raise AssertionError("no recovery")


@pytest.mark.rule("I1", "I2", "I10", "P04")
@pytest.mark.timeout(SIZES.kill_postgres * 30 + 90)
def test_f03_postgres_is_killed(postgres: Deployment, postgres_server: PostgresServer) -> None:
    """SIGKILL to all of PostgreSQL under load, and a new start: 503 meanwhile, nothing forgotten, soon as before."""
    recoveries, outages = [], []
    with under_load(postgres) as load:
        for _ in range(SIZES.kill_postgres):
            killed = time.monotonic()
            postgres_server.kill()
            time.sleep(1.0)
            postgres_server.start()
            up = time.monotonic()
            recoveries.append(first_token_after(load, up))
            outages += [p for p in load.since(killed) if p.sent < up - 0.1]
            time.sleep(1.0)
    require_honest(load.history)
    assert share(outages, 503) > 0.2
    verdict = judge(postgres, load.history)
    require_kept("F03", verdict, load.history)
    assert max(recoveries) < RECOVERY_SECONDS
    record(
        "F03",
        verdict,
        kills=len(recoveries),
        slowest_recovery=round(max(recoveries), 2),
        slowest_answer=round(slowest(load.history), 2),
    )


def public_answers(replicas: Sequence[Replica], seconds: float) -> tuple[set[int], float]:
    """Ask for keys and metadata until the time is over; returns the statuses and the slowest answer."""
    statuses, worst, deadline = set(), 0.0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        for replica in replicas:
            for path in ("/.well-known/jwks.json", "/.well-known/oauth-authorization-server"):
                begun = time.monotonic()
                statuses.add(replica.status(path, 5.0))
                worst = max(worst, time.monotonic() - begun)
        time.sleep(0.05)
    return statuses, worst


def stop_processes(server: PostgresServer, sent: signal.Signals) -> None:
    """To the postmaster and every backend."""
    assert server.process is not None
    for pid in (server.process.pid, *server.backends()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)


@pytest.mark.rule("I2", "I10")
def test_f04_postgres_hangs(postgres: Deployment, postgres_server: PostgresServer) -> None:
    """SIGSTOP to all of PostgreSQL: every request is answered in time with 503; keys and metadata stay 200."""
    with under_load(postgres) as load:
        stopped = time.monotonic()
        stop_processes(postgres_server, signal.SIGSTOP)
        try:
            statuses, worst = public_answers(postgres.replicas, SIZES.freeze_seconds)
        finally:
            stop_processes(postgres_server, signal.SIGCONT)
        resumed = time.monotonic()
        recovery = first_token_after(load, resumed)
    frozen = [p for p in load.history if stopped + 0.2 < p.sent < resumed - 1]
    require_honest(load.history)
    assert statuses == {200}
    assert share(frozen, 503) == 1.0
    assert slowest(frozen) < ANSWER_SECONDS
    assert recovery < RECOVERY_SECONDS
    verdict = judge(postgres, load.history)
    require_kept("F04-hang", verdict, load.history)
    record("F04", verdict, what="SIGSTOP", seconds=SIZES.freeze_seconds, slowest_answer=round(slowest(frozen), 2),
           slowest_public=round(worst, 3), recovery=round(recovery, 2))  # fmt: skip


@pytest.mark.rule("I1", "I2")
def test_f04_commits_are_slow(postgres: Deployment, link: Proxy) -> None:
    """Two hundred milliseconds more for every round trip: tokens come later, and all of them come."""
    with under_load(postgres, url=postgres.through(link.port)) as load:
        link.latency = 0.1
        slowed = time.monotonic()
        time.sleep(4.0)
        slow = list(load.since(slowed))
        link.heal()
    require_honest(load.history)
    assert share(slow, 200) > 0.95
    assert slowest(slow) < ANSWER_SECONDS
    verdict = judge(postgres, load.history)
    require_kept("F04-slow", verdict, load.history)
    record(
        "F04",
        verdict,
        what="+200 ms per round trip",
        slowest_answer=round(slowest(slow), 2),
        answered=round(share(slow, 200), 4),
    )


@pytest.mark.rule("I2", "I10")
def test_f04_the_table_is_locked(postgres: Deployment) -> None:
    """Somebody locks used_once for two seconds: 503 in time, and tokens again when the lock is gone."""
    with under_load(postgres) as load:
        locked = time.monotonic()
        with postgres.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE used_once IN ACCESS EXCLUSIVE MODE")
            time.sleep(2.0)
        released = time.monotonic()
        recovery = first_token_after(load, released)
    frozen = [p for p in load.history if locked + 0.2 < p.sent < released - 1]
    require_honest(load.history)
    assert frozen
    assert slowest(frozen) < ANSWER_SECONDS
    assert recovery < RECOVERY_SECONDS
    verdict = judge(postgres, load.history)
    require_kept("F04-lock", verdict, load.history)
    record(
        "F04", verdict, what="table locked 2 s", slowest_answer=round(slowest(frozen), 2), recovery=round(recovery, 2)
    )


@pytest.mark.rule("I2", "I10")
def test_f04_no_connection_is_left(postgres: Deployment, link: Proxy) -> None:
    """Others take every connection while the replicas must reconnect: 503, and tokens again when they let go."""
    with under_load(postgres, url=postgres.through(link.port)) as load:
        link.refusing = True
        link.cut()
        with contextlib.ExitStack() as held:
            _take_all_connections(postgres, held)
            link.heal()
            full = time.monotonic()
            time.sleep(2.0)
        released = time.monotonic()
        recovery = first_token_after(load, released)
    starved = [p for p in load.history if full < p.sent < released - 1]
    require_honest(load.history)
    assert share(starved, 503) == 1.0
    assert slowest(starved) < ANSWER_SECONDS
    assert recovery < RECOVERY_SECONDS
    verdict = judge(postgres, load.history)
    require_kept("F04-connections", verdict, load.history)
    record(
        "F04", verdict, what="max_connections", slowest_answer=round(slowest(starved), 2), recovery=round(recovery, 2)
    )


def _take_all_connections(postgres: Deployment, held: contextlib.ExitStack) -> None:
    for _ in range(500):
        try:
            connection = postgres.connect()
        except psycopg.OperationalError:
            return
        held.callback(connection.close)
    raise AssertionError("there is always one more connection")
