"""Why there is no token now: each reason has a name of its own in the log, in the metrics and in /readyz, and ends by itself."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from groat import app
from groat.keys.custody import KeyLost, Signer
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.custody.several import CannotSign, SignerUnavailable
from groat.keys.ring.keyring import PUBLISH_LEAD, Lead
from groat.protocol.jose import parse_jwt
from groat.protocol.jwk import PublicKey
from groat.server import operations
from groat.server.operations import store as store_operations
from tests.server.builders import NOW
from tests.server.lab import Lab, prepare, running
from tests.server.store.places import DEED
from tests.server.wire import check_ok, check_refused
from tests.waiting import wait_until

LEAD: Final = Lead()
BODY: Final = b'{"error":"temporarily_unavailable","error_description":"The server cannot answer at the moment. Try again later."}'


def check_reason(lab: Lab, reason: str, hint: str) -> None:
    """A token request and /readyz name it, the peer learns nothing of it."""
    answer = lab.ask()
    check_refused(answer, "temporarily_unavailable", 503)
    assert (answer.body, answer.header("retry-after")) == (BODY, "1")
    event = lab.event(answer)
    assert (event["reason"], hint in event["hint"]) == (reason, True), event
    ready = lab.get("/readyz")
    assert (ready.status, ready.json) == (503, {"status": "unavailable", "reason": reason})


def events(lab: Lab, name: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, lab.lines()) if line["event"] == name]


def kid_of(token: str) -> str | None:
    return parse_jwt(token.encode()).header.kid


def sql(lab: Lab, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(lab.database)) as connection, connection:
        connection.execute(statement, values)
        connection.execute("UPDATE registry SET version = version + 1")


@pytest.mark.rule("OP-15", "OPS-06")
def test_no_key_is_to_sign_now(fresh_lab: Callable[..., Lab]) -> None:
    """Before the first key activates: to make another one is refused then."""
    lab = fresh_lab()
    with lab.clock.at(NOW - 3600):
        lab.party.now = NOW - 3600
        check_reason(lab, "signing_key_missing", "groat key activate")


@pytest.mark.rule("OP-15", "OP-2", "I15")
def test_a_closed_store(fresh_lab: Callable[..., Lab]) -> None:
    """It says what to do; the log tells it once, and once when it is open again."""
    lab = fresh_lab()
    check_ok(lab.ask())
    lab.operate(lambda operator: operator.store.shut(DEED, NOW))
    for _ in range(3):
        check_reason(lab, "store_closed", "groat store reopen")
    (told,) = events(lab, "server.unready")
    assert (told["reason"], "storage.url" in told["hint"]) == ("store_closed", True)
    lab.operate(lambda operator: operator.store.shut(DEED, None))
    assert lab.get("/readyz").status == 200
    check_ok(lab.ask())
    assert [line["was"] for line in events(lab, "server.ready")] == ["store_closed"]


@pytest.mark.rule("OP-15")
def test_before_the_floor(fresh_lab: Callable[..., Lab]) -> None:
    """An assertion that is older than the store's memory; the server itself is ready."""
    lab = fresh_lab()
    lab.operate(store_operations.fence_store)
    answer = lab.ask()
    check_refused(answer, "temporarily_unavailable", 503)
    assert lab.reason(answer) == "store_floor"
    assert lab.get("/readyz").status == 200


@contextmanager
def full_log(lab: Lab) -> Iterator[None]:
    """The log of this server on a device that is always full."""
    log = lab.audit.log
    before, full = log._fd, os.open("/dev/full", os.O_WRONLY)
    log._fd = full
    try:
        yield
    finally:
        log._fd = before
        os.close(full)


@pytest.mark.rule("OP-15", "OP-1", "I15")
def test_a_log_that_takes_nothing(fresh_lab: Callable[..., Lab]) -> None:
    """No token leaves without its line; /readyz says so from the first that could not, and recovers by itself."""
    lab = fresh_lab()
    with full_log(lab):
        answer = lab.ask()
        check_refused(answer, "temporarily_unavailable", 503)
        for _ in range(2):
            ready = lab.get("/readyz")
            assert (ready.status, ready.json["reason"]) == (503, "log_unavailable")
    assert lab.get("/readyz").status == 200
    check_ok(lab.ask())
    assert events(lab, "server.unready")[0]["reason"] == "log_unavailable"


@pytest.mark.rule("OP-15", "CL-3", "KEY-22")
def test_the_private_half_is_gone(tmp_path: Path) -> None:
    """With nobody to stand in: its own reason, never the key-encryption key; the command that it names helps."""
    lab = prepare(tmp_path)
    (key,) = lab.operate(operations.list_signing_keys)
    sql(lab, "UPDATE signing_keys SET sealed = x''")
    with running(lab):
        check_reason(lab, "signing_key_lost", f"groat key retire {key.kid} --now")
        lab.operate(
            lambda op: operations.retire_signing_key(operations.Ring(op, lab.kek, "ES256", LEAD), key.kid, at_once=True)
        )
        assert lab.get("/readyz").status == 200
        check_ok(lab.ask())
        assert key.kid in lab.kids()


