"""A clock that is wrong for some seconds, at real servers: what was used stays used, and nobody is locked out."""

import sqlite3
import time
from typing import Any

import pytest

from benchmarks.load.history import Assertion
from benchmarks.load.presenter import closed_loop, run

from .deployment import Deployment, Replica, wait_until
from .turning import DAY, HOUR, MINUTE, turnable, wrong

WRONG_SECONDS = 6.0
LIFETIME = 240  # well within what a clock that is twenty minutes ahead takes for over


def present(assertion: Assertion, replica: Replica) -> int:
    """The status of one presentation."""
    (answer,) = run(closed_loop([assertion], [replica.target], 1))
    return answer.status


def events(replica: Replica) -> list[str]:
    return [event["event"] for event in replica.events()]


@pytest.mark.rule("CL-1", "I1", "I12", "I13", "F09")
def test_a_replica_that_is_ahead_makes_others_forget_nothing(postgres: Deployment) -> None:
    """PostgreSQL, the clock of one of two replicas 20 minutes ahead for 6 s: it is not ready, and what was used stays used."""
    (caller,) = postgres.initialise("billing")
    healthy, turned = turnable(postgres, 2)
    used, *fresh = caller.sign(3, LIFETIME)
    assert present(used, healthy.replica) == 200
    rows = postgres.rows()
    with wrong([turned], 20 * MINUTE, WRONG_SECONDS):
        wait_until(lambda: turned.replica.status("/readyz") == 503, 5, "the wrong clock is noticed")
        assert healthy.replica.status("/readyz") == 200
        assert present(used, turned.replica) == 401
        assert present(used, healthy.replica) == 401
    assert postgres.rows() == rows
    for one, assertion in zip((healthy, turned), fresh, strict=True):
        assert present(used, one.replica) == 401
        assert present(assertion, one.replica) == 200
    wait_until(lambda: {"clock.skew", "clock.stepped"} <= {*events(turned.replica)}, 5, "it says so")
    assert "clock.stepped" not in events(healthy.replica)


@pytest.mark.rule("CL-2", "I1", "I12", "I13", "F09")
def test_a_lone_server_that_is_ahead_forgets_nothing(sqlite: Deployment) -> None:
    """SQLite, the clock an hour ahead for 6 s and back: the used assertion is refused, and a new one buys a token."""
    (caller,) = sqlite.initialise("billing")
    (turned,) = turnable(sqlite, 1)
    used, fresh = caller.sign(2, LIFETIME)
    assert present(used, turned.replica) == 200
    rows = sqlite.rows()
    with wrong([turned], HOUR, WRONG_SECONDS):
        assert present(used, turned.replica) == 401
    assert sqlite.rows() == rows
    assert present(used, turned.replica) == 401
    assert present(fresh, turned.replica) == 200
    wait_until(lambda: events(turned.replica).count("clock.stepped") == 2, 5, "both steps are told")


@pytest.mark.rule("CL-2", "I1", "I12", "I13", "F09")
@pytest.mark.parametrize("ahead", [20 * MINUTE, 60 * DAY])
def test_a_server_that_starts_with_a_wrong_clock_forgets_nothing(sqlite: Deployment, ahead: int) -> None:
    """SQLite, ahead from the start and right after some seconds: nobody is locked out, nothing is forgotten."""
    (caller,) = sqlite.initialise("billing")
    (turned,) = turnable(sqlite, 1)
    used, fresh = caller.sign(2, LIFETIME)
    assert present(used, turned.replica) == 200
    rows, horizon = sqlite.rows(), _horizon(sqlite)
    turned.replica.terminate()
    with wrong([turned], ahead):
        turned.replica.start()
        time.sleep(WRONG_SECONDS / 2)
    assert (sqlite.rows(), _horizon(sqlite)) == (rows, horizon)
    assert present(used, turned.replica) == 401
    assert present(fresh, turned.replica) == 200


