"""Settings of clients and APIs that say who may have which tokens, and how clients are found by what is said of them."""

import asyncio
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import groat
from groat.server.store.sqlite.store import SCHEMA_VERSION, SqliteStore

from .running import GROAT, ISSUER, Home

DAY = 86400


def show(home: Home, client_id: str = "billing") -> dict[str, Any]:
    found: dict[str, Any] = home.ok("--json", "client", "show", client_id).json
    return found


def test_settings_of_reach(home: Home) -> None:
    """Each is set, shown, changed by name, and taken back."""
    home.ok(
        "client", "update", "billing", "--token-lifetime", "5m", "--claim", "tenant=acme", "--claim", "plan=a=b",
        "--scope-policy", "narrow", "--owner", "Accounts", "--label", "env=prod", "--label", "team/name=pay",
    )  # fmt: skip
    shown = show(home)
    assert (shown["token_lifetime"], shown["scope_policy"], shown["owner"]) == (300, "narrow", "Accounts")
    assert (shown["claims"], shown["labels"]) == (
        {"tenant": "acme", "plan": "a=b"},
        {"env": "prod", "team/name": "pay"},
    )
    home.ok("client", "update", "billing", "--claim", "plan=", "--label", "env=test", "--owner", "")
    shown = show(home)
    assert (shown["claims"], shown["labels"], shown["owner"]) == (
        {"tenant": "acme"}, {"env": "test", "team/name": "pay"}, None,
    )  # fmt: skip
    home.ok("client", "update", "billing", "--clear", "claim", "--clear", "label", "--clear", "token-lifetime")
    shown = show(home)
    assert (shown["claims"], shown["labels"], shown["token_lifetime"], shown["scope_policy"]) == (
        {},
        {},
        None,
        "narrow",
    )
    people = home.ok("client", "show", "billing").out
    assert "scope_policy" in people


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--claim", "roles=admin"), 3, "claim roles is a registered claim"),
        (("--claim", "exp=1"), 3, "claim exp is written by groat itself"),
        (("--claim", "groat:x=1"), 3, "claim groat:x begins with groat:"),
        (("--claim", f"tenant={'x' * 1100}"), 3, "claims must be at most 1024 bytes"),
        (("--claim", "tenant=a\tb"), 3, "claim tenant: its value must be printable"),
        (("--claim", "te nant=a"), 3, "claim 'te nant'"),
        (("--claim", "tenant"), 2, "--claim takes NAME=VALUE"),
        (("--claim", "=acme"), 2, "--claim takes NAME=VALUE"),
        (("--label", "env"), 2, "--label takes NAME=VALUE"),
        (("--label", "-env=prod"), 3, "label '-env'"),
        (("--token-lifetime", "2h"), 3, "token_lifetime must be 60 to 3600 seconds"),
        (("--token-lifetime", "30s"), 3, "token_lifetime must be 60 to 3600 seconds"),
        (("--scope-policy", "loose"), 2, "'strict', 'narrow'"),
        (("--owner", "a\x1b[31mb"), 3, "owner must be at most 200 printable characters"),
        (("--claim", "a=b", "--clear", "claim"), 2, "say one of them"),
    ],
)
def test_what_is_refused_when_it_is_set(home: Home, options: tuple[str, ...], code: int, said: str) -> None:
    """With the sentence that names it, by add and by update; nothing is changed."""
    before = show(home)
    done = home("client", "update", "billing", *options)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert show(home) == before
    if "--clear" not in options:
        added = home("client", "add", "new", "--allow", "orders=orders:read", "--new-key", "new.json", *options)
        assert (added.code, said in added.err) == (code, True)
        assert not (home.directory / "new.json").exists()


