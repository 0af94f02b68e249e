"""The key cache against a real issuer: every time rule on a clock that is moved by hand."""

import asyncio
import os
import secrets
import select
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from groat.protocol.jwk import generate_private_key
from groat.verifier import InvalidToken, KeysUnavailable, Verifier
from tests.missing import on_linux
from tests.verifier.issuer import JWKS, METADATA, Answer, Clock, Issuer, eventually, held, outcome
from tests.verifier.tokens import refused


def in_threads(count: int, act: Callable[[], object]) -> list[str]:
    """The outcome of the same act in many threads that start together."""
    barrier = threading.Barrier(count)

    def together() -> str:
        barrier.wait(20)
        return outcome(act)

    with ThreadPoolExecutor(count) as pool:
        return [job.result(30) for job in [pool.submit(together) for _ in range(count)]]


@pytest.mark.rule("RS-19", "R13", "DEMO-33")
def test_one_fetch_for_ten_thousand_verifications(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """Nothing is fetched before the first token, and once for all that follow it."""
    assert issuer.requests.total() == 0
    token = issuer.token()
    for _ in range(10_000):
        verifier.verify(token, ["orders:read"])
    assert issuer.requests == {METADATA: 1, JWKS: 1}


@pytest.mark.rule("RS-19")
def test_refresh_runs_ahead_in_the_background(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """From 80 % of max-age one fetch renews the keys, while requests are served by the old ones without waiting."""
    token = issuer.token()
    verifier.verify(token)
    monotonic.now += 239
    verifier.verify(token)
    assert issuer.fetches == 1
    with held(issuer) as gate:
        monotonic.now += 1
        for _ in range(50):
            verifier.verify(token)
        eventually(lambda: issuer.fetches == 2)
        gate.open()
        eventually(lambda: wake_at(verifier) == monotonic.now + 240)
    verifier.verify(token)
    assert issuer.fetches == 2


def wake_at(verifier: Verifier) -> float:
    (trust,) = verifier._trusts.values()
    return trust.source._wake_at


@pytest.mark.rule("RS-19")
@pytest.mark.parametrize(("max_age", "refresh_after"), [(0, 48), (300, 240), (1_000_000, 2880)])
def test_max_age_of_the_server_is_clamped(
    issuer: Issuer, verifier: Verifier, monotonic: Clock, max_age: int, refresh_after: int
) -> None:
    """max-age counts between 60 s and 3600 s, so that neither 0 nor a year takes effect."""
    issuer.max_age = max_age
    verifier.verify(issuer.token())
    assert wake_at(verifier) == monotonic.now + refresh_after
    monotonic.now += refresh_after - 0.5
    verifier.verify(issuer.token())
    assert wake_at(verifier) == monotonic.now + 0.5
    monotonic.now += 0.5
    verifier.verify(issuer.token())
    eventually(lambda: issuer.fetches == 2)


@pytest.mark.rule("R16", "KEY-21", "RS-19")
def test_removed_key_is_refused_after_max_age(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """A verifier that idled past max-age asks before it trusts an old key again."""
    old = issuer.token()
    verifier.verify(old)
    issuer.rotate()
    del issuer.keys[0]
    verifier.verify(old)
    monotonic.now += 300
    with refused("key_unknown"):
        verifier.verify(old)
    assert verifier.verify(issuer.token()).client_id == "billing"
    assert issuer.fetches == 2


@pytest.mark.rule("KEY-21", "L05")
def test_forced_refresh_takes_effect_at_once(issuer: Issuer, verifier: Verifier) -> None:
    """`warm(force=True)` drops a removed key without waiting for any max-age."""
    old = issuer.token()
    verifier.verify(old)
    issuer.rotate()
    del issuer.keys[0]
    verifier.warm_sync(force=True)
    with refused("key_unknown"):
        verifier.verify(old)


@pytest.mark.rule("RS-20", "KEY-22")
def test_new_key_is_accepted_after_one_fetch(issuer: Issuer, verifier: Verifier) -> None:
    """The first token of a key that has just come in costs one fetch; the old key goes on working."""
    old = issuer.token()
    verifier.verify(old)
    issuer.rotate()
    assert verifier.verify(issuer.token()).client_id == "billing"
    assert verifier.verify(old).client_id == "billing"
    assert issuer.fetches == 2


@pytest.mark.rule("RS-20", "R18", "L07", "JOSE-12")
def test_flood_of_unknown_kids(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """1000 random kids from many threads cause one fetch per cooldown, and known tokens all pass meanwhile."""
    good = issuer.token()
    verifier.verify(good)
    for cooldown in range(1, 4):
        in_threads(100, lambda: [outcome(lambda: verifier.verify(stranger(issuer))) for _ in range(10)])
        assert issuer.fetches == 1 + cooldown
        with refused("key_unknown"):
            verifier.verify(stranger(issuer))
        assert verifier.verify(good).client_id == "billing"
        monotonic.now += 30
    assert issuer.requests[METADATA] == 1


def stranger(issuer: Issuer) -> str:
    return issuer.token(kid=secrets.token_hex(8))


@pytest.mark.rule("RS-20", "R20")
def test_flood_from_many_tasks(issuer: Issuer, verifier: Verifier) -> None:
    """1000 concurrent tasks share the one fetch, and each gets its own answer."""

    async def flood() -> list[object]:
        await verifier.averify(issuer.token())
        tokens = [stranger(issuer) for _ in range(1000)]
        return list(await asyncio.gather(*(verifier.averify(token) for token in tokens), return_exceptions=True))

    results = asyncio.run(flood())
    assert {getattr(result, "reason", "accepted") for result in results} == {"key_unknown"}
    assert issuer.fetches == 2


@pytest.mark.rule("RS-20")
def test_known_keys_never_wait_for_an_unknown_one(issuer: Issuer, verifier: Verifier) -> None:
    """While the refetch for a new kid hangs, the old key serves at once, and all new-kid requests share the fetch."""
    good = issuer.token()
    verifier.verify(good)
    new = issuer.rotate()
    with held(issuer) as gate, ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(verifier.verify, issuer.token(new)) for _ in range(20)]
        eventually(lambda: issuer.fetches == 2)
        for _ in range(100):
            verifier.verify(good)
        assert not any(job.done() for job in waiting)
        gate.open()
        assert {job.result(10).client_id for job in waiting} == {"billing"}
    assert issuer.fetches == 2


@pytest.mark.rule("R20", "RS-20", "S02")
def test_cold_start_is_one_fetch_for_threads_and_tasks(issuer: Issuer, verifier: Verifier) -> None:
    """100 threads and 100 tasks of several event loops arrive at a cold verifier: one discovery, one fetch."""
    token = issuer.token()

    async def tasks() -> None:
        await asyncio.gather(*(verifier.averify(token) for _ in range(25)))

    with held(issuer) as gate, ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(asyncio.run, tasks()) for _ in range(4)]
        threading.Timer(0.3, gate.open).start()
        assert set(in_threads(100, lambda: verifier.verify(token))) == {"accepted"}
        for loop in loops:
            loop.result(10)
    assert issuer.requests == {METADATA: 1, JWKS: 1}


@pytest.mark.rule("R20")
def test_cancelled_task_leaves_the_fetch_to_the_others(issuer: Issuer, verifier: Verifier) -> None:
    """Cancelling one of two waiters, or ending its whole event loop, does not disturb the other."""
    token = issuer.token()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(verifier.averify(token), 0.05)

    with held(issuer) as gate, ThreadPoolExecutor(1) as pool:
        patient = pool.submit(verifier.verify, token)
        eventually(lambda: issuer.fetches == 1)
        asyncio.run(impatient())
        assert not patient.done()
        gate.open()
        assert patient.result(10).client_id == "billing"
    assert asyncio.run(verifier.averify(token)).client_id == "billing"
    assert issuer.fetches == 1


@pytest.mark.rule("R21", "I12", "F09")
@pytest.mark.parametrize("step", [-300, 300, -86_400])
def test_wall_clock_steps_do_not_touch_the_key_cache(
    issuer: Issuer, verifier: Verifier, wall: Clock, step: int
) -> None:
    """A stepped wall clock changes which tokens are expired, and causes no fetch."""
    verifier.verify(issuer.token())
    wall.now += step
    results = {outcome(lambda: verifier.verify(issuer.token(iat=wall.now, exp=wall.now + 60))) for _ in range(10)}
    assert results == {"accepted"}
    assert issuer.fetches == 1


@pytest.mark.rule("R20")
@on_linux
def test_forked_child_fetches_for_itself(issuer: Issuer) -> None:
    """A child forked in the middle of a fetch, with the lock held, neither hangs nor misses its keys."""
    verifier = issuer.verifier()
    token = issuer.token()
    (trust,) = verifier._trusts.values()
    with held(issuer) as gate, ThreadPoolExecutor(1) as pool:
        parent = pool.submit(verifier.verify, token)
        eventually(lambda: issuer.fetches == 1)
        issuer.mend()
        with trust.source._lock:
            child = fork_and(lambda: [verifier.verify(token) for _ in range(3)])
        assert child == b"billing"
        assert issuer.fetches == 2
        gate.open()
        assert parent.result(10).client_id == "billing"


def fork_and(act: Callable[[], list[object]]) -> bytes:
    """Run in a forked child; what it answers, within ten seconds."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            callers = act()
            os.write(writer, getattr(callers[-1], "client_id", "?").encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], 10)
        answer = pipe.read() if ready else b"the child hangs"
    if not ready:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return answer


@pytest.mark.rule("JOSE-13", "R06")
def test_token_without_kid(issuer: Issuer, verifier: Verifier) -> None:
    """No kid: accepted while exactly one key fits, refused when two do, and neither causes a flood of fetches."""
    assert verifier.verify(issuer.token(kid=None)).client_id == "billing"
    issuer.rotate()
    verifier.warm_sync(force=True)
    for _ in range(20):
        with refused("key_unknown"):
            verifier.verify(issuer.token(kid=None))
    assert issuer.fetches == 2
    rsa = generate_private_key("PS256", 2048)
    for _ in range(20):
        with refused("key_unknown"):
            verifier.verify(issuer.token(rsa, kid=None))
    assert issuer.fetches == 3


def test_close_ends_fetching(issuer: Issuer, verifier: Verifier) -> None:
    """After close the keys at hand serve on, and nothing is fetched any more."""
    token = issuer.token()
    verifier.verify(token)
    verifier.close()
    assert verifier.verify(token).client_id == "billing"
    with pytest.raises(InvalidToken):
        verifier.verify(stranger(issuer))
    assert issuer.fetches == 1


def test_warm(issuer: Issuer, verifier: Verifier) -> None:
    """Warming loads once, is idempotent, and says so when it cannot."""
    asyncio.run(verifier.warm())
    asyncio.run(verifier.warm())
    assert issuer.fetches == 1
    issuer.spoil(JWKS, Answer(status=500))
    with pytest.raises(KeysUnavailable):
        asyncio.run(verifier.warm(force=True))
    with pytest.raises(KeysUnavailable):
        issuer.verifier(strict_startup=True)
    issuer.mend()
    assert issuer.verifier(strict_startup=True).verify(issuer.token()).client_id == "billing"