@pytest.mark.rule("I4", "I5", "I12", "F09")
@pytest.mark.parametrize("store", ["postgres", "sqlite"])
def test_a_clock_that_steps_changes_no_key_set(deployment: Deployment) -> None:
    """60 days ahead the key of today would have left the JWKS, and the next one would sign: neither happens."""
    deployment.initialise()
    (turned,) = turnable(deployment, 1)
    wait_until(lambda: len(deployment.published_keys()["keys"]) == 2, 10, "the next key is published")
    before = deployment.published_keys()
    with wrong([turned], 60 * DAY, 2.0):
        time.sleep(0.1)
        assert deployment.published_keys() == before
    assert deployment.published_keys() == before


@pytest.mark.rule("CL-1", "OPS-06")
def test_a_start_without_a_key_by_a_wrong_clock_names_the_clock(sqlite: Deployment) -> None:
    """An hour behind, just after the first start: no key is active yet, and no further one would help."""
    sqlite.initialise()
    (turned,) = turnable(sqlite, 1)
    turned.replica.terminate()
    turned.turn(-HOUR)
    turned.replica.start(wait=False)
    wait_until(lambda: not turned.replica.running, 20, "it ends")
    log = turned.replica.log.read_text()
    assert "no key is active by this clock: this host's clock (" in log
    assert "behind what the store has seen (" in log


@pytest.mark.rule("CL-2", "I12", "F09")
def test_a_clock_behind_the_horizon_is_told(sqlite: Deployment) -> None:
    """SQLite, an hour behind: not ready, with both times in the log; ready again with the clock."""
    sqlite.initialise()
    (turned,) = turnable(sqlite, 1)
    with wrong([turned], -HOUR):
        wait_until(lambda: turned.replica.status("/readyz") == 503, 5, "the wrong clock is noticed")
        wait_until(lambda: "clock.behind" in events(turned.replica), 5, "and told")
    wait_until(lambda: turned.replica.status("/readyz") == 200, 5, "the clock is right again")
    told: list[dict[str, Any]] = [e for e in turned.replica.events() if e["event"].startswith("clock.")]
    assert [e["event"] for e in told if e["event"] != "clock.stepped"] == ["clock.behind", "clock.agrees"]
    (behind,) = [e for e in told if e["event"] == "clock.behind"]
    assert behind["hint"].count("Z)") == 2


@pytest.mark.rule("CL-1", "I12", "F09", "F16")
@pytest.mark.parametrize("seconds", [60 * DAY, -60 * DAY], ids=["ahead", "behind"])
def test_a_wrong_clock_raises_no_floor(postgres: Deployment, seconds: int) -> None:
    """A database that went back meets a replica that is 60 days off: it takes nothing over until the clocks agree."""
    postgres.initialise()
    (turned,) = turnable(postgres, 1)
    with wrong([turned], seconds):
        go_back(postgres)
        wait_until(lambda: _differ(turned.replica), 5, "the past is noticed, and why it is not taken over")
    wait_until(lambda: floor(postgres) > 0, 10, "it is taken over once the clocks agree")
    assert abs(floor(postgres) - time.time()) < MINUTE


def floor(deployment: Deployment) -> int:
    with deployment.connect() as connection:
        ((found,),) = connection.execute("SELECT floor FROM registry").fetchall()
    return int(found)


def _differ(replica: Replica) -> bool:
    reasons = [str(event["reason"]) for event in replica.events() if event["event"] == "store.down"]
    return any("went back in time, and its clock differs by" in reason for reason in reasons)


def go_back(deployment: Deployment) -> None:
    """Make the database look like one that was restored, and its connections anew."""
    with deployment.connect() as connection:
        connection.execute("UPDATE registry SET history = 'of another'")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def _horizon(deployment: Deployment) -> int:
    with sqlite3.connect(f"file:{deployment.database}?mode=ro", uri=True) as connection:
        ((horizon,),) = connection.execute("SELECT horizon FROM registry").fetchall()
    return int(horizon)
