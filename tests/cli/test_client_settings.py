"""Every setting of a client, wherever an operator meets it: the options, the output, the document on disk, the docs."""

import json
import sqlite3
from pathlib import Path

import pytest

from groat.cli.client_settings import CLEARED, option_name
from groat.cli.commands.client import client
from groat.protocol.client_settings import CLIENT_SETTINGS, DEFAULTS, Kind

from .running import Home

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
OFFERED = {name: told for name, told in CLIENT_SETTINGS.items() if told.about}


def test_what_nobody_is_offered() -> None:
    """There is one grant so far: nothing to choose."""
    assert CLIENT_SETTINGS.keys() - OFFERED.keys() == {"grant_types"}


@pytest.mark.parametrize("command", ["add", "update"])
def test_every_setting_is_an_option(command: str) -> None:
    """With its help, at the registration and later."""
    options = {one.name: one for one in client.commands[command].params}
    for name, told in OFFERED.items():
        assert f"--{option_name(name)}" in options[name].opts
        assert getattr(options[name], "help", None) == told.about


def test_what_can_be_cleared() -> None:
    """Where no other value of the option says it."""
    assert list(CLEARED) == [
        "default-scope", "max-assertion-lifetime", "signing-alg", "token-lifetime", "claim", "label",
        "certificate", "certificate-ca",
    ]  # fmt: skip


def test_every_setting_is_in_the_output_and_in_the_document(home: Home) -> None:
    """The same members with the same values; in the store beside what the client may ask."""
    shown = home.ok("--json", "client", "show", "billing").json
    with sqlite3.connect(home.directory / "data" / "groat.db") as database:
        row = database.execute("SELECT document FROM clients WHERE client_id = 'billing'").fetchone()
    stored = json.loads(row[0])
    assert list(stored) == ["allow", *CLIENT_SETTINGS]
    assert list(shown) == ["client_id", "allow", "created_at", "enabled", *CLIENT_SETTINGS]
    assert stored == {name: shown[name] for name in stored}


def _without(name: str) -> str:
    default = getattr(DEFAULTS, name)
    return "none" if default in (None, (), {}) else str(default).lower()


def test_every_setting_is_in_the_reference() -> None:
    """One row each: what the option and the member are called, what holds without it, what it is for."""
    _, _, section = DOCS.read_text("utf-8").partition("## Settings of a client\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `--")]
    assert rows == [
        f"| `--{option_name(name)}`{f', `--{told.off}`' if told.kind is Kind.SWITCH else ''} | `{name}` "
        f"| {_without(name)} | {told.about} |"
        for name, told in OFFERED.items()
    ]
