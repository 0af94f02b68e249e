"""F12, F14 and S01: what operators do while requests come in: first start, restart, switching a client off."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.load.presenter import BackgroundLoad, closed_loop, run

from .balancers import Balancer, haproxy, nginx
from .deployment import AUDIENCE, GROAT, ISSUER, SCOPE, Deployment
from .sizes import SIZES
from .verdicts import judge, record, require_kept

STOP_SECONDS = 10.0


@pytest.mark.rule("I1", "I2")
@pytest.mark.parametrize("balance", [nginx, haproxy], ids=["nginx", "haproxy"])
@pytest.mark.timeout(SIZES.graceful_stops * 30 + 60)
def test_f12_a_graceful_stop_fails_no_request(
    postgres: Deployment, balance: Callable[..., AbstractContextManager[Balancer]], tmp_path: Path
) -> None:
    """SIGTERM to each of three replicas in turn, behind a load balancer, under load: every request gets its token."""
    (caller,) = postgres.initialise("billing")
    postgres.start(3)
    stops = []
    with balance(tmp_path, postgres.replicas) as balancer:
        with BackgroundLoad(caller.sign(SIZES.graceful_stops * 1500), [balancer.target], 300, 24) as load:
            for number in range(SIZES.graceful_stops):
                replica = postgres.replicas[number % 3]
                time.sleep(0.5)
                stops.append(replica.terminate())
                replica.start()
        complaints = balancer.complaints()
    failed = [p.status for p in load.history if p.status not in (200, 503)]
    refused = sum(p.status == 503 and p.retry_after for p in load.history)
    record("F12", None, balancer=balancer.name, stops=len(stops), slowest_stop=round(max(stops), 2), failed=len(failed),
           refused=refused, requests=len(load.history))  # fmt: skip
    assert not failed, (failed, complaints[-2000:])
    assert refused < len(load.history) / 100  # a machine with no time left for the database may say so
    assert max(stops) < STOP_SECONDS
    verdict = judge(postgres, load.history)
    require_kept("F12", verdict, load.history)


@pytest.mark.rule("I6", "A17")
def test_s01_a_disabled_client_is_refused_on_every_replica(store: str, deployment: Deployment) -> None:
    """Three replicas under load by two clients; one is switched off: not one token for it afterwards."""
    off, other = deployment.initialise("off", "other")
    deployment.start(3)
    with BackgroundLoad(other.sign(6000), deployment.targets, 150, 9) as others:
        with BackgroundLoad(off.sign(6000), deployment.targets, 150, 9) as load:
            time.sleep(1.0)
            deployment.run("client", "disable", "off")
            done = time.monotonic()
            time.sleep(1.5)
    late = [p for p in load.history if p.sent > done]
    assert {p.replica for p in late} == {replica.name for replica in deployment.replicas}
    assert {p.status for p in late} == {401}
    assert {p.status for p in others.history} == {200}
    before = sum(p.status == 200 for p in load.history)
    assert before > 0
    record("S01", None, store=store, replicas=3, tokens_before=before, refused_after=len(late), tokens_after=0)


@pytest.mark.rule("K09")
@pytest.mark.timeout(SIZES.first_boots * 120 + 60)
def test_f14_many_first_starts_at_once_make_one_key(fresh_deployments: "list[Deployment]", store: str) -> None:
    """Eight replicas run `init` and `serve` at once on an empty database: one active key, and tokens that verify."""
    ready = []
    for deployment in fresh_deployments:
        ready.append(first_boot(deployment))
        deployment.run("init", "--issuer", ISSUER, "--database", deployment.url)
        keys = json.loads(deployment.run("--json", "key", "list").stdout)
        assert [key["state"] for key in keys].count("active") == 1, keys
        deployment.run("api", "add", "orders", "--audience", AUDIENCE, "--scope", SCOPE)
        history = run(closed_loop(deployment.add_client("billing").sign(16), deployment.targets, 8))
        verdict = judge(deployment, history)
        require_kept("F14", verdict, history)
        assert verdict.statuses == {200: 16}
        deployment.stop()
    record("F14", None, store=store, rounds=len(ready), replicas=8, slowest_ready=round(max(ready), 2))


def first_boot(deployment: Deployment, replicas: int = 8) -> float:
    """Start `groat init && groat serve` so many times at the same instant; returns when the last one was ready."""
    script = f'"{GROAT}" init --issuer {ISSUER} --database "$GROAT_TEST_DATABASE" && exec "$0" "$@"'
    made = [deployment.add_replica(entry=("/bin/sh", "-c", script, GROAT)) for _ in range(replicas)]
    begun = time.monotonic()
    for replica in made:
        replica.env = {**replica.env, "GROAT_TEST_DATABASE": deployment.url}
        replica.start(wait=False)
    for replica in made:
        replica.wait_ready()
    return time.monotonic() - begun
