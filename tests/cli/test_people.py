"""Times and spans: dates and units for people, numbers for programs (OP-10)."""

import re
import time
from datetime import datetime

import pytest

from groat.cli import people
from groat.server.settings.readers import duration, length

from .running import ISSUER, Home

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
EPOCH = re.compile(r"\b1[6-9]\d{8}\b")
SHOWN = (
    ("api", "list"),
    ("api", "show", "orders"),
    ("client", "list"),
    ("client", "show", "billing"),
    ("client", "update", "billing", "--max-assertion-lifetime", "2m"),
    ("client", "key", "list", "billing"),
    ("client", "invite", "billing", "--valid", "2h"),
    ("key", "list"),
    ("key", "prepare"),
    ("store", "show"),
    ("store", "fence"),
    ("config", "show"),
    ("config", "show", "--origin"),
    ("config", "schema"),
)


@pytest.mark.rule("OP-10")
@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_no_table_counts_seconds_since_1970(home: Home, command: tuple[str, ...]) -> None:
    """Nobody reads them."""
    home.ok("store", "fence")
    done = home.ok(*command)
    shown = re.sub(r"registry_version +\d+", "", done.out)  # a fence raises it to an instant, but it is none
    assert EPOCH.search(shown + done.err) is None, done.out


@pytest.mark.rule("OP-10")
@pytest.mark.parametrize("command", [("api", "show", "orders"), ("client", "show", "billing")], ids=" ".join)
def test_a_date_for_people_is_the_number_for_programs(home: Home, command: tuple[str, ...]) -> None:
    """The same instant, in UTC, with how long ago it was."""
    at = home.ok("--json", *command).json["created_at"]
    assert isinstance(at, int)
    shown = re.search(r"^created_at +(\S+) \(\d+ (?:s|min) ago\)$", home.ok(*command).out, re.MULTILINE)
    assert shown is not None
    assert datetime.fromisoformat(shown[1]).timestamp() == at


@pytest.mark.rule("OP-10")
def test_a_date_that_is_shown_can_be_typed(home: Home) -> None:
    """What `show` prints is what an option takes."""
    (kid,) = home.ok("-q", "client", "key", "list", "billing").out.split()
    shown = home.ok("client", "key", "update", "billing", kid, "--expires", "90d").out
    at = re.search(r"^expires_at +(\S+) \(in 90 d\)$", shown, re.MULTILINE)
    assert at is not None
    typed = home.ok("--json", "client", "key", "update", "billing", kid, "--expires", at[1]).json
    assert typed["expires_at"] == datetime.fromisoformat(at[1]).timestamp()


@pytest.mark.rule("OP-10")
def test_spans_of_settings_read_as_in_the_file(home: Home) -> None:
    """30d, not 2592000; programs get the number."""
    env = {"GROAT_KEYS__ROTATE_EVERY": "30d", "GROAT_TOKENS__LIFETIME": "90s"}
    people_see = dict(line.split("  ", 1) for line in home.ok("config", "show", **env).out.splitlines())
    people_see = {name: value.strip() for name, value in people_see.items()}
    assert (people_see["keys.rotate_every"], people_see["tokens.lifetime"]) == ("30d", "90s")
    rows = home.ok("config", "show", "--origin", **env).out
    assert re.search(r"keys\.rotate_every +30d +GROAT_KEYS__ROTATE_EVERY", rows)
    numbers = home.ok("--json", "config", "show", **env).json
    assert (numbers["keys.rotate_every"], numbers["tokens.lifetime"], numbers["issuer"]) == (2592000, 90, ISSUER)
    assert numbers["server.port"] == 3001


@pytest.mark.rule("OP-10")
@pytest.mark.parametrize("typed", ["120", "120s", "2m"])
def test_a_span_may_be_typed_either_way(home: Home, typed: str) -> None:
    """As in the file; and it is shown in units."""
    words = ("client", "update", "billing", "--max-assertion-lifetime", typed)
    assert re.search(r"^max_assertion_lifetime +2m$", home.ok(*words).out, re.MULTILINE)
    assert home.ok("--json", *words).json["max_assertion_lifetime"] == 120
    assert home("client", "update", "billing", "--max-assertion-lifetime", "soon").code == 2


@pytest.mark.rule("OP-10")
def test_the_times_of_a_token_are_said_beside_it(home: Home) -> None:
    """The document is the token's own; its dates are remarks, which a program does not get."""
    signed = home.ok("client", "assertion", "billing", "--key", "billing.key.json").out.strip()
    done = home.ok("token", "inspect", signed)
    assert done.json["claims"]["exp"] > time.time()
    assert re.search(rf"^exp  {DATE.pattern} \(in \d+ s\)$", done.err, re.MULTILINE)
    assert home.ok("--json", "token", "inspect", signed).err == ""


@pytest.mark.rule("OP-10")
@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 90, 3600, 5400, 86400, 2592000, 2592001])
def test_a_span_is_exact(seconds: int) -> None:
    """Whatever is printed reads back as the same number."""
    assert duration(length(seconds)) == seconds


@pytest.mark.rule("OP-10")
def test_odd_instants_do_not_end_a_command() -> None:
    """A clock may be anywhere."""
    assert people.cell("x_at", 10**15) == str(10**15)
    assert people.cell("x_at", 0) == "-"
