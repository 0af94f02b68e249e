"""A server that can issue no token, seen by its operator: the start, the checks and the doctor name the reason and the way out."""

import json
import sqlite3
from contextlib import closing

import pytest

from groat.keys.ring.keyring import PUBLISH_LEAD
from tests.ports import free_port

from .running import Home
from .test_custody import files
from .test_signing_keys import keys


def _moved(home: Home) -> None:
    home.ok("--yes", "store", "copy", "sqlite:///data/groat.db", "sqlite:///data/new.db")


@pytest.mark.rule("OP-2", "I15")
def test_a_store_that_moved_serves_no_more(home: Home) -> None:
    """Neither a check nor a start with the settings of before; both say what to set, and it helps."""
    _moved(home)
    for command in (("config", "check"), ("serve",)):
        done = home.script(*command)
        assert (done.code, done.out) == (5, ""), done.err
        assert len(done.err.splitlines()) == 1
        assert "storage.url" in done.err
        assert "groat store reopen" in done.err
    home.ok("config", "check", GROAT_STORAGE__URL="sqlite:///data/new.db")


@pytest.mark.rule("OP-2", "OP-15", "I15")
def test_a_store_that_moves_underneath(home: Home) -> None:
    """A running server tells it once, is not ready, and recovers; health and doctor name the reason."""
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    with home.serving(port=port) as server:
        _moved(home)
        for _ in range(2):
            asked = home("--json", "health")
            assert (asked.code, asked.json["reason"]) == (7, "store_closed")
        done = home("--json", "doctor", "server", "--url", server.url)
        found = {row["check"]: row["detail"] for row in json.loads(done.out) if row["outcome"] == "failed"}
        assert (done.code, list(found)) == (7, ["readiness", "store"])
        assert "store_closed" in found["readiness"]
        assert "groat store reopen" in found["store"]
        home.ok("--yes", "store", "reopen")
        home.ok("health")
        told = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert [line["event"] for line in told if line["event"].startswith("server.")][-2:] == [
            "server.unready", "server.ready"]  # fmt: skip
        (unready,) = [line for line in told if line["event"] == "server.unready"]
        assert "storage.url" in unready["hint"]


def _lose(home: Home, custody: str) -> tuple[str, str]:
    """An active key whose private half is gone, and a pending one that every verifier knows; returns their kids."""
    home.ok("key", "prepare")
    active, pending = ({key["state"]: key["kid"] for key in keys(home)}[state] for state in ("active", "pending"))
    with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as connection, connection:
        connection.execute("UPDATE signing_keys SET created_at = created_at - ?", (PUBLISH_LEAD,))
        if custody == "store":
            connection.execute("UPDATE signing_keys SET sealed = x'' WHERE kid = ?", (active,))
        else:
            (home.directory / "data" / "keys" / f"{active}.pem").unlink()
    return active, pending


@pytest.mark.rule("CL-3", "KEY-22", "I15")
@pytest.mark.parametrize("custody", ["store", "files"])
def test_a_lost_key_does_not_stop_the_server(empty: Home, custody: str) -> None:
    """Checks fail and name the command, a start warns and another key signs; the command ends it."""
    if custody == "files":
        empty.env |= files(empty)
    empty.ok("init", "--issuer", "https://as.example")
    lost, heir = _lose(empty, custody)
    done = empty("config", "check")
    assert (done.code, done.out) == (3, "")
    assert f"signing key {lost} is to sign and cannot be opened" in done.err
    assert "groat key activate" in done.err
    assert "key-encryption key" not in done.err
    port = free_port()
    empty.env["GROAT_SERVER__PORT"] = str(port)
    with empty.serving(port=port) as server:
        empty.ok("health")
        events = {line["event"]: line for line in map(json.loads, server.log.read_text().splitlines())}
        assert lost in events["key.unusable"]["hint"]
        assert events["key.lost"]["kid"] == lost
        empty.ok("--yes", "key", "activate", heir, "--now")
        assert {key["kid"]: key["state"] for key in keys(empty)}[heir] == "active"
    empty.ok("config", "check")
