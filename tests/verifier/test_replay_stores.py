"""Memories of proofs that processes share (RFC 9449 11.1): one of them accepts, and none where nobody can know."""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.errors import ReplayStoreUnavailable
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.verifier import Caller, ConfigError, Dpop, ProofsUnavailable, VerificationError, Verifier, refusal
from groat.verifier.replay import open_replay
from groat.verifier.replay import sqlite as sqlite_plug
from groat.verifier.replay.shared import KEEP_SECONDS, SWEEP_SECONDS
from tests.postgres import GivenServer, PostgresServer
from tests.verifier.issuer import Issuer, serving
from tests.verifier.test_bound_tokens import JKT, good
from tests.verifier.tokens import AUD

Plug = Any  # SqliteReplays or PostgresReplays


def once(name: str, ends: int) -> OneTimeValue:
    return OneTimeValue(OneTimeKind.PROOF, "key", name, ends)


@pytest.fixture
def now() -> int:
    """When the test begins: a database goes by its own clock, and a whole run takes longer than proofs are kept."""
    return int(time.time())


@pytest.fixture(params=["sqlite", "postgres"])
def replay(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `Dpop.replay` says of a memory that is new."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'proofs.db'}"
    server: PostgresServer | GivenServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def plug(replay: str) -> Iterator[Callable[[], Plug]]:
    """Makes another one on the same memory."""
    made: list[Plug] = []

    def another() -> Plug:
        made.append(open_replay(replay, time.monotonic))
        return made[-1]

    yield another
    for one in made:
        one.close()


@pytest.mark.rule("RS-DP-09")
def test_what_one_has_seen_the_other_knows(plug: Callable[[], Plug], now: int) -> None:
    """Also after the one is gone; another key's proof, or another jti, is another."""
    one, other = plug(), plug()
    assert one.first(once("a", now + 80), now)
    assert not other.first(once("a", now + 80), now)
    assert other.first(once("b", now + 80), now)
    one.close()
    assert not one.first(once("b", now + 80), now)
    assert not plug().first(once("a", now + 80), now)


@pytest.mark.rule("RS-DP-11")
def test_what_is_over_is_forgotten_and_refused(plug: Callable[[], Plug], now: int) -> None:
    """A clock that was ahead makes others forget: what they cannot know they refuse, and do not take for new."""
    one, other = plug(), plug()
    old, then = once("old", now - KEEP_SECONDS - 100), now - KEEP_SECONDS - 200
    if isinstance(one, sqlite_plug.SqliteReplays):  # by whose clock it goes; a database goes by its own
        assert one.first(old, then)
    assert other.first(once("now", now + 80), now + SWEEP_SECONDS)  # sweeps
    with pytest.raises(ReplayStoreUnavailable) as caught:
        one.first(old, then)
    assert "forgotten already" in caught.value.hint
    assert not one.first(once("now", now + 80), now)


WORKER: Final = """
import sys
from concurrent.futures import ThreadPoolExecutor
from groat.verifier import Dpop, VerificationError, Verifier

issuer, replay, token, proof = sys.argv[1:]
verifier = Verifier(issuer, "{aud}", dpop=Dpop(replay=replay))
verifier.warm_sync()

def present(_):
    try:
        verifier.verify_request(["DPoP " + token], method="GET", url="/orders", dpop=[proof])
        return "accepted"
    except VerificationError as error:
        return error.reason

with ThreadPoolExecutor(10) as pool:
    print("ready", flush=True)
    sys.stdin.readline()
    print(*pool.map(present, range(10)))
verifier.close()
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.mark.rule("RS-DP-09", "RS-DP-11")
def test_fifty_presentations_to_five_processes(issuer: Issuer, replay: str) -> None:
    """At the same moment, ten to each: one of them all is accepted."""
    token = issuer.token(cnf=JKT)
    program = [sys.executable, "-c", WORKER.replace("{aud}", AUD), issuer.url, replay, token, good(token)]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True) for _ in range(5)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    found = [word for worker in workers for word in worker.communicate(timeout=60)[0].split()]
    assert sorted(found) == ["accepted", *["dpop_replayed"] * 49]


def _call(verifier: Verifier, token: str, text: str) -> Caller:
    return verifier.verify_request([f"DPoP {token}"], method="GET", url="/orders", dpop=[text])


@pytest.mark.rule("RS-DP-11")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_memory_that_is_away(issuer: Issuer, tmp_path: Path, kind: str) -> None:
    """503 with Retry-After and no challenge, since nothing is wrong with the caller; plain tokens go on as ever."""
    path = tmp_path / "proofs.db"
    replay = f"sqlite:{path}" if kind == "sqlite" else "postgresql://groat:s3cret@127.0.0.1:1/proofs"
    if kind == "sqlite":
        path.mkdir()
    token = issuer.token(cnf=JKT)
    with closing(Verifier(issuer.url, AUD, dpop=Dpop(replay=replay))) as verifier:
        for _ in range(2):
            with pytest.raises(ProofsUnavailable) as caught:
                _call(verifier, token, good(token))
            answer = refusal(caught.value)
            assert (answer.status, caught.value.reason, dict(answer.headers)["retry-after"]) == (503, "dpop_store", "5")
            assert "www-authenticate" not in dict(answer.headers)
            assert "s3cret" not in str(caught.value) + caught.value.hint
        assert verifier.verify(issuer.token()).client_id == "billing"
        if kind == "sqlite":
            path.rmdir()
            _call(verifier, token, good(token))  # and it comes back


@pytest.mark.rule("RS-DP-11")
def test_a_file_that_is_full(now: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is bounded, and then nothing is accepted; what is in there is known all the same."""
    monkeypatch.setattr(sqlite_plug, "MAX_PAGES", 16)
    with closing(sqlite_plug.SqliteReplays(tmp_path / "proofs.db")) as memory:
        with pytest.raises(ReplayStoreUnavailable) as caught:
            for n in range(5000):
                assert memory.first(once(f"{n}", now + 80), now)
        assert "full" in caught.value.hint
        assert not memory.first(once("0", now + 80), now)
    assert (tmp_path / "proofs.db").stat().st_mode & 0o777 == 0o600


def test_a_forked_child_has_connections_of_its_own(plug: Callable[[], Plug], now: int) -> None:
    """It shares the memory and no socket, and the parent goes on."""
    memory = plug()
    assert memory.first(once("a", now + 80), now)
    child = os.fork()
    if child == 0:
        os._exit(0 if not memory.first(once("a", now + 80), now) and memory.first(once("b", now + 80), now) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not memory.first(once("b", now + 80), now)


class Own:
    """A plug of somebody else's: slow, and broken where it is told so."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.seen: set[bytes] = set()

    def first(self, proof: OneTimeValue, now: float) -> bool:
        time.sleep(0.2)
        if self.broken:
            raise RuntimeError("redis://:password@host is away")
        assert len(proof.digest) == 32
        assert now <= proof.expires_at
        new = proof.digest not in self.seen
        self.seen.add(proof.digest)
        return new


@pytest.mark.rule("RS-DP-11")
def test_a_plug_of_ones_own(issuer: Issuer) -> None:
    """It is asked once for each good proof; what it raises is a 503 that repeats nothing of it."""
    token = issuer.token(cnf=JKT)
    with closing(Verifier(issuer.url, AUD, dpop=Dpop(replay=Own()))) as verifier:
        text = good(token)
        _call(verifier, token, text)
        with pytest.raises(VerificationError) as again:
            _call(verifier, token, text)
        assert again.value.reason == "dpop_replayed"
    with closing(Verifier(issuer.url, AUD, dpop=Dpop(replay=Own(broken=True)))) as verifier:
        with pytest.raises(ProofsUnavailable) as away:
            _call(verifier, token, good(token))
        assert (away.value.status, "password" in away.value.hint) == (503, False)


def test_an_event_loop_goes_on_meanwhile(issuer: Issuer) -> None:
    """While five proofs wait for their memory; keys that are missing are fetched for them, too."""
    token = issuer.token(cnf=JKT)

    async def work(verifier: Verifier) -> int:
        calls = [
            verifier.averify_request([f"DPoP {token}"], method="GET", url="/orders", dpop=[good(token)])
            for _ in range(5)
        ]
        pending = asyncio.gather(*calls)
        ticks = 0
        while not pending.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert [caller.client_id for caller in await pending] == ["billing"] * 5
        return ticks

    with closing(Verifier(issuer.url, AUD, dpop=Dpop(replay=Own()))) as verifier:
        assert asyncio.run(work(verifier)) >= 8


@pytest.mark.parametrize(
    "replay", ["redis", "", "sqlite:", "sqlite:/nowhere/at/all/x.db", "mysql://u:s3cret@h/d", 7, object(), Own]
)
def test_what_is_no_plug(replay: Any) -> None:
    """Said when it is made, without the password that a URL may hold."""
    with pytest.raises(ConfigError) as caught:
        Dpop(replay=replay)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Dpop(replay="postgresql://u:s3cret@h/d"))


class _Sets:
    """What of a client for Redis the guide's plug calls."""

    def __init__(self) -> None:
        self.kept: dict[bytes, int] = {}

    def set(self, name: bytes, value: int, *, nx: bool, exat: int) -> bool | None:
        assert (nx, exat > time.time()) == (True, True)
        return None if name in self.kept else self.kept.setdefault(name, value) == value


def test_the_plug_of_the_guide(issuer: Issuer) -> None:
    """As it stands there: a proof counts once."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "bound-tokens.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    token = issuer.token(cnf=JKT)
    with closing(Verifier(issuer.url, AUD, dpop=Dpop(replay=names["Redis"](_Sets())))) as verifier:
        text = good(token)
        _call(verifier, token, text)
        with pytest.raises(VerificationError) as again:
            _call(verifier, token, text)
    assert again.value.reason == "dpop_replayed"


@pytest.mark.rule("RS-DP-11")
def test_a_file_that_another_process_makes_at_this_moment(tmp_path: Path, now: int) -> None:
    """It is about to write, and SQLite would not wait for it by itself: no first proof is refused for that."""
    path = tmp_path / "proofs.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE something (n INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        timer.start()
        with closing(sqlite_plug.SqliteReplays(path)) as memory:
            assert memory.first(once("a", now + 80), now)
        timer.join()
