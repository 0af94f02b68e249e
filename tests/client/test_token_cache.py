"""Keeping tokens: never mixed up, renewed in time, fetched once however many ask."""

import asyncio
import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from groat.client import ClientClosed, ClientError, MachineClient, RefreshPolicy, RetryPolicy, ServerUnreachable, Token
from groat.client.token import Issued, Wish
from groat.client.token_cache import MAX_WISHES, TokenCache
from groat.protocol.errors import ConfigError
from tests.missing import on_linux

from .clocks import Clock, eventually
from .conftest import MakeMachine
from .servers import AuthorizationServer, Reply


@pytest.mark.rule("CL-12")
def test_tokens_never_cross(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """Each set of scopes at each resource has its own token; the order of scopes does not matter."""
    wishes: list[tuple[str | None, Any]] = [
        (None, ()),
        (None, ["a"]),
        (None, ["a", "b"]),
        ("https://x.example", ["a"]),
        ("https://y.example", ["a"]),
        ("https://x.example/", ["a"]),
    ]
    tokens = [machine.token(resource, scopes) for resource, scopes in wishes]
    assert len({token.value for token in tokens}) == len(wishes) == len(issuer.token_requests)
    for (resource, scopes), token in zip(wishes, tokens, strict=True):
        assert issuer.issued[token.value] == {"resource": resource or "", "scope": " ".join(scopes)}
    assert machine.token(scopes=["b", "a", "b"]) == machine.token(scopes="a b") == tokens[2]
    assert len(issuer.token_requests) == len(wishes)


@pytest.mark.rule("CL-12")
def test_clients_never_cross(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """Two client ids never share a token, even with the same key."""
    assert make().token().value != make(client_id="shipping").token().value
    assert {request.form["client_id"] for request in issuer.token_requests} == {"billing", "shipping"}


@pytest.mark.parametrize("scopes", [["a b"], ["ä"], ['"'], ["\\"], ["a\n"], [""]])
def test_bad_scope(machine: MachineClient, scopes: list[str]) -> None:
    """A scope outside the grammar of RFC 6749 3.3 is refused before anything is sent."""
    with pytest.raises(ConfigError, match="is not a scope"):
        machine.token(scopes=scopes)


def settle(issuer: AuthorizationServer, machine: MachineClient, requests: int) -> None:
    """Wait until the background request has come and its token is in use."""
    eventually(lambda: len(issuer.issued) == requests)
    newest = list(issuer.issued)[-1]
    eventually(lambda: machine.token().value == newest)


def no_flights() -> None:
    """Wait until every request thread, also one that was started just now, has ended."""
    eventually(lambda: "groat-token" not in {thread.name for thread in threading.enumerate()})


@pytest.mark.rule("CL-13", "C03")
@pytest.mark.parametrize(
    ("lifetime", "soft", "hard"),
    [
        (3600, 2880, 3420),
        (600, 480, 570),
        (300, 240, 285),
        (60, 40, 50),
        (40, 20, 30),
        (20, 10, 15),
        (4, 2, 3),
        (1, 0.5, 0.75),
    ],
)
def test_refresh_times(
    make: MakeMachine, issuer: AuthorizationServer, clock: Clock, lifetime: int, soft: float, hard: float
) -> None:
    """Until soft the token serves alone; from there until hard it serves on while one renewal runs."""
    machine = make(**clock.options, timeout=10_000, retry=RetryPolicy(total=10_000))
    issuer.members["expires_in"] = lifetime
    first = machine.token()
    clock.advance(soft - 0.01)
    assert machine.token() == first
    assert len(issuer.issued) == 1
    issuer.gate = threading.Event()
    clock.advance(0.01)
    assert [machine.token() for _ in range(20)] == [first] * 20
    eventually(lambda: len(issuer.token_requests) == 2)
    clock.advance(hard - soft - 0.01)
    assert machine.token() == first
    issuer.gate.set()
    settle(issuer, machine, 2)
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-13", "C03")
@pytest.mark.parametrize("lifetime", [1, 7, 20, 59, 60, 100, 300, 600, 3600, 86400])
@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_margins(lifetime: float, draw: float) -> None:
    """At every lifetime the renewal begins before the guard and before min(30 s, 10 %) of the end, but not at birth."""
    policy = RefreshPolicy()
    soft, hard = policy.soft_age(lifetime, draw), policy.hard_age(lifetime)
    assert 0 < soft < hard < lifetime
    assert soft <= lifetime - min(30, lifetime / 10)
    assert lifetime - hard == min(max(10, lifetime / 20), lifetime / 4)


@pytest.mark.rule("CL-13", "C03")
def test_hard_limit(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """At the guard a new token is waited for, and an error is better than a token about to expire."""
    first = machine.token()
    clock.advance(570)
    assert machine.token() != first
    clock.advance(570)
    issuer.script.append(Reply(400, {"error": "invalid_scope"}))
    with pytest.raises(ClientError):
        machine.token()


@pytest.mark.rule("CL-13", "C03")
def test_jitter(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """The jitter brings the renewal forward by up to a tenth of the life, so that many clients spread out."""
    clock.random = 1.0
    first = machine.token()
    clock.advance(419.9)
    assert machine.token() == first
    assert len(issuer.token_requests) == 1
    clock.advance(0.2)
    assert machine.token() == first
    settle(issuer, machine, 2)


@pytest.mark.rule("CL-13")
def test_life_counts_from_before_the_request(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A slow answer shortens the life that is left; so does each retry not lengthen it."""
    issue = issuer.issue

    def slow(request: Any) -> Reply:
        clock.advance(4)
        return issue(request)

    issuer.issue = slow  # type: ignore[method-assign]
    first = machine.token()
    assert first.expires_at == clock.now() - 4 + 600
    issuer.issue = issue  # type: ignore[method-assign]
    clock.advance(566 - 0.01)
    assert machine.token() == first
    clock.advance(0.02)
    assert machine.token() != first


@pytest.mark.rule("CL-4", "CL-13", "I12")
@pytest.mark.parametrize("step", [-86400.0, -3600.0, -1.0])
def test_a_wall_clock_that_is_set_back(
    machine: MachineClient, issuer: AuthorizationServer, clock: Clock, step: float
) -> None:
    """A good token stays in use, and an old one does not become young again."""
    first = machine.token()
    clock.wall_step = step
    assert machine.token() == first
    clock.advance(570)
    assert machine.token() != first
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-4", "I12")
@pytest.mark.parametrize("asleep", [570.0, 3600.0, 86400.0])
def test_a_machine_that_slept(machine: MachineClient, issuer: AuthorizationServer, clock: Clock, asleep: float) -> None:
    """The monotonic clock stood still, the wall clock went on: nobody gets a token whose own end has passed."""
    first = machine.token()
    clock.wall_step = asleep
    second = machine.token()
    assert second != first
    assert second.expires_at > clock.now()
    assert machine.token() == second
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-4", "CL-13")
def test_a_short_sleep_brings_the_renewal_forward(
    machine: MachineClient, issuer: AuthorizationServer, clock: Clock
) -> None:
    """Past the soft age by the wall clock alone, the token stays in use while a new one is fetched beside."""
    first = machine.token()
    clock.wall_step = 500.0
    assert machine.token() == first
    eventually(lambda: len(issuer.token_requests) == 2)
    no_flights()
    assert machine.token() != first


@pytest.mark.rule("CL-4", "CL-22")
def test_a_kept_token_is_not_young_again(
    make: MakeMachine, issuer: AuthorizationServer, clock: Clock, tmp_path: Path
) -> None:
    """A file knows the wall clock only: set back, it must not bring the token back that has just ended."""
    client = make(token_cache=tmp_path / "tokens", **clock.options)
    first = client.token()
    clock.advance(599)
    clock.wall_step = -599.0
    assert client.token() != first
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-13", "CL-14")
def test_failed_renewal(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A failed background renewal harms nobody, is not repeated at once, and is repeated after a pause."""
    first = machine.token()
    clock.advance(480)
    issuer.script.append(Reply(400, {"error": "invalid_client"}))
    assert machine.token() == first
    no_flights()
    assert [machine.token() for _ in range(10)] == [first] * 10
    no_flights()
    assert len(issuer.token_requests) == 2
    clock.advance(5)
    assert machine.token() == first
    settle(issuer, machine, 2)


@pytest.mark.rule("CL-18")
def test_renewal_honours_retry_after(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A background renewal stays away for as long as the server asks."""
    first = machine.token()
    clock.advance(480)
    issuer.script.append(Reply(503, headers={"Retry-After": "60"}))
    assert machine.token() == first
    no_flights()
    clock.advance(59)
    assert machine.token() == first
    no_flights()
    assert len(issuer.token_requests) == 2
    clock.advance(1)
    machine.token()
    settle(issuer, machine, 2)


@pytest.mark.rule("CL-14")
def test_one_hundred_threads_one_request(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """A hundred threads on a cold cache cause one token request."""
    client = make()
    barrier = threading.Barrier(100)

    def ask(_: int) -> Token:
        barrier.wait(20)
        return client.token(scopes="a")

    with ThreadPoolExecutor(100) as pool:
        tokens = list(pool.map(ask, range(100)))
    assert len(set(tokens)) == 1
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-14")
def test_threads_and_event_loops_share_a_flight(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """Threads and several event loops wait for the same request."""
    client = make()
    issuer.gate = threading.Event()

    async def many() -> list[Token]:
        return list(await asyncio.gather(*[client.atoken(scopes="a") for _ in range(25)]))

    with ThreadPoolExecutor(8) as pool:
        loops = [pool.submit(asyncio.run, many()) for _ in range(4)]
        threads = [pool.submit(client.token, scopes="a") for _ in range(4)]
        eventually(lambda: len(issuer.token_requests) == 1)
        issuer.gate.set()
        tokens = [token for future in loops for token in future.result(20)]
        tokens += [future.result(20) for future in threads]
    assert (len(tokens), len(set(tokens)), len(issuer.token_requests)) == (104, 1, 1)


@pytest.mark.rule("CL-12", "CL-14", "C02")
@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_thousand_callers_fifty_scope_sets(make: MakeMachine, issuer: AuthorizationServer, way: str) -> None:
    """A thousand callers with fifty scope sets cause fifty requests, and each gets the token of its own set."""
    client = make()
    sets = [sorted({f"s{n % 50}", f"t{n % 50}", "common"}) for n in range(1000)]
    if way == "threads":
        with ThreadPoolExecutor(64) as pool:
            tokens = list(pool.map(lambda scopes: client.token(scopes=scopes), sets))
    else:

        async def gather() -> list[Token]:
            return list(await asyncio.gather(*[client.atoken(scopes=scopes) for scopes in sets]))

        tokens = asyncio.run(gather())
    assert len(issuer.token_requests) == 50
    for scopes, token in zip(sets, tokens, strict=True):
        assert issuer.issued[token.value]["scope"] == " ".join(scopes)
        assert token.scopes == tuple(scopes)


@pytest.mark.rule("CL-14", "S04")
def test_flapping_server(make: MakeMachine, issuer: AuthorizationServer, clock: Clock) -> None:
    """While a server fails now and then, a hundred callers share one row of attempts and all get a token."""
    issuer.script += [Reply(503), Reply(503)]
    client = make(**clock.options)
    with ThreadPoolExecutor(50) as pool:
        tokens = list(pool.map(lambda _: client.token(), range(100)))
    assert len(set(tokens)) == 1
    assert len(issuer.token_requests) == 3 == len(issuer.jtis)


@pytest.mark.rule("CL-14")
def test_failure_does_not_poison(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """All who wait for a failed request get its error; the next caller gets a new request."""
    issuer.gate = threading.Event()
    issue = issuer.issue
    issuer.issue = lambda request: Reply(401, {"error": "invalid_client"})  # type: ignore[method-assign]
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(machine.token) for _ in range(20)]
        eventually(lambda: len(issuer.token_requests) == 1)
        issuer.gate.set()
        errors = [future.exception(20) for future in futures]
    assert all(isinstance(error, ClientError) for error in errors)
    before = len(issuer.token_requests)
    issuer.issue = issue  # type: ignore[method-assign]
    assert machine.token().value in issuer.issued
    assert len(issuer.token_requests) == before + 1


@pytest.mark.rule("CL-14")
def test_cancelled_waiter(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """Cancelling one waiter disturbs neither the others nor the request."""
    client = make()
    issuer.gate = gate = threading.Event()

    async def scene() -> tuple[int, list[Token]]:
        tasks = [asyncio.create_task(client.atoken()) for _ in range(10)]
        while len(issuer.token_requests) < 1:
            await asyncio.sleep(0.005)
        for task in tasks[:5]:
            task.cancel()
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
        return len(cancelled), [result for result in results if isinstance(result, Token)]

    cancelled, tokens = asyncio.run(scene())
    assert (cancelled, len(tokens), len(set(tokens))) == (5, 5, 1)
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-14")
def test_all_waiters_and_their_loop_are_gone(
    make: MakeMachine, issuer: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A request whose only waiter was cancelled, and whose loop is closed, still serves the next caller, silently."""
    client = make()
    issuer.gate = threading.Event()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.atoken(), 0.2)

    asyncio.run(leave())
    issuer.gate.set()
    eventually(lambda: len(issuer.issued) == 1)
    assert client.token().value in issuer.issued
    assert len(issuer.token_requests) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.rule("CL-14")
def test_no_more_threads(machine: MachineClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no thread, the caller learns it, and the next call is free to try."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ClientError, match="no thread"):
            machine.token()
    assert machine.token().value


@pytest.mark.rule("CL-12")
def test_bounded(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """The number of kept tokens is bounded, whatever resources are asked for."""
    issuer.members["expires_in"] = 86400
    cache = machine._cache
    for n in range(MAX_WISHES + 10):
        machine.token(scopes=f"s{n}")
    assert len(cache._slots) == MAX_WISHES
    clock.advance(86400)
    machine.token(scopes="one-more")
    assert len(cache._slots) == 1


def test_closed(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """A closed client hands out nothing, and a request that is under way fails with a typed error."""
    client = make()
    client.token()
    issuer.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.token, scopes="slow")
        eventually(lambda: len(issuer.token_requests) == 2)
        client.close()
        issuer.gate.set()
        error = waiting.exception(20)
    assert error is None or isinstance(error, ClientError)
    with pytest.raises(ClientClosed):
        client.token()
    with pytest.raises(ClientClosed):
        asyncio.run(client.atoken())
    client.close()


def test_client_closed_while_it_waits(make: MakeMachine, issuer: AuthorizationServer, clock: Clock) -> None:
    """An attempt that begins after the close does not open a new connection."""
    closing: list[MachineClient] = []
    client = make(clocks=replace(clock.clocks, sleep=lambda _: closing[0].close()))
    closing.append(client)
    issuer.script.append(Reply(503))
    with pytest.raises(ClientClosed):
        client.token()
    assert len(issuer.token_requests) == 1


def test_client_closed_in_the_middle(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """A close between the building and the sending of a request is a typed error too."""

    class Closing(httpx2.Client):
        def build_request(self, *args: Any, **options: Any) -> httpx2.Request:
            client.close()
            return super().build_request(*args, **options)

    client = make(http=Closing)
    with pytest.raises(ClientClosed):
        client.token()
    assert issuer.seen == []


# A fork with other threads running is just what is tested; newer Pythons warn of it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(work: Callable[[], Any]) -> Any:
    """Run in a forked child; its result or its error's name comes back through a pipe."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def main() -> None:
        faulthandler.dump_traceback_later(15, file=sys.__stderr__ or sys.stderr)  # where it hangs, if it does
        try:
            theirs.send(work())
        except BaseException as error:
            theirs.send(f"{type(error).__name__}: {error}")
        os._exit(0)

    child = context.Process(target=main)
    child.start()
    theirs.close()
    try:
        assert ours.poll(20), "the child hangs"
        return ours.recv()
    finally:
        child.kill()
        child.join(10)
        ours.close()


@pytest.mark.rule("CL-14")
@on_linux
class TestFork:
    def test_token_is_kept(self, machine: MachineClient, issuer: AuthorizationServer) -> None:
        """A child uses the parent's token without a request of its own."""
        token = machine.token()
        assert in_child(lambda: machine.token().value) == token.value
        assert len(issuer.token_requests) == 1

    def test_fork_in_flight(self, make: MakeMachine, issuer: AuthorizationServer) -> None:
        """A child forked while the parent waits makes its own request over its own connection."""
        client = make()
        client.token(scopes="warm")  # so that there is a kept connection to quarrel about
        gate = issuer.gate = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.token, scopes="a")
            eventually(lambda: len(issuer.token_requests) == 2)
            threading.Timer(0.3, gate.set).start()
            childs = in_child(lambda: client.token(scopes="a").value)
            parents = waiting.result(20).value
        assert childs in issuer.issued
        assert parents in issuer.issued
        assert childs != parents
        assert client.token(scopes="b").value in issuer.issued

    @pytest.mark.parametrize("lock", ["_cache", "_transport"])
    def test_fork_while_a_lock_is_held(self, make: MakeMachine, issuer: AuthorizationServer, lock: str) -> None:
        """A lock that another thread held at the fork does not hang the child."""
        client = make()
        client.token()
        with getattr(client, lock)._lock:
            assert in_child(lambda: client.token(scopes="a").value) in issuer.issued

    def test_children_draw_their_own_jitter(self, machine: MachineClient, clock: Clock) -> None:
        """A child refreshes at a time of its own, not in the same instant as its siblings."""
        machine.token()

        def soft_age() -> float:
            (slot,) = machine._cache._slots.values()
            return slot.soft

        assert soft_age() == 480
        clock.random = 0.5
        assert in_child(soft_age) == 450
        assert soft_age() == 480


def test_refresh_policy_is_checked() -> None:
    """Shares and times out of range are refused."""
    for wrong in (
        {"soft": 0.0},
        {"soft": 0.95},
        {"jitter": 0.5},
        {"guard": -1},
        {"default_lifetime": 0},
        {"pause": -1},
    ):
        with pytest.raises(ConfigError):
            RefreshPolicy(**wrong)


def test_unreachable_is_transient() -> None:
    """A caller may ask an error whether later is another chance."""
    assert ServerUnreachable("x").transient
    assert not ClientError("x").transient


@pytest.mark.rule("CL-14")
def test_late_landing(clock: Clock) -> None:
    """A request that was given up and lands after its successor does not put its older token in front."""
    first_may_land = threading.Event()
    calls: list[int] = []

    def fetch(wish: Wish) -> Issued:
        number = len(calls)
        calls.append(number)
        sent_at = 1000.0 + number
        if number == 0:
            assert first_may_land.wait(20)
        return Issued(Token(f"token {number}", clock.now() + 600), sent_at, 600)

    cache = TokenCache(fetch, RefreshPolicy(), clock.clocks, patience=-0.9)
    wish = Wish("https://as.example", "billing", None, ())
    with pytest.raises(ServerUnreachable):
        cache.get(wish)
    assert cache.get(wish).value == "token 1"
    first_may_land.set()
    no_flights()
    assert cache.get(wish).value == "token 1"
    assert len(calls) == 2
