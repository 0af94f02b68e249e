"""Changes that commit while a request waits for its single use: nothing is signed by what was true before."""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from groat.protocol.client_settings import SettingsChange
from groat.protocol.jwk import generate_private_key
from groat.server import operations
from groat.server.operations import Operator
from tests.server.builders import decoded
from tests.server.lab import Lab
from tests.server.wire import Answer, check_ec, check_ok, check_refused

Change = Callable[[Operator], Coroutine[Any, Any, None]]


@contextlib.contextmanager
def held_up(lab: Lab, **fields: str) -> Iterator[list[Answer]]:
    """A request of the lab's client that is judged already and waits for the write lock until the block ends."""
    answers: list[Answer] = []
    descriptor = os.open(lab.database.with_name(lab.database.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    thread = threading.Thread(target=lambda: answers.append(lab.ask(**fields)))
    try:
        thread.start()
        time.sleep(0.15)
        assert not answers
        yield answers
        assert not answers
    finally:
        os.close(descriptor)
        thread.join(10)


async def _disable(operator: Operator) -> None:
    await operations.enable_client(operator, "billing", enabled=False)


async def _remove(operator: Operator) -> None:
    await operations.remove_client(operator, "billing")


async def _swap_keys(operator: Operator) -> None:
    (old,) = await operations.list_client_keys(operator, "billing")
    await operations.add_client_keys(operator, "billing", (generate_private_key("ES256").public,))
    await operations.remove_client_key(operator, "billing", old.kid)


async def _pin(operator: Operator) -> None:
    await operations.update_client(operator, "billing", change=SettingsChange(signing_alg="PS256"))


@pytest.mark.rule("A17", "AS-CA-24", "I6", "T12")
@pytest.mark.parametrize("change", [_disable, _remove, _swap_keys, _pin], ids=lambda change: change.__name__)
def test_a_client_that_changes_in_flight(fresh_lab: Callable[..., Lab], change: Change) -> None:
    """A request judged before the change and written after it is judged again, and refused."""
    lab = fresh_lab()
    check_ok(lab.ask())
    with held_up(lab) as answers:
        lab.operate(change)
    check_ec(answers[0])


@pytest.mark.rule("A17", "AS-CA-24", "AS-TE-14")
def test_a_scope_that_is_cut_in_flight(fresh_lab: Callable[..., Lab]) -> None:
    """The same for a scope that the API loses meanwhile."""
    lab = fresh_lab()
    check_ok(lab.ask())
    with held_up(lab, scope="orders:read") as answers:
        lab.operate(lambda op: operations.update_api(op, "orders", operations.ApiWish(remove_scopes=["orders:read"])))
    check_refused(answers[0], "invalid_scope")


@pytest.mark.rule("KEY-21", "L05")
def test_a_signing_key_that_is_revoked_in_flight(fresh_lab: Callable[..., Lab]) -> None:
    """The record of a request that began before names the old key: 503, and the next is signed by the successor."""
    lab = fresh_lab()
    (old,) = lab.kids()
    check_ok(lab.ask())
    with held_up(lab) as answers:
        lab.operate(lambda op: operations.revoke_signing_key(operations.Ring(op, lab.kek, "ES256"), old))
    check_refused(answers[0], "temporarily_unavailable", 503)
    assert decoded(check_ok(lab.ask())["access_token"])[0]["kid"] != old


@pytest.mark.rule("AS-CA-24")
def test_an_unrelated_change_in_flight_disturbs_nobody(fresh_lab: Callable[..., Lab]) -> None:
    """A registration of somebody else meanwhile costs a second look, not the token."""
    lab = fresh_lab()
    check_ok(lab.ask())
    with held_up(lab) as answers:
        lab.add_client("newcomer")
    check_ok(answers[0])


@pytest.mark.rule("AS-CA-24")
def test_an_enabled_client_is_served_at_once(fresh_lab: Callable[..., Lab]) -> None:
    """What is refused from memory is looked up before it is refused: a new client works on its first request."""
    lab = fresh_lab()
    party = lab.add_client("late")
    lab.operate(lambda op: operations.enable_client(op, "late", enabled=False))
    check_ec(lab.ask(party.assertion()))
    lab.operate(lambda op: operations.enable_client(op, "late", enabled=True))
    check_ok(lab.ask(party.assertion()))
    check_ok(lab.ask(lab.add_client("brand-new").assertion()))
