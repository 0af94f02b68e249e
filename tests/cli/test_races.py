"""Two operators at once: whoever loses is told so, and nobody's change is lost."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.files import read_private_key
from groat.keys.ring.keyring import Lead, SigningKey
from groat.protocol.errors import ConfigError
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.operations import Operator
from groat.server.store import StoreConflict
from groat.server.store.sqlite.store import SqliteStore
from tests.waiting import wait_until

from .running import ISSUER, Home

Work = Callable[[Operator], Coroutine[Any, Any, Any]]


class Slow(SqliteStore):
    """The real store, which lets both operators read before either writes."""

    barrier: threading.Barrier
    met = False

    async def signing_keys(self) -> tuple[SigningKey, ...]:
        keys = await super().signing_keys()
        if not self.met:  # who has to start over finds the others gone
            self.met = True
            self.barrier.wait(10)
        return keys


def at_once(home: Home, works: Sequence[Work]) -> list[Any]:
    """Let operators work at the same time, each with a connection of its own; returns results or refusals."""
    barrier = threading.Barrier(len(works))

    def run(work: Work) -> Any:
        async def operate() -> Any:
            store = Slow.open(home.directory / "data" / "groat.db")
            assert isinstance(store, Slow)
            store.barrier = barrier
            try:
                return await work(Operator(store, Policy(ISSUER)))
            except (StoreConflict, ConfigError) as refusal:
                return refusal
            finally:
                await store.close()

        return asyncio.run(operate())

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


@pytest.mark.rule("K09", "KEY-19", "KEY-20")
def test_of_two_rotations_at_once_one_wins(home: Home) -> None:
    """There is one successor; the other operator is told, and the ring is what one rotation makes."""
    kek = KeyEncryptionKey.load(home.directory / "data" / "key-encryption.key")
    work: Work = lambda operator: operations.rotate_signing_key(operations.Ring(operator, kek, "ES256", Lead()))  # noqa: E731
    results = at_once(home, [work, work])
    assert sum(isinstance(result, Exception) for result in results) == 1
    states = [key["state"] for key in home.ok("--json", "key", "list").json]
    assert states == ["active", "pending"]


@pytest.mark.rule("K09", "KEY-21")
def test_a_revocation_beside_a_rotation_is_not_lost(home: Home) -> None:
    """The emergency goes through, and the stolen key does not come back, because somebody rotated meanwhile."""
    kek = KeyEncryptionKey.load(home.directory / "data" / "key-encryption.key")
    (first,) = home.ok("--json", "key", "list").json
    rotate: Work = lambda operator: operations.rotate_signing_key(operations.Ring(operator, kek, "ES256", Lead()))  # noqa: E731
    revoke: Work = lambda operator: operations.revoke_signing_key(operations.Ring(operator, kek, "ES256"), first["kid"])  # noqa: E731
    results = at_once(home, [rotate, revoke])
    states = {key["kid"]: key["state"] for key in home.ok("--json", "key", "list").json}
    assert not isinstance(results[1], Exception)
    assert states[first["kid"]] == "removed"
    assert list(states.values()).count("active") == 1


@pytest.mark.rule("K09")
def test_of_two_first_keys_at_once_one_is_made(empty: Home) -> None:
    """Replicas that start on an empty store end up with exactly one signing key."""
    empty.ok("init", "--issuer", ISSUER)
    data = empty.directory / "data"
    for path in data.glob("groat.db*"):
        path.unlink()
    asyncio.run(SqliteStore.create(data / "groat.db").close())
    kek = KeyEncryptionKey.load(data / "key-encryption.key")
    work: Work = lambda operator: operations.first_signing_key(operations.Ring(operator, kek, "ES256"))  # noqa: E731
    at_once(empty, [work, work])
    assert [key["state"] for key in empty.ok("--json", "key", "list").json] == ["active"]


@pytest.mark.rule("AS-CA-21", "AS-CA-22")
@pytest.mark.parametrize("key", ["own", "same"])
def test_of_many_registrations_at_once_one_wins(home: Home, key: str) -> None:
    """One id, or one key, and several who want it: one gets it, and no key file of a loser stays."""
    if key == "same":
        home.file("public.json", json.dumps(home.document("billing.key.json") | {"kid": "x"}))
        document = home.document("public.json")
        home.ok("--yes", "client", "remove", "billing")
        home.file("public.json", json.dumps({name: document[name] for name in ("kty", "crv", "x", "y")}))
    racers = []
    for number in range(4):
        names = (
            ("wanted", ("--new-key", f"k{number}.json")) if key == "own" else (f"c{number}", ("--jwks", "public.json"))
        )
        racers.append(home.start("-q", "client", "add", names[0], "--allow", "orders=orders:read", *names[1]))
    codes = [racer.wait(60) for racer in racers]
    assert sorted(codes) == [0, 3, 3, 3]
    assert len(list(home.directory.glob("k*.json"))) == (1 if key == "own" else 0)


@pytest.mark.rule("K08")
def test_a_copy_of_an_installation_works_elsewhere(home: Home, tmp_path: Path) -> None:
    """Nothing in it depends on where it lies: a backup is a copy."""
    copy = Home(Path(shutil.copytree(home.directory, tmp_path / "copy")))
    assert copy.ok("config", "check").out.startswith("config")
    assert copy.ok("-q", "client", "list").out == home.ok("-q", "client", "list").out


def full_pipe() -> tuple[int, int]:
    """A pipe that takes not one byte more until somebody reads it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x")
    os.set_blocking(write, True)
    return read, write


