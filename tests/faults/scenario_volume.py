"""L02 and L03: many assertions once, and few of them many times at the same instant."""

import secrets
import time

import pytest

from benchmarks.load.history import Caller
from benchmarks.load.presenter import closed_loop, run, storm

from .deployment import Deployment
from .sizes import SIZES
from .verdicts import judge, record, require_kept

COPIES = 8


@pytest.mark.rule("I1", "I11")
@pytest.mark.timeout(SIZES.volume // 50)
def test_l02_every_assertion_is_good_for_one_token(store: str, deployment: Deployment) -> None:
    """Distinct assertions over two replicas: one 200, one row and one token id each, and none accepted again."""
    (caller,) = deployment.initialise("billing")
    deployment.start(2)
    issued = 0
    for _ in range(SIZES.volume // SIZES.volume_batch):
        assertions = caller.sign(SIZES.volume_batch)
        begun = time.monotonic()
        history = run(closed_loop(assertions, deployment.targets, 24))
        seconds = time.monotonic() - begun
        verdict = judge(deployment, history)
        require_kept("L02", verdict, history)
        assert verdict.statuses == {200: SIZES.volume_batch}
        issued += verdict.accepted
        rate = round(SIZES.volume_batch / seconds)
        record("L02", verdict, store=store, replicas=2, tokens_per_second=rate, so_far=issued)
    assert len(deployment.rows()) == SIZES.volume


def _storm(deployment: Deployment, caller: Caller, count: int, scenario: str, store: str) -> None:
    """`count` assertions, each presented eight times at once over all replicas, in batches, with fresh ones between."""
    batch = min(count, 10_000)
    for _ in range(count // batch):
        history = run(storm(caller.sign(batch), deployment.targets, COPIES))
        history += run(closed_loop(caller.sign(batch // 10), deployment.targets, 16))
        verdict = judge(deployment, history)
        require_kept(scenario, verdict, history)
        assert verdict.accepted == batch + batch // 10
        assert verdict.statuses == {200: batch + batch // 10, 401: batch * (COPIES - 1)}
        record(scenario, verdict, store=store, replicas=len(deployment.replicas), copies=COPIES)


@pytest.mark.rule("P02", "I1")
@pytest.mark.timeout(SIZES.storm // 5 + 120)
def test_l03_one_of_eight_simultaneous_presentations_wins(store: str, deployment: Deployment) -> None:
    """Four replicas, eight presentations of one assertion in one instant: exactly one token, seven refusals."""
    (caller,) = deployment.initialise("billing")
    deployment.start(4)
    _storm(deployment, caller, SIZES.storm, "L03", store)


@pytest.mark.rule("P02", "I1")
@pytest.mark.timeout(SIZES.storm_small_pool // 5 + 120)
def test_l03_with_two_database_connections_for_each_replica(postgres: Deployment) -> None:
    """The same storm when the database role may hold only two connections for each of four replicas."""
    (caller,) = postgres.initialise("billing")
    password = secrets.token_hex(8)
    for number in range(4):
        role = f"small_{postgres.database_name}_{number}"
        with postgres.connect() as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}' CONNECTION LIMIT 2")
            connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        postgres.start(1, url=postgres.url.replace("//postgres@", f"//{role}@"), entry=postgres.faulty,
                       env={"PGPASSWORD": password, "GROAT_TEST_FAULT": "links:1"})  # fmt: skip
    _storm(postgres, caller, SIZES.storm_small_pool, "L03-pool", "postgres")
