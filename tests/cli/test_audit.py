"""`groat audit`: who changed what, for people, programs and a SIEM; and whether anybody changed that."""

import json
import os
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from groat.cli.actor import who_runs
from groat.protocol.errors import ConfigError

from .running import Home

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guides" / "audit.md"


def tamper(home: Home, statement: str) -> None:
    with closing(sqlite3.connect(home.directory / "data/groat.db")) as connection:
        connection.execute(statement)
        connection.commit()


def rows(home: Home, *arguments: str) -> list[dict[str, Any]]:
    return list(home.ok("--json", "audit", "list", *arguments).json)


def test_who_changed_what(home: Home) -> None:
    """From init on, the newest first; a person by the account, a job by its own word, and what was before and after."""
    home.ok("client", "update", "billing", "--owner", "payments", GROAT_ACTOR="deploy-42", SUDO_USER="bob")
    found = rows(home)
    assert [row["operation"] for row in found] == [
        "client.updated", "client.added", "api.added", "api.added", "key.rotated", "store.created",
    ]  # fmt: skip
    newest = found[0]
    assert newest["actor"].split(" ")[-3:] == [f"uid:{os.getuid()}", "sudo:bob", "claimed:deploy-42"]
    assert (newest["face"], newest["object"]) == ("cli", "client/billing")
    assert (newest["before"]["owner"], newest["after"]["owner"]) == (None, "payments")
    for chosen in ("deploy-42", "claimed:deploy-42", newest["actor"]):
        assert [row["seq"] for row in rows(home, "--actor", chosen)] == [newest["seq"]]
    assert {row["operation"] for row in rows(home, "--object", "client/billing")} == {"client.added", "client.updated"}
    assert len(rows(home, "--limit", "2")) == 2
    assert rows(home, "--since", "0s", "--actor", "nobody") == []
    table = home.ok("audit", "list").out
    assert "client/billing" in table
    assert "claimed:deploy-42" in table


def test_the_log_line_has_the_number(home: Home) -> None:
    """So that the log and the table can be matched."""
    done = home.ok("-v", "client", "disable", "billing", "--yes")
    line = next(json.loads(text) for text in done.err.splitlines() if "client.disabled" in text)
    assert line["audit"] == rows(home, "--limit", "1")[0]["seq"]


@pytest.mark.parametrize("name", ["a b", "x\nuser:root", "ä", "x" * 129])
def test_a_name_that_could_pass_for_another_word(home: Home, name: str) -> None:
    """Nothing is done."""
    done = home("client", "disable", "billing", "--yes", GROAT_ACTOR=name)
    assert (done.code, "GROAT_ACTOR" in done.err) == (3, True)
    assert rows(home, "--limit", "1")[0]["operation"] == "client.added"


def test_accounts_as_words() -> None:
    """A user id without an account, and names that could pass for other words."""
    assert who_runs(env={}, uid=54321).name == "uid:54321"
    assert who_runs(env={"SUDO_USER": "a uid:0"}, uid=54321).name == "uid:54321 sudo:a?uid:0"
    assert who_runs(env={}, uid=0).name == "user:root uid:0"
    with pytest.raises(ConfigError):
        who_runs(env={"GROAT_ACTOR": "a b"})


def test_verify_and_its_exit_codes(home: Home) -> None:
    """0 with the head; 7 with what is wrong, for tampering as for a head that is not there any more."""
    head = home.ok("-q", "audit", "verify").out.strip()
    found = home.ok("--json", "audit", "verify", "--head", head).json
    assert (found["head"], found["faults"], found["rows"], found["last"]) == (head, [], 5, 5)
    home.ok("client", "disable", "billing", "--yes")
    home.ok("audit", "verify", "--head", head.upper())
    tamper(home, "DELETE FROM audit WHERE seq >= 5")
    cut = home("audit", "verify", "--head", head)
    assert (cut.code, "no row has the hash" in cut.err) == (7, True)
    assert home("audit", "verify").code == 0
    tamper(home, "UPDATE audit SET actor = 'user:eve uid:1' WHERE seq = 2")
    changed = home("--json", "audit", "verify")
    assert (changed.code, changed.json["faults"]) == (7, ["row 2 was changed: its hash is another one"])
    assert len(rows(home)) == 4


def test_a_damaged_document_is_shown_as_it_is(home: Home) -> None:
    """In the list, the exports and the check, beside the others."""
    tamper(home, "UPDATE audit SET after = '{\"x' WHERE seq = 3")
    assert [row["after"] for row in rows(home) if row["seq"] == 3] == ['{"x']
    for form in ("jsonl", "ocsf"):
        assert len(home.ok("audit", "export", "--format", form).out.splitlines()) == 5
    assert home("audit", "verify").code == 7