@pytest.mark.rule("OP-15", "CL-3", "KEY-19", "I4")
@pytest.mark.parametrize("published", [0, PUBLISH_LEAD - 1, PUBLISH_LEAD])
def test_a_published_key_stands_in(tmp_path: Path, published: int) -> None:
    """A pending key signs for the lost one if every verifier knows it, and not one second sooner; the log says so."""
    lab = prepare(tmp_path)
    (key,) = lab.operate(operations.list_signing_keys)
    with lab.clock.at(NOW - published):
        (heir,) = lab.operate(lambda op: operations.prepare_signing_key(operations.Ring(op, lab.kek, "ES256")))
    sql(lab, "UPDATE signing_keys SET sealed = x'' WHERE kid = ?", key.kid)
    with running(lab):
        if published < PUBLISH_LEAD:
            check_reason(lab, "signing_key_lost", "groat key activate")
            lab.operate(
                lambda op: operations.activate_signing_key(
                    operations.Ring(op, lab.kek, "ES256", LEAD), heir.kid, at_once=True
                )
            )
        assert kid_of(lab.token()) == heir.kid
        assert lab.get("/readyz").status == 200
        if published == PUBLISH_LEAD:
            (told,) = events(lab, "key.lost")
            assert (told["kid"], "groat key activate" in told["hint"]) == (key.kid, True)


@pytest.mark.rule("CL-3", "KEY-22")
def test_memory_outlives_the_store(fresh_lab: Callable[..., Lab]) -> None:
    """A server that holds the key signs on when the store has it no more, and says what will happen at the next start."""
    lab = fresh_lab()
    check_ok(lab.ask())
    (key,) = lab.operate(operations.list_signing_keys)
    sql(lab, "UPDATE signing_keys SET sealed = x''")
    assert kid_of(lab.token()) == key.kid
    assert lab.get("/readyz").status == 200
    assert [line["kid"] for line in events(lab, "key.lost")] == [key.kid]


@dataclass(slots=True)
class Device:
    """A signer of somebody else's that is away, forgets its key, or works, as a test says."""

    signer: Signer
    harm: Exception | None = None
    asked: int = 0

    @property
    def public(self) -> PublicKey:
        return self.signer.public

    async def sign(self, data: bytes) -> bytes:
        self.asked += 1
        if self.harm is not None:
            raise self.harm
        return await self.signer.sign(data)


@dataclass(slots=True)
class Devices:
    """A custodian of such signers."""

    kek: KeyEncryptionKey
    made: dict[str, Device] = field(default_factory=dict)
    lost: str = ""

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        if public.kid == self.lost:
            raise KeyLost(public.kid, "somebody deleted it")
        return self.made.setdefault(public.kid, Device(await self.kek.signer(public, sealed)))

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        return await self.kek.generate(algorithm)

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        raise AssertionError("nobody destroys here")

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        return None


@pytest.mark.rule("OP-15", "OPS-06", "I15")
def test_a_custodian_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with its own reason; /readyz finds out by a signature that is no token when it is back."""
    lab = prepare(tmp_path)
    devices = Devices(lab.kek)
    monkeypatch.setattr(app, "open_custody", lambda config: devices)
    (key,) = lab.operate(operations.list_signing_keys)
    with running(lab):
        check_ok(lab.ask())
        device = devices.made[key.kid]
        device.harm = SignerUnavailable("the token does not sign")
        check_reason(lab, "signer_unavailable", "does not sign")
        asked = device.asked
        assert [lab.get("/readyz").status for _ in range(20)] == [503] * 20
        assert device.asked <= asked + 2, "once a second at most"
        device.harm = CannotSign("too long")
        lab.ask()
        device.harm = None
        wait_until(lambda: lab.get("/readyz").status == 200, 10)
        check_ok(lab.ask())


@pytest.mark.rule("OP-15", "CL-3")
def test_a_custodian_that_loses_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request finds out; the next is served by the key that stands in."""
    lab = prepare(tmp_path)
    devices = Devices(lab.kek)
    monkeypatch.setattr(app, "open_custody", lambda config: devices)
    (key,) = lab.operate(operations.list_signing_keys)
    with lab.clock.at(NOW - PUBLISH_LEAD):
        (heir,) = lab.operate(lambda op: operations.prepare_signing_key(operations.Ring(op, lab.kek, "ES256")))
    with running(lab):
        check_ok(lab.ask())
        devices.lost = key.kid
        devices.made[key.kid].harm = KeyLost(key.kid, "somebody deleted it")
        answer = lab.ask()
        check_refused(answer, "temporarily_unavailable", 503)
        assert lab.reason(answer) == "signing_key_lost"
        assert kid_of(lab.token()) == heir.kid