def test_the_lifetime_of_an_api(home: Home) -> None:
    """Set at the registration or later, and taken back."""
    added = home.ok("--json", "api", "add", "stock", "--audience", "https://s.example", "--token-lifetime", "15m").json
    assert added["token_lifetime"] == 900
    assert "15m" in home.ok("api", "show", "stock").out
    assert home.ok("--json", "api", "update", "stock", "--token-lifetime", "90").json["token_lifetime"] == 90
    assert home.ok("--json", "api", "update", "stock", "--scope", "a").json["token_lifetime"] == 90
    assert home("api", "update", "stock", "--token-lifetime", "61m").code == 3
    assert home("api", "update", "stock", "--token-lifetime", "2m", "--clear", "token-lifetime").code == 2
    assert home("api", "update", "stock", "--clear", "token-lifetime", "--dry-run").code == 7
    assert home.ok("--json", "api", "update", "stock", "--clear", "token-lifetime").json["token_lifetime"] is None


def _note_use(home: Home, client_id: str, at: float) -> None:
    async def note() -> None:
        store = SqliteStore.open(home.directory / "data" / "groat.db")
        await store.note_key_uses([(client_id, "whichever", int(at))])
        await store.close()

    asyncio.run(note())


def _registered(home: Home, days_ago: int, *clients: str) -> None:
    """As if these had been registered then."""
    with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as database, database:
        for client_id in clients:
            database.execute(
                "UPDATE clients SET created_at = ? WHERE client_id = ?", (int(time.time()) - days_ago * DAY, client_id)
            )


def test_clients_are_found_by_what_is_said_of_them(home: Home) -> None:
    """All that is asked must be so; an API that is not there is a mistake, a label that nobody has is none."""
    home.ok("api", "add", "stock", "--audience", "https://s.example", "--scope", "read")
    for name, api, labels in [("a", "stock=read", ("env=prod", "team=x")), ("b", "orders=orders:read", ("env=prod",))]:
        words = [word for label in labels for word in ("--label", label)]
        home.ok("client", "add", name, "--allow", api, "--new-key", f"{name}.json", *words)
    home.ok("client", "disable", "b")

    def found(*options: str) -> list[str]:
        return home.ok("-q", "client", "list", *options).out.split()

    assert found() == ["a", "b", "billing"]
    assert found("--api", "stock") == ["a"]
    assert found("--api", "orders") == ["b", "billing"]
    assert found("--label", "env=prod") == ["a", "b"]
    assert found("--label", "env=prod", "--label", "team=x") == ["a"]
    assert found("--label", "env=other") == []
    assert found("--disabled") == ["b"]
    assert found("--disabled", "--label", "team=x") == []
    assert home.ok("--json", "client", "list", "--label", "env=other").json == []
    wrong = home("client", "list", "--api", "stick")
    assert (wrong.code, "no API stick" in wrong.err) == (3, True)
    assert home("client", "list", "--label", "env").code == 2


def test_clients_that_nobody_uses(home: Home) -> None:
    """Since the last use that is known, whatever key it was by; else since the registration; never longer than is known."""
    for name in ("used", "old", "new"):
        home.ok("client", "add", name, "--allow", "orders=orders:read", "--new-key", f"{name}.json")
    _registered(home, 400, "used", "old", "billing")
    _note_use(home, "used", time.time() - 10 * DAY)
    _note_use(home, "billing", time.time() - 100 * DAY)

    def unused(span: str) -> list[str]:
        return home.ok("-q", "client", "list", "--unused", span).out.split()

    assert (unused("90d"), unused("9d"), unused("11d")) == (
        ["billing", "old"],
        ["billing", "old", "used"],
        ["billing", "old"],
    )
    assert unused("401d") == []
    since = {
        one["client_id"]: one["unused_since"] for one in home.ok("--json", "client", "list", "--unused", "1d").json
    }
    assert abs(time.time() - 10 * DAY - since["used"]) < 60
    table = home.ok("client", "list", "--unused", "90d").out
    assert "unused since" in table.splitlines()[0]
    # After a backup was put back, nobody knows what was used meanwhile.
    home.ok("store", "fence", "--yes")
    assert unused("1d") == []