# What OCSF 1.3.0 requires of Entity Management and of the objects in it, and the numbers that it knows.
REQUIRED: Final = {"activity_id", "category_uid", "class_uid", "entity", "metadata", "severity_id", "time", "type_uid"}
ACTIVITIES: Final = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99}


def check_event(event: dict[str, Any]) -> None:
    """Required attributes, types of integers, and the constraints of the objects: one of several at least."""
    assert event.keys() >= REQUIRED
    assert (event["category_uid"], event["class_uid"], event["severity_id"]) == (3, 3004, 1)
    assert event["activity_id"] in ACTIVITIES
    assert event["type_uid"] == 300400 + event["activity_id"]
    assert event["activity_id"] != 99 or event["activity_name"]
    assert 1_700_000_000_000 < event["time"] < 5_000_000_000_000
    assert event["metadata"].keys() >= {"version", "product"}
    assert (event["metadata"]["version"], event["metadata"]["product"]["vendor_name"]) == ("1.3.0", "groat")
    for entity in (event["entity"], event["entity_result"]):
        assert entity["name"]
        assert entity["uid"]
    assert event["actor"].keys() & {"process", "user", "session", "app_name", "app_uid"}


def test_export(home: Home) -> None:
    """The oldest first, a line each; as events of OCSF with all that it requires, and nothing of it is lost."""
    home.ok("client", "disable", "billing", "--yes")
    home.ok("client", "enable", "billing")
    home.ok("client", "remove", "billing", "--yes")
    plain = [json.loads(line) for line in home.ok("audit", "export").out.splitlines()]
    assert plain == rows(home)[::-1]
    events = [json.loads(line) for line in home.ok("audit", "export", "--format", "ocsf").out.splitlines()]
    for event, row in zip(events, plain, strict=True):
        check_event(event)
        assert (event["metadata"]["uid"], event["metadata"]["sequence"]) == (row["hash"], row["seq"])
        assert (event["entity"]["uid"], event["time"]) == (row["object"], row["at"] * 1000)
        assert (event["entity"].get("data"), event["entity_result"].get("data")) == (row["before"], row["after"])
    activities = {event["metadata"]["event_code"]: event["activity_id"] for event in events}
    assert activities == {
        "store.created": 1, "key.rotated": 1, "api.added": 1, "client.added": 1,
        "client.disabled": 9, "client.enabled": 8, "client.removed": 4,
    }  # fmt: skip
    one = home.ok("audit", "export", "--object", "client/billing", "--since", "1h").out.splitlines()
    assert len(one) == 4


def test_a_restore_keeps_what_goes_on_from_the_backup(home: Home) -> None:
    """Nobody is rid of rows by putting back a backup of before; a row says what was put back."""
    home.ok("store", "backup", "backup.db")
    home.ok("client", "disable", "billing", "--yes")
    head = home.ok("-q", "audit", "verify").out.strip()
    refused = home("--no-input", "store", "restore", "backup.db")
    assert "audit trail" not in refused.err
    home.ok("store", "restore", "backup.db", "--yes")
    home.ok("audit", "verify", "--head", head)
    newest = rows(home, "--limit", "2")
    assert [row["operation"] for row in newest] == ["store.restored", "client.disabled"]
    assert newest[0]["after"]["restored_from"].endswith("backup.db")


def test_a_restore_says_which_rows_go(home: Home, empty: Home) -> None:
    """A backup with another trail: its rows count, and the question names those of the store."""
    empty.ok("init", "--issuer", "https://auth.example.com")
    empty.ok("store", "backup", str(home.directory / "other.db"))
    asked = home("--no-input", "store", "restore", "other.db")
    assert "rows 1 to 5 of the audit trail go: the backup has another one" in asked.err
    home.ok("store", "restore", "other.db", "--yes")
    home.ok("audit", "verify")
    assert [row["operation"] for row in rows(home)] == [
        "store.restored", "api.added", "key.rotated", "store.created",
    ]  # fmt: skip


def test_the_guide_runs(home: Home) -> None:
    """Each command of the page, in its order, with what the shell does of it done here."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) >= 10
    for command in commands:
        words = shlex.split(command.replace('"$(cat head)"', "HEAD"))
        env = dict(word.split("=", 1) for word in words[: words.index("groat")])
        words, target = words[words.index("groat") + 1 :], ""
        if ">" in words:
            words, target = words[: words.index(">")], words[-1]
        head = home.directory / "head"
        done = home.ok(*(head.read_text().strip() if word == "HEAD" else word for word in words), **env)
        if target:
            (home.directory / target).write_text(done.out)
    assert rows(home, "--actor", "deploy-42")
