"""Rows that are not as groat writes them, and workers that cannot start: who is not concerned is served."""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from groat.keys.files import read_private_key
from tests.server.builders import Party, base
from tests.server.wire import check_ok, check_refused, post, send
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

HMAC_KEY: Final = '{"kty": "oct", "k": "AA"}'


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """An installation with one API and two clients."""
    made = make_groat("damage")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    for name in ("billing", "stock"):
        made.run("client", "add", name, "--allow", "orders=read", "--new-key", f"{name}.json")
    return made


@pytest.fixture(scope="module")
def running(groat: "Groat") -> "Iterator[Server]":
    server = groat.serve(2)
    yield server
    server.stop()


def ask(groat: "Groat", server: "Server", client_id: str) -> Any:
    party = Party(client_id, read_private_key(groat.directory / f"{client_id}.json"), time.time())
    return post(server.address, base(party.assertion(), scope="read"))


@contextlib.contextmanager
def damaged(groat: "Groat", table: str, column: str, value: str, where: str = "true") -> Iterator[None]:
    """Rows with another value in a column, which every worker reads anew; mended behind the block."""
    with contextlib.closing(sqlite3.connect(groat.directory / "data" / "groat.db", isolation_level=None)) as database:

        def write(key: int, content: str) -> None:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (content, key))
            database.execute("UPDATE registry SET version = version + 1")

        before = database.execute(f"SELECT rowid, {column} FROM {table} WHERE {where}").fetchall()
        assert before
        try:
            for key, _ in before:
                write(key, value)
            yield
        finally:
            for key, content in before:
                write(key, content)


def replace_a_worker(server: "Server") -> None:
    """Kill one worker; the supervisor starts another."""
    before = server.workers()
    started = startups(server)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: startups(server) > started and len(server.workers()) == len(before))


def startups(server: "Server") -> int:
    """How many workers got ready so far."""
    return sum(line.get("message") == "Application startup complete." for line in server.lines())


def hints(server: "Server", event: str) -> list[str]:
    """The hints of the log lines of one kind so far."""
    return [line["hint"] for line in server.lines() if line["event"] == event]


@pytest.mark.rule("OPS-06", "AS-TE-30", "F10")
@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("clients", "document", "{"),
        ("clients", "document", "{}"),
        ("clients", "document", '{"allow": 7}'),
        ("client_keys", "jwk", "[]"),
        ("client_keys", "jwk", HMAC_KEY),
    ],
    ids=["not JSON", "not whole", "another type", "not a JWK", "not a public JWK"],
)
def test_a_damaged_client(groat: "Groat", running: "Server", table: str, column: str, value: str) -> None:
    """503 for that client and never invalid_client; the log says what cannot be read; the other client is served."""
    with damaged(groat, table, column, value, "client_id = 'billing'"):
        for _ in range(4):
            check_refused(ask(groat, running, "billing"), "temporarily_unavailable", 503)
            check_ok(ask(groat, running, "stock"))
        assert "that cannot be read" in hints(running, "token.refused")[-1]
        listed = groat.run("client", "list", check=False)
        assert listed.returncode == (5 if table == "clients" else 0)  # keys are not looked at for a list of clients
        assert "a bug" not in listed.stderr
    check_ok(ask(groat, running, "billing"))


@pytest.mark.rule("OPS-06", "AS-TE-30", "F10")
@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("apis", "scopes", "7"), ("signing_keys", "jwk", "null"), ("signing_keys", "jwk", HMAC_KEY)],
    ids=["API", "signing key", "not a public JWK"],
)
def test_damage_that_concerns_everybody(groat: "Groat", running: "Server", table: str, column: str, value: str) -> None:
    """503 for all, also by a worker that starts meanwhile; commands say what it is; once mended all is as ever."""
    with damaged(groat, table, column, value):
        check_refused(ask(groat, running, "billing"), "temporarily_unavailable", 503)
        replace_a_worker(running)
        for _ in range(8):
            check_refused(ask(groat, running, "billing"), "temporarily_unavailable", 503)
            assert send(running.address, "GET", "/livez").status == 200
        command = ("api", "list") if table == "apis" else ("config", "check")
        done = groat.run(*command, check=False)
        assert (done.returncode, "that cannot be read" in done.stderr) == (5, True)
    for _ in range(8):
        check_ok(ask(groat, running, "billing"))


@pytest.mark.rule("OPS-06", "AS-TE-30", "F10")
def test_a_worker_that_cannot_start(groat: "Groat", running: "Server") -> None:
    """One log line says why, without a traceback; the other worker serves; once mended there are two again."""
    key = groat.directory / "data" / "key-encryption.key"
    aside = key.rename(key.with_suffix(".aside"))
    try:
        killed = running.workers()[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: bool(hints(running, "worker.failed")))
        for _ in range(8):
            check_ok(ask(groat, running, "billing"))
        assert hints(running, "worker.failed")[0] == f"cannot read {key}: No such file or directory"
        assert not any("Traceback" in str(line.get("message")) for line in running.lines())
        started = startups(running)
    finally:
        aside.rename(key)
    wait_until(lambda: startups(running) > started)
    check_ok(ask(groat, running, "billing"))


# What Python runs first in every process: start-up meets a bug.
BROKEN_START: Final = """
from groat.server.registry.registry import Registry

async def warm(self):
    raise RuntimeError("broken on purpose")

Registry.warm = warm
"""


@pytest.mark.rule("OPS-06")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_ends_by_itself_has_failed(groat: "Groat", tmp_path: Path, workers: int) -> None:
    """Not 0: a service manager would take that for a stop that somebody wished, and start nothing again."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN_START)
    done = groat.run("serve", "--port", "0", "--workers", str(workers), check=False, PYTHONPATH=str(tmp_path))
    assert (done.returncode, "broken on purpose" in done.stderr) == (1, True)
