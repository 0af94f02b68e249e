"""Commands on a machine whose clock the store contradicts: nothing is dated by it."""

import re
import sqlite3
import time
from typing import Final

import pytest

from groat.keys.files import public_key_pem
from groat.protocol.jwk import generate_private_key

from .running import Home

INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z")
HOUR: Final = 3600
DAY: Final = 86400
DATED: Final = [
    ("client", "invite", "billing"),
    ("client", "key", "add", "billing", "key.pem", "--expires", "90d"),
    ("store", "fence"),
    ("store", "reopen"),
]


def seen(home: Home, seconds_from_now: int, file: str = "data/groat.db") -> None:
    """Let the store have seen this time."""
    with sqlite3.connect(home.directory / file) as connection:
        connection.execute("UPDATE registry SET horizon = ?", (int(time.time()) + seconds_from_now,))


def state(home: Home) -> tuple[object, ...]:
    """Version and floor of the registry."""
    with sqlite3.connect(home.directory / "data/groat.db") as connection:
        return tuple(connection.execute("SELECT version, floor FROM registry").fetchall())


@pytest.mark.rule("CL-1", "CL-3", "I13", "OPS-06")
@pytest.mark.parametrize("command", DATED, ids=" ".join)
def test_a_clock_that_is_behind_dates_nothing(home: Home, command: tuple[str, ...]) -> None:
    """Exit code 5, both times in the message, and no change, with --yes too."""
    home.file("key.pem", public_key_pem(generate_private_key("ES256").public))
    seen(home, HOUR)
    before = state(home)
    done = home("--yes", *command)
    assert done.code == 5, done.err
    assert len(INSTANT.findall(done.err)) == 2
    assert "behind" in done.err
    assert "Set the clock" in done.err
    assert state(home) == before


@pytest.mark.rule("CL-1", "I13", "OPS-06")
def test_a_floor_far_ahead_is_asked_for(home: Home) -> None:
    """The store was in use 60 days ago, or the clock is wrong: a floor never goes down, so somebody has to say."""
    seen(home, -60 * DAY)
    before = state(home)
    refused = home("--no-input", "store", "fence")
    assert refused.code == 2
    assert "Is the clock of this host right?" in refused.err
    assert len(INSTANT.findall(refused.err)) == 2
    assert state(home) == before
    home.ok("--yes", "store", "fence")
    assert state(home) != before


@pytest.mark.rule("CL-3", "OPS-06")
def test_what_can_be_taken_back_is_done_with_a_warning(home: Home) -> None:
    """After a pause of days the clock is right, most likely."""
    seen(home, -60 * DAY)
    done = home.ok("client", "invite", "billing")
    assert "warning: this host's clock says" in done.err
    assert "warning" not in home.ok("client", "list").err


@pytest.mark.rule("CL-2", "F16", "I1", "I13")
def test_a_backup_brings_its_horizon_along(home: Home) -> None:
    """Restored into a new file, by a clock that is right; by one that is behind what the backup has seen: not at all."""
    home.ok("store", "backup", "copy.db")
    seen(home, -300, "copy.db")
    for name in ("groat.db", "groat.db-wal", "groat.db-shm"):
        (home.directory / "data" / name).unlink(missing_ok=True)
    home.ok("store", "restore", "copy.db")
    assert abs(home.ok("--json", "store", "show").json["horizon"] - time.time() + 300) < 60
    seen(home, HOUR, "copy.db")
    before = state(home)
    done = home("--yes", "store", "restore", "copy.db")
    assert (done.code, "copy.db has seen 2" in done.err, "behind" in done.err) == (3, True, True)
    assert state(home) == before


@pytest.mark.rule("CL-2", "I13")
def test_what_a_wrong_clock_left_behind_is_taken_back(home: Home) -> None:
    """A clock that was ahead for long had its way: one command makes the store believe the right one, and fences it."""
    refused = home("--yes", "store", "fence", "--clock-was-ahead")
    assert (refused.code, "no later time" in refused.err) == (3, True)
    seen(home, 60 * DAY)
    assert home("--yes", "store", "fence").code == 5
    assert home("--no-input", "store", "fence", "--clock-was-ahead").code == 2
    done = home.ok("--json", "--yes", "store", "fence", "--clock-was-ahead").json
    assert abs(done["horizon"] - time.time() + 600) < 60
    assert 0 < done["floor"] - time.time() < 60
    home.ok("key", "prepare")


@pytest.mark.rule("CL-2", "I13")
def test_a_new_store_knows_when_it_was_made(home: Home) -> None:
    """`groat init` gives it its first horizon, ten minutes ago."""
    made = (home.directory / "groat.toml").stat().st_mtime  # the installation that tests copy
    assert abs(home.ok("--json", "store", "show").json["horizon"] - made + 600) < 60