def registered(home: Home, client_id: str) -> bool:
    """Whether the store has this client."""
    with contextlib.closing(sqlite3.connect(home.directory / "data" / "groat.db")) as database:
        return bool(database.execute("SELECT 1 FROM clients WHERE client_id = ?", (client_id,)).fetchone())


@pytest.mark.rule("K08", "KEY-08")
def test_ctrl_c_after_the_commit_leaves_the_key_of_a_registered_client(home: Home) -> None:
    """The command hangs in its log line behind the commit, Ctrl-C ends it there: the private key is still there."""
    read, write = full_pipe()
    command = ("-v", "client", "add", "late", "--allow", "orders=orders:read", "--new-key", "late.json")
    process = home.start(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write)
    os.close(write)
    try:
        wait_until(lambda: registered(home, "late"))
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        with open(read, "rb") as stderr:
            said = stderr.read().lstrip(b"x")
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait(5)
    assert b"late is registered; its private key: late.json" in said
    (kid,) = home.ok("-q", "client", "key", "list", "late").out.split()
    assert read_private_key(home.directory / "late.json").kid == kid


# Starts the console script with a Ctrl-C of its own, in the callback of a weak reference that an import triggers.
DROPPED_INTERRUPT = """
import importlib.abc, runpy, signal, sys, weakref

class Dropping(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "groat.server.store.sqlite.store":
            finder = Dropping()
            reference = weakref.ref(finder, lambda _: signal.raise_signal(signal.SIGINT))
            del finder

sys.meta_path.insert(0, Dropping())
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""

INTERRUPTED_BEHIND_THE_LINK = """
import os, runpy, signal, stat, sys

sync = os.fsync

def fsync(descriptor):
    sync(descriptor)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode) and os.path.exists("never.json"):
        signal.raise_signal(signal.SIGINT)

os.fsync = fsync
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def add_while_the_store_is_locked(home: Home, interrupt: Callable[[subprocess.Popen[bytes]], None]) -> bytes:
    """Register a client while another writer holds the store, until Ctrl-C ends it; returns what the command said."""
    with contextlib.closing(sqlite3.connect(home.directory / "data" / "groat.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        command = ("client", "add", "never", "--allow", "orders=orders:read", "--new-key", "never.json")
        process = home.start(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            interrupt(process)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait(5)
        database.execute("ROLLBACK")
    assert process.returncode == 130, said
    assert not registered(home, "never")
    assert not (home.directory / "never.json").exists()
    return said


@pytest.mark.rule("K08")
def test_ctrl_c_before_the_commit_leaves_nothing(home: Home) -> None:
    """While another writer holds the store, Ctrl-C ends the command: no client, and no key file in the way."""

    def interrupt(process: subprocess.Popen[bytes]) -> None:
        wait_until((home.directory / "never.json").exists)
        process.send_signal(signal.SIGINT)

    add_while_the_store_is_locked(home, interrupt)


@pytest.mark.rule("K08")
def test_ctrl_c_while_the_key_file_is_made_durable_leaves_nothing(home: Home) -> None:
    """The file has its name, and the call that wrote it has not returned."""
    home.prefix = (sys.executable, "-c", INTERRUPTED_BEHIND_THE_LINK)
    assert add_while_the_store_is_locked(home, lambda process: None).endswith(b"groat: interrupted\n")


@pytest.mark.rule("K08")
def test_a_key_file_that_was_there_stays(home: Home) -> None:
    """Another client's key under that name is not taken for the one that was to be written."""
    words = ("--allow", "orders=orders:read", "--new-key", "taken.json")
    home.ok("client", "add", "other", *words)
    before = (home.directory / "taken.json").read_bytes()
    assert home("client", "add", "never", *words).code != 0
    assert (home.directory / "taken.json").read_bytes() == before


@pytest.mark.rule("K08")
def test_ctrl_c_that_python_drops_ends_the_command_all_the_same(home: Home) -> None:
    """What is raised in the callback of a weak reference is dropped, and imports are full of them."""
    home.prefix = (sys.executable, "-c", DROPPED_INTERRUPT)
    said = add_while_the_store_is_locked(home, lambda process: None)
    assert said.strip() == b"groat: interrupted"
