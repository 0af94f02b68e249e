"""Operators' commands on a host whose clock is wrong: nothing is dated by it, and the message names both times."""

import sqlite3
import time
from contextlib import closing

import pytest

from .running import Home
from .test_signing_keys import keys

DAY = 86_400
DATED = [
    ("key", "prepare"),
    ("key", "rotate"),
    ("--yes", "key", "activate", "{pending}", "--now"),
    ("key", "retire", "{pending}"),
    ("key", "retire", "{active}"),
    ("--yes", "key", "revoke", "{active}"),
]


def seen(home: Home, seconds: float) -> None:
    """The store knows that it was this much later than it is now, or earlier."""
    with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as connection, connection:
        connection.execute("UPDATE registry SET horizon = ?", (int(time.time() + seconds) - 600,))


def ring(home: Home) -> dict[str, str]:
    return {key["kid"]: str(key) for key in keys(home)}


@pytest.fixture
def two(home: Home) -> dict[str, str]:
    """An active and a pending key, by state."""
    home.ok("key", "prepare")
    return {key["state"]: key["kid"] for key in keys(home)}


@pytest.mark.rule("CL-3", "I13", "KEY-21")
@pytest.mark.parametrize("command", DATED, ids=lambda words: " ".join(words[-3:]))
def test_a_clock_that_is_behind(home: Home, two: dict[str, str], command: tuple[str, ...]) -> None:
    """Exit code 5 with both times; the ring is what it was. Resealing dates nothing."""
    before = ring(home)
    seen(home, 30 * DAY)
    done = home(*(word.format(**two) for word in command))
    assert (done.code, done.out) == (5, ""), done.err
    this_year, then = time.strftime("%Y-%m-%dT%H", time.gmtime()), time.gmtime(time.time() + 30 * DAY - 600)
    assert this_year[:10] in done.err
    assert time.strftime("%Y-%m-%d", then) in done.err
    assert "Set the clock" in done.err
    assert ring(home) == before
    home.ok("key", "reseal")
    home.ok("key", "list")


@pytest.mark.rule("CL-3", "I13")
def test_a_clock_that_may_be_ahead(home: Home, two: dict[str, str]) -> None:
    """Or nobody served for long: only a person can say, with --yes."""
    before = ring(home)
    seen(home, -30 * DAY)
    asked = home("--no-input", "key", "rotate")
    assert (asked.code, "Is the clock of this host right? Say --yes" in asked.err) == (2, True)
    assert ring(home) == before
    home.ok("--yes", "key", "rotate")
    assert ring(home) != before
    seen(home, -1800)
    home.ok("key", "prepare")


@pytest.mark.rule("CL-3", "I13", "K08")
def test_a_first_start_that_was_broken_off(home: Home) -> None:
    """The store knows the time, and no key is made by a clock that contradicts it."""
    with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as connection, connection:
        connection.execute("DELETE FROM signing_keys")
    seen(home, 30 * DAY)
    done = home("init")
    assert (done.code, "behind what the store has seen" in done.err) == (5, True)
    seen(home, 0)
    home.ok("init")
