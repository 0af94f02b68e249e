"""A clock that is wrong for some seconds, at real servers: no key is destroyed, made or let sign by it."""

import contextlib
import json
import sqlite3
import time
from typing import Any

import pytest

from .deployment import Deployment, wait_until
from .test_clocks import events, present
from .turning import DAY, HOUR, Turnable, turnable, wrong

WRONG_SECONDS = 4.0  # several looks of the rotator, which looks every second here
LIFETIME = 300
LAST_SECONDS = 3000  # of a rotation period


def ring(deployment: Deployment) -> list[dict[str, Any]]:
    return list(json.loads(deployment.run("--json", "key", "list").stdout))


def sealed(deployment: Deployment) -> dict[str, bool]:
    """Which keys have their private half."""
    rows: list[tuple[str, Any]]
    if deployment.kind == "postgres":
        with deployment.connect() as connection:
            rows = connection.execute("SELECT kid, sealed FROM signing_keys").fetchall()  # type: ignore[assignment]
    else:
        with contextlib.closing(sqlite3.connect(deployment.database)) as file:
            rows = file.execute("SELECT kid, sealed FROM signing_keys").fetchall()
    return {kid: bool(value) for kid, value in rows}


@pytest.fixture(params=["sqlite", "postgres"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    made: Deployment = request.getfixturevalue(request.param)
    return made


def turned_under_load(deployment: Deployment, plant: str, seconds: float) -> tuple[Turnable, dict[str, bool]]:
    """One server that has signed lately, and whose clock is wrong for some seconds; returns the keys of before."""
    (caller,) = deployment.initialise("billing")
    (turned,) = turnable(deployment, 1, plant)
    wait_until(lambda: len(sealed(deployment)) == 2, 20, "the next key is published")
    (assertion,) = caller.sign(1, LIFETIME)
    assert present(assertion, turned.replica) == 200
    before = sealed(deployment)
    with wrong([turned], seconds, WRONG_SECONDS):
        time.sleep(WRONG_SECONDS)
        if plant == "right":
            assert set(before) == {key["kid"] for key in deployment.published_keys()["keys"]}, "nor does one leave"
    return turned, before


@pytest.mark.rule("CL-3", "I12", "I13", "KEY-22", "F09")
@pytest.mark.parametrize("seconds", [60 * DAY, -60 * DAY], ids=["ahead", "behind"])
def test_sixty_days_for_some_seconds(deployment: Deployment, seconds: int) -> None:
    """The ring is what it was, the log says why nothing happened, and the next start signs with the same key."""
    turned, before = turned_under_load(deployment, "right", seconds)
    assert sealed(deployment) == before
    assert all(before.values())
    assert events(turned.replica).count("key.rotation_waits") == 1
    assert not {"key.destroyed", "key.scheduled"} & {*events(turned.replica)}
    (active,) = [key["kid"] for key in ring(deployment) if key["state"] == "active"]
    turned.replica.terminate()
    turned.replica.start()
    assert active in [key["kid"] for key in deployment.published_keys()["keys"]]
    deployment.run("config", "check")


@pytest.mark.rule("CL-3", "I13")
def test_a_planted_destroyer_is_found(sqlite: Deployment) -> None:
    """The test above can fail: a server that believes its clock, waits for nothing and ignores the uses does destroy."""
    turned, before = turned_under_load(sqlite, "destroyer", 60 * DAY)
    after = sealed(sqlite)
    assert not all(after[kid] for kid in before)
    assert "key.destroyed" in events(turned.replica)


@pytest.mark.rule("CL-3", "I13")
def test_an_hour_near_the_end_of_a_period(sqlite: Deployment) -> None:
    """A clock an hour ahead when the takeover is less than that away: the key that signs stays, and signs."""
    (caller,) = sqlite.initialise("billing")
    (turned,) = turnable(sqlite, 1)
    wait_until(lambda: len(sealed(sqlite)) == 2, 20, "the next key is published")
    turned.replica.terminate()
    _near_the_end(sqlite)
    turned.replica.start()
    first, second = caller.sign(2, LIFETIME)
    assert present(first, turned.replica) == 200
    before = sealed(sqlite)
    with wrong([turned], HOUR, WRONG_SECONDS):
        time.sleep(WRONG_SECONDS)
    assert sealed(sqlite) == before
    assert present(second, turned.replica) == 200


def _near_the_end(deployment: Deployment) -> None:
    """As if this period had begun so long ago that the next key takes over in less than an hour."""

    instants = ("created_at", "activates_at", "retires_at", "removes_at")
    ages = ", ".join(f"{name} = {name} - ?1" for name in instants)
    with contextlib.closing(sqlite3.connect(deployment.database)) as file, file:
        file.execute(f"UPDATE signing_keys SET {ages}", (30 * DAY - LAST_SECONDS,))
        file.execute("UPDATE registry SET version = version + 1")