def test_a_row_of_nonsense_is_no_client(home: Home) -> None:
    """A stored document that says what no setting can is called damaged, by every command that reads it."""
    with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as database, database:
        (text,) = database.execute("SELECT document FROM clients WHERE client_id = 'billing'").fetchone()
        document = {**json.loads(text), "claims": {"sub": "admin"}}
        database.execute("UPDATE clients SET document = ? WHERE client_id = 'billing'", (json.dumps(document),))
    for words in (("client", "list"), ("client", "show", "billing"), ("client", "update", "billing", "--owner", "x")):
        done = home(*words)
        assert (done.code, "a client that cannot be read" in done.err) == (5, True)


def test_operators_at_once_keep_each_others_claims(home: Home) -> None:
    """Four of them, each with a name of its own, in processes of their own."""
    started = [home.start("client", "update", "billing", "--claim", f"c{n}={n}") for n in range(4)]
    assert [process.wait(30) for process in started] == [0] * 4
    assert show(home)["claims"] == {f"c{n}": str(n) for n in range(4)}


def test_the_version(home: Home) -> None:
    """As an option, as everybody types it first, and as a command; without a configuration."""
    (home.directory / "groat.toml").unlink()
    assert home.ok("--version").out == home.ok("version").out == f"groat {groat.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(home: Home, shell: str) -> None:
    """Printed without a configuration; where the shell is installed, it loads the script."""
    (home.directory / "groat.toml").unlink()
    script = home.ok("completion", shell).out
    assert f"_GROAT_COMPLETE={shell}_complete" in script
    assert home("completion", "csh").code == 2
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["groat", "cli"], {"client"}),
        (["groat", "client", ""], {"add", "list", "show", "update", "key"}),
        (["groat", "client", "update", "--sc"], {"--scope-policy"}),
        (["groat", "client", "update", "x", "--scope-policy", ""], {"strict", "narrow"}),
        (["groat", "completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], offered: set[str]) -> None:
    """With the printed script loaded, as a shell asks."""
    if shutil.which("bash") is None:
        pytest.fail("bash is on every machine that builds this")
    script = f"""
PATH="{GROAT.parent}:$PATH"
eval "$(groat completion bash)"
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
_groat_completion groat
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=60)
    assert offered <= set(done.stdout.split())


def test_the_commands_of_the_guide(home: Home) -> None:
    """Each line of the page, one after the other; what they make is what the page says."""
    page = Path(__file__).parents[2] / "docs" / "guides" / "who-may-have-which-tokens.md"
    lines = re.findall(r"^    operator\$ groat (.+)$", page.read_text("utf-8"), re.MULTILINE)
    assert len(lines) > 10
    shown = []
    for line in lines:
        home.ok(*shlex.split(line))
        shown.append(show(home))
    assert {"tenant": "acme", "https://acme.example/plan": "gold"} in [one["claims"] for one in shown]
    assert shown[-1]["owner"] == "Accounts, accounts@example.com"


def test_init_says_that_it_upgraded_a_store(home: Home) -> None:
    """One of the version before: every other command asks for it, and it is done once."""
    with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as database, database:
        # What every version since has added.
        for statement in (
            "DROP TABLE trust_rules", "DROP TABLE trusts",
            "DROP TABLE audit", "DROP TABLE revoked_tokens", "DROP TABLE cuts", "DROP TABLE api_keys",
            "DROP TABLE revocation_feed", "DROP TABLE status_lists", "ALTER TABLE apis DROP COLUMN status",
            "DROP INDEX clients_disabled", "ALTER TABLE clients DROP COLUMN disabled_at",
            "ALTER TABLE apis DROP COLUMN token_lifetime", "ALTER TABLE apis DROP COLUMN binding",
            "ALTER TABLE clients DROP COLUMN unused_since",
            "PRAGMA user_version=1",
        ):  # fmt: skip
            database.execute(statement)
    asked = home("client", "list")
    assert (asked.code, f"has schema 1, this version needs {SCHEMA_VERSION}: groat init" in asked.err) == (5, True)
    for outcome in ("upgraded", "unchanged"):
        steps = home.ok("--json", "init", "--issuer", ISSUER).json
        assert {step["what"]: step["outcome"] for step in steps}["store"] == outcome
    assert home.ok("-q", "client", "list").out == "billing\n"
    assert home.ok("-q", "client", "list", "--unused", "1h").out == ""
