"""A store that is locked, full or gone: 503 and nothing worse, and afterwards nothing is lost or spent twice."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest
from starlette.types import Message

from groat import app
from groat.keys.files import read_private_key
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.chores import forgetting, upkeep
from groat.server.store import Issuance, StoreUnavailable
from groat.server.store.sqlite.store import SqliteStore
from tests.disks import filled, small_disk
from tests.server.builders import NOW, Party, base
from tests.server.lab import Lab, prepare
from tests.server.wire import FORM, Address, Answer, Connection, check_ec, check_ok, check_refused, post, send

if TYPE_CHECKING:
    from tests.conftest import Groat, Server


@contextlib.contextmanager
def write_lock(database: Path) -> Iterator[None]:
    """Another process in the middle of a transaction."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextlib.contextmanager
def queue_lock(database: Path) -> Iterator[None]:
    """Another worker that hangs while it holds the file lock on which the writers queue."""
    descriptor = os.open(database.with_name(database.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


LOCKS = [pytest.param(write_lock, id="transaction"), pytest.param(queue_lock, id="queue")]
Lock = Callable[[Path], contextlib.AbstractContextManager[None]]


@pytest.mark.rule("AS-TE-30", "F04", "I1", "I2")
@pytest.mark.parametrize("lock", LOCKS)
def test_a_locked_database(fresh_lab: Callable[..., Lab], lock: Lock) -> None:
    """While another holds the lock: 503 with Retry-After in bounded time, reads go on; afterwards: once each."""
    lab = fresh_lab()
    check_ok(lab.ask())
    assertions = [lab.party.assertion() for _ in range(8)]
    began = time.monotonic()
    with lock(lab.database), ThreadPoolExecutor(8) as pool:
        pending = [pool.submit(lab.ask, assertion) for assertion in assertions]
        time.sleep(0.2)
        assert lab.get("/.well-known/jwks.json").status == 200
        assert lab.get("/livez").status == 200
        assert lab.get("/.well-known/oauth-authorization-server").status == 200
        check_ec(lab.ask(lab.party.assertion(aud="x")))
        answers = [future.result() for future in pending]
        assert time.monotonic() - began < 5
    for answer in answers:
        check_refused(answer, "temporarily_unavailable", 503)
        assert lab.reason(answer) == "store_unavailable"
    check_ok(lab.ask())
    _each_once_at_most(lab.address, assertions)


def _each_once_at_most(address: Address, assertions: list[str]) -> list[int]:
    """Present all twice; an assertion that got 503 may be spent or not, but never buys two tokens."""
    first = [post(address, base(assertion)).status for assertion in assertions]
    second = [post(address, base(assertion)).status for assertion in assertions]
    assert set(first) <= {200, 401}
    assert set(second) == {401}
    return first


@pytest.mark.rule("AS-TE-30", "I2", "F04")
@pytest.mark.parametrize("lock", LOCKS)
def test_a_refused_write_leaves_the_jti_unused(fresh_lab: Callable[..., Lab], lock: Lock) -> None:
    """A 503 that came before the write means that nothing was written: the same assertion is good afterwards."""
    lab = fresh_lab()
    check_ok(lab.ask())
    assertion = lab.party.assertion()
    with lock(lab.database):
        check_refused(lab.ask(assertion), "temporarily_unavailable", 503)
    check_ok(lab.ask(assertion))
    check_ec(lab.ask(assertion))


@pytest.mark.rule("AS-TE-30", "F12")
@pytest.mark.parametrize("lock", LOCKS)
def test_closing_does_not_wait_for_a_lock(tmp_path: Path, lock: Lock) -> None:
    """A store closes in bounded time though a lock is never released; whoever waited is told so."""

    async def run() -> float:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.use_once(OneTimeValue(OneTimeKind.ASSERTION, "c", "first", NOW + 60), Issuance("t0", "c", "k", NOW))
        with lock(tmp_path / "groat.db"):
            waiting = asyncio.ensure_future(
                store.use_once(
                    OneTimeValue(OneTimeKind.ASSERTION, "c", "second", NOW + 60), Issuance("t1", "c", "k", NOW)
                )
            )
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await asyncio.wait_for(store.close(), 10)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(waiting, 3)
            return time.monotonic() - began

    assert asyncio.run(run()) < 6


@pytest.mark.rule("F10", "AS-TE-30")
def test_a_writer_that_could_not_start_starts_later(tmp_path: Path) -> None:
    """If the lock file cannot be made at first (full disk, no descriptors), requests get 503 until it can."""
    blocker = tmp_path / "groat.db.lock"

    async def run() -> bool:
        store = SqliteStore.create(tmp_path / "groat.db")
        await store.close()
        blocker.unlink(missing_ok=True)
        blocker.mkdir()
        store = SqliteStore.open(tmp_path / "groat.db")
        with pytest.raises(StoreUnavailable):
            await store.use_once(
                OneTimeValue(OneTimeKind.ASSERTION, "c", "first", NOW + 60), Issuance("t0", "c", "k", NOW)
            )
        blocker.rmdir()
        receipt = await store.use_once(
            OneTimeValue(OneTimeKind.ASSERTION, "c", "second", NOW + 60), Issuance("t1", "c", "k", NOW)
        )
        await store.close()
        return receipt.fresh

    assert asyncio.run(run())


# Real processes on real full disks


def _install(groat: "Groat") -> Party:
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    groat.run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", "k.json")
    return Party("billing", read_private_key(groat.directory / "k.json"), time.time())


@contextlib.contextmanager
def _small_disk(groat: "Groat") -> Iterator[Path]:
    """The data directory on a tmpfs of a few megabytes; needs the right to mount."""
    data = groat.directory / "data"
    saved = groat.directory / "saved"
    shutil.copytree(data, saved)
    with small_disk(data, 3, "mode=0700"):
        for file in saved.iterdir():
            shutil.copy(file, data / file.name)
        yield data


def _until_refused(server: "Server", party: Party, limit: int) -> tuple[list[str], list[str]]:
    """Ask until a 503 comes; returns what was acknowledged and what was not."""
    connection = Connection(server.address)
    acknowledged: list[str] = []
    for _ in range(limit):
        party.now = time.time()
        assertion = party.assertion(exp=int(party.now) + 280)
        answer = connection.ask("POST", "/token", [("Content-Type", FORM)], base(assertion))
        if answer.status != 200:
            check_refused(answer, "temporarily_unavailable", 503)
            connection.close()
            return acknowledged, [assertion]
        acknowledged.append(assertion)
    raise AssertionError("the disk never filled up")


def _check_full(server: "Server", party: Party) -> list[str]:
    """While the disk is full: 503 for good requests, 401 for bad ones, reading goes on."""
    refused = []
    for _ in range(3):
        party.now = time.time()
        refused.append(party.assertion(exp=int(party.now) + 280))
        answer = post(server.address, base(refused[-1]))
        check_refused(answer, "temporarily_unavailable", 503)
    check_ec(post(server.address, base(party.assertion(aud="x"))))
    for path in ("/.well-known/jwks.json", "/livez"):
        assert send(server.address, "GET", path).status == 200
    return refused


def _check_healed(server: "Server", party: Party, acknowledged: list[str], refused: list[str]) -> None:
    deadline = time.monotonic() + 10
    while True:
        party.now = time.time()
        answer = post(server.address, base(party.assertion()))
        if answer.status == 200:
            break
        assert time.monotonic() < deadline, answer
    sample = acknowledged[:20] + acknowledged[-60:]
    assert {post(server.address, base(assertion)).status for assertion in sample} == {401}
    assert set(_each_once_at_most(server.address, refused)) == {200}, "a refused write must not spend the jti"


UNTHROTTLED = {"GROAT_THROTTLE__CLIENT_FAILURES": "100000", "GROAT_THROTTLE__SOURCE_FAILURES": "100000"}


@pytest.mark.rule("F10", "AS-TE-30", "I1", "I10")
def test_a_full_disk(make_groat: "Callable[[str], Groat]") -> None:
    """On a full file system: 503, no corruption; when there is room again it heals by itself and remembers."""
    groat = make_groat("full-disk")
    party = _install(groat)
    with _small_disk(groat) as data:
        server = groat.serve(1, env=UNTHROTTLED)
        before = [party.assertion() for _ in range(20)]
        for assertion in before:
            check_ok(post(server.address, base(assertion)))
        with filled(data):
            acknowledged, refused = _until_refused(server, party, 500)
            refused += _check_full(server, party)
        _check_healed(server, party, before + acknowledged, refused)
        server.stop()
        with contextlib.closing(sqlite3.connect(data / "groat.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.rule("F10", "AS-TE-30", "I1", "I10")
def test_a_file_size_limit(make_groat: "Callable[[str], Groat]") -> None:
    """Where the kernel refuses to let the log of the database grow: the same, and the same recovery."""
    groat = make_groat("size-limit")
    party = _install(groat)
    server = groat.serve(1, env=UNTHROTTLED)
    check_ok(post(server.address, base(party.assertion())))
    pid = server.process.pid
    wal = groat.directory / "data" / "groat.db-wal"
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (wal.stat().st_size + 100_000, before[1]))
    acknowledged, refused = _until_refused(server, party, 500)
    assert acknowledged
    refused += _check_full(server, party)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    _check_healed(server, party, acknowledged, refused)
    server.stop()


@pytest.mark.rule("OPS-06", "AS-TE-30", "I10")
def test_a_store_that_is_gone(make_groat: "Callable[[str], Groat]") -> None:
    """When the store cannot be read: not ready, 503 on what needs it, never 401; public keys come from memory."""
    groat = make_groat("gone")
    party = _install(groat)
    server = groat.serve(1)
    check_ok(post(server.address, base(party.assertion())))
    assert send(server.address, "GET", "/readyz").status == 200
    with contextlib.closing(sqlite3.connect(groat.directory / "data" / "groat.db")) as other:
        other.execute("ALTER TABLE registry RENAME TO hidden")
        other.commit()
        for _ in range(2):
            answers: list[Answer] = [
                post(server.address, base(party.assertion())),
                post(server.address, base(party.assertion(aud="x"))),
                post(server.address, base(Party("nobody", party.key, party.now).assertion())),
            ]
            for answer in answers:
                check_refused(answer, "temporarily_unavailable", 503)
            ready = send(server.address, "GET", "/readyz")
            assert (ready.status, ready.header("retry-after")) == (503, "1")
            assert b"registry" not in ready.body
            for document in ("jwks.json", "oauth-authorization-server"):
                assert send(server.address, "GET", f"/.well-known/{document}").status == 200
            assert send(server.address, "GET", "/livez").status == 200
        other.execute("ALTER TABLE hidden RENAME TO registry")
        other.commit()
    party.now = time.time()
    check_ok(post(server.address, base(party.assertion())))
    assert send(server.address, "GET", "/readyz").status == 200
    server.stop()


@pytest.mark.rule("OPS-06", "AS-TE-30")
def test_without_an_active_signing_key(fresh_lab: Callable[..., Lab]) -> None:
    """A server whose signing key is not active yet is alive, not ready, and answers 503."""
    lab = fresh_lab()
    with lab.clock.at(NOW - 3600):
        lab.party.now = NOW - 3600
        check_refused(lab.ask(), "temporarily_unavailable", 503)
        assert lab.get("/readyz").status == 503
        assert lab.get("/livez").status == 200
    lab.party.now = NOW
    check_ok(lab.ask())


@pytest.mark.rule("F10", "I10", "I11")
def test_a_log_that_takes_nothing_any_more(make_groat: "Callable[[str], Groat]") -> None:
    """When the log is gone, no token leaves without its trace: 503; refusals are still answered as ever."""
    groat = make_groat("log-gone")
    party = _install(groat)
    read, write = os.pipe()
    server = groat.serve(1, stderr=write)
    os.close(write)
    with cast(IO[bytes], os.fdopen(read, "rb")) as log:
        server.address = _address(log)
        time.sleep(0.3)
    check_refused(post(server.address, base(party.assertion())), "temporarily_unavailable", 503)
    check_ec(post(server.address, base(party.assertion(aud="x"))))
    check_refused(post(server.address, b"", ()), "invalid_request")
    assert send(server.address, "GET", "/livez").status == 200
    server.stop(signal.SIGKILL)


def _address(log: IO[bytes]) -> Address:
    """Where a server listens, read from its log up to the line that says it is ready."""
    address: Address = ("", 0)
    for line in log:
        event = json.loads(line)
        if event["event"] == "server.started":
            host, _, port = event["address"].removeprefix("http://").rpartition(":")
            address = (host, int(port))
        if "startup complete" in event.get("message", ""):
            return address
    raise AssertionError("the server did not start")


class Stumbling(SqliteStore):
    """Meets a bug the first time it is asked to forget; `asked` counts how often it was asked."""

    asked = 0

    async def forget_expired(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise KeyError("a bug")
        return await super().forget_expired()


def test_a_chore_that_meets_a_bug_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the traceback, and old digests are forgotten again a moment later."""
    lab = prepare(tmp_path)
    monkeypatch.setattr(upkeep, "CHORE_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(forgetting, "INTERVAL_SECONDS", 0.01)

    async def live(store: Stumbling) -> None:
        served = app.create_app(lab.config, store, app.Clockwork(lab.clock), lab.audit.log)
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        outbox: asyncio.Queue[Message] = asyncio.Queue()
        inbox.put_nowait({"type": "lifespan.startup"})
        life = asyncio.ensure_future(served({"type": "lifespan", "state": {}}, inbox.get, outbox.put))
        async with asyncio.timeout(10):
            assert (await outbox.get())["type"] == "lifespan.startup.complete"
            while store.asked < 3:
                await asyncio.sleep(0.01)
            inbox.put_nowait({"type": "lifespan.shutdown"})
            await life

    asyncio.run(live(Stumbling.open(lab.database)))
    lab.stream.close()
    broken = [line for line in map(json.loads, lab.lines()) if line["event"] == "server.error"]
    assert len(broken) == 1
    assert "KeyError: 'a bug'" in broken[0]["exception"]
