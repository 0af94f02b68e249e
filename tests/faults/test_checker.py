"""The checker can fail: four broken stores, through real servers, and one that works."""

import time

import pytest

from benchmarks.load.history import Caller, Presentation
from benchmarks.load.presenter import closed_loop, run, storm

from .checker import Verdict
from .deployment import Deployment
from .verdicts import judge

BROKEN: dict[str, set[str]] = {
    "check-then-set": {"double"},
    "short-lived": {"forgotten", "token_without_row"},
    "memory-only": {"double", "forgotten", "token_without_row"},
    "other-key-format": {"double", "forgotten", "token_without_row"},
}


def load(deployment: Deployment, caller: Caller) -> list[Presentation]:
    """A few hundred assertions once, and a few dozen eight times at the same instant."""
    history = run(closed_loop(caller.sign(150), deployment.targets, 8))
    return history + run(storm(caller.sign(40), deployment.targets, 8))


def verdict_on(deployment: Deployment, fault: str | None) -> Verdict:
    """One healthy replica and one with the fault, under load."""
    (caller,) = deployment.initialise("billing")
    entry = {} if fault is None else {"entry": deployment.faulty, "env": {"GROAT_TEST_FAULT": f"store:{fault}"}}
    deployment.start(1)
    deployment.start(1, **entry)
    history = load(deployment, caller)
    time.sleep(0.3)
    return judge(deployment, history)


@pytest.mark.rule("I1", "I11")
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_store_is_caught(sqlite: Deployment, fault: str) -> None:
    """Each way of forgetting breaks a promise that the checker names."""
    verdict = verdict_on(sqlite, fault)
    assert BROKEN[fault] <= verdict.kinds, verdict.summary()


@pytest.mark.rule("I1", "I11")
def test_a_store_that_works_is_not_accused(sqlite: Deployment) -> None:
    """The same load on two healthy replicas: one token for each assertion, and no breach."""
    verdict = verdict_on(sqlite, None)
    assert not verdict.breaches, verdict.breaches[:3]
    assert verdict.accepted == verdict.assertions == 190
    assert verdict.statuses == {200: 190, 401: 280}
