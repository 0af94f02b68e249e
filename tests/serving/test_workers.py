"""Real worker processes: single use across them, over restarts and kills, and changes that reach each of them."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from groat.keys.files import read_private_key
from tests.server.builders import Party, base, compact, decoded
from tests.server.wire import FORM, Answer, Connection, check_ec, check_ok, check_refused, post

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

WORKERS: Final = 4
HEADERS: Final = [("Content-Type", FORM)]
UNTHROTTLED: Final = {
    "GROAT_THROTTLE__CLIENT_FAILURES": "100000",
    "GROAT_THROTTLE__SOURCE_FAILURES": "100000",
    "GROAT_KEYS__ROTATE_EVERY": "0",  # the tests move the keys themselves
}


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """An installation with one API and the client `billing`."""
    made = make_groat("workers")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read", "--scope", "write")
    return made


@pytest.fixture(scope="module")
def running(groat: "Groat") -> "Iterator[list[Server]]":
    """The server with four workers; a test that restarts it replaces the one element."""
    servers = [groat.serve(WORKERS, env=UNTHROTTLED)]
    yield servers
    servers[0].stop()


def add_client(groat: "Groat", client_id: str) -> Party:
    """Register a client by the command line, and hold its new key."""
    groat.run("client", "add", client_id, "--allow", "orders=read,write", "--default-scope", "read",
              "--new-key", f"{client_id}.json")  # fmt: skip
    return Party(client_id, read_private_key(groat.directory / f"{client_id}.json"), time.time())


def fresh(party: Party, **claims: object) -> str:
    """A, by the clock of the wall."""
    party.now = time.time()
    return party.assertion(**claims)


@contextlib.contextmanager
def pinned(server: "Server") -> Iterator[list[Connection]]:
    """One kept connection to each worker: while the others sleep, only one can accept."""
    workers = server.workers()
    connections: list[Connection] = []
    try:
        for chosen in workers:
            for other in workers:
                if other != chosen:
                    os.kill(other, signal.SIGSTOP)
            try:
                connection = Connection(server.address)
                connection.connect()
                assert connection.ask("GET", "/livez").status == 200
                connections.append(connection)
            finally:
                for other in workers:
                    os.kill(other, signal.SIGCONT)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def at_once(server: "Server", bodies: Sequence[bytes]) -> list[Answer]:
    """Send all bodies at the same instant, each on a connection of its own."""
    barrier = threading.Barrier(len(bodies))

    def present(body: bytes) -> Answer:
        connection = Connection(server.address)
        connection.connect()
        barrier.wait(20)
        try:
            return connection.ask("POST", "/token", HEADERS, body)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(present, bodies))


@pytest.mark.rule("P02", "AS-CA-11", "I1")
@pytest.mark.parametrize("kind", ["same assertion", "same jti"])
def test_fifty_at_once_over_four_workers(groat: "Groat", running: "list[Server]", kind: str) -> None:
    """Fifty simultaneous presentations: exactly one token, in each of several rounds, and a distinct refusal never."""
    party = add_client(groat, "race-" + kind.split()[-1])
    for _ in range(4):
        party.now = time.time()
        claims = party.claims()
        variants = [{**claims, "exp": claims["exp"] + (n if kind == "same jti" else 0)} for n in range(50)]
        answers = at_once(running[0], [base(compact(party.header(), v, party.key)) for v in variants])
        assert sorted(answer.status for answer in answers) == [200] + [401] * 49


@pytest.mark.rule("P01", "AS-CA-11")
def test_a_replay_is_refused_by_every_worker(groat: "Groat", running: "list[Server]") -> None:
    """Whatever worker issued the token, each of the four refuses the assertion afterwards."""
    party = add_client(groat, "everywhere")
    with pinned(running[0]) as connections:
        assert len(connections) == WORKERS
        for first in connections:
            body = base(fresh(party))
            check_ok(first.ask("POST", "/token", HEADERS, body))
            for connection in connections:
                check_ec(connection.ask("POST", "/token", HEADERS, body))


@pytest.mark.rule("AS-CA-24", "A17", "S01")
def test_every_worker_sees_a_change_on_its_next_request(groat: "Groat", running: "list[Server]") -> None:
    """Disable, enable, key removal and scope cut by the command line act at once in all four workers."""
    party = add_client(groat, "moving")
    second = Party("moving")
    (groat.directory / "second.jwk").write_text(_public(second))

    with pinned(running[0]) as connections:

        def all_answer(sender: Party, **fields: str) -> list[Answer]:
            return [c.ask("POST", "/token", HEADERS, base(fresh(sender), **fields)) for c in connections]

        for answer in all_answer(party):
            check_ok(answer)
        groat.run("client", "disable", "moving")
        for answer in all_answer(party):
            check_ec(answer)
        groat.run("client", "enable", "moving")
        for answer in all_answer(party, scope="write"):
            check_ok(answer)
        groat.run("client", "update", "moving", "--allow", "orders=read")
        for answer in all_answer(party, scope="write"):
            check_refused(answer, "invalid_scope")
        for answer in all_answer(second):
            check_ec(answer)
        groat.run("client", "key", "add", "moving", "second.jwk")
        for answer in all_answer(second):
            check_ok(answer)
        groat.run("client", "key", "remove", "moving", party.key.kid)
        for answer in all_answer(party):
            check_ec(answer)
        for answer in all_answer(second):
            check_ok(answer)


def _public(party: Party) -> str:
    return json.dumps(dict(party.key.public.jwk))


@pytest.mark.rule("KEY-21", "KEY-22", "AS-MD-15")
def test_every_worker_sees_a_rotation_and_a_revocation(groat: "Groat", running: "list[Server]") -> None:
    """A rotated key is published by all four at once while the old one signs; a revoked one is gone from all."""
    party = add_client(groat, "rotation-watcher")
    with pinned(running[0]) as connections:

        def published() -> list[list[str]]:
            answers = [c.ask("GET", "/.well-known/jwks.json") for c in connections]
            return [[key["kid"] for key in answer.json["keys"]] for answer in answers]

        def signing() -> set[str]:
            answers = [c.ask("POST", "/token", HEADERS, base(fresh(party))) for c in connections]
            return {_kid(check_ok(answer)["access_token"]) for answer in answers}

        ((old,),) = {tuple(kids) for kids in published()}
        groat.run("key", "rotate")
        (both,) = {frozenset(kids) for kids in published()}
        assert len(both) == 2
        assert signing() == {old}
        groat.run("--yes", "key", "revoke", old)
        assert {frozenset(kids) for kids in published()} == {both - {old}}
        assert signing() == both - {old}


def _kid(token: str) -> str:
    return str(decoded(token)[0]["kid"])


@pytest.mark.rule("P04", "AS-CA-11", "F12")
def test_a_restart_forgets_nothing(groat: "Groat", running: "list[Server]") -> None:
    """After a clean stop and start, what was used is still used, and what was not still works."""
    party = add_client(groat, "restarted")
    used = [base(fresh(party)) for _ in range(8)]
    for body in used:
        check_ok(post(running[0].address, body))
    unused = base(fresh(party))
    assert running[0].stop() == 0
    running[0] = groat.serve(WORKERS, env=UNTHROTTLED)
    for body in used:
        check_ec(post(running[0].address, body))
    check_ok(post(running[0].address, unused))


class Load:
    """Callers in threads: each signs, presents, and notes what was answered, until told to stop."""

    def __init__(self, server: "Server", party: Party, callers: int, limit: int) -> None:
        self.address = server.address
        self.acknowledged: list[str] = []
        self.ambiguous: list[str] = []
        self.others: list[int] = []
        self._party = party
        self._limit = limit
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, acknowledged: int, seconds: float = 30.0) -> None:
        """Let the callers work until so many tokens were issued."""
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < acknowledged:
            assert time.monotonic() < deadline, self.others
            time.sleep(0.01)

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._stop.is_set() and len(self.acknowledged) < self._limit:
            assertion = fresh(self._party, exp=int(time.time()) + 280)
            try:
                connection = connection or Connection(self.address, timeout=10)
                answer = connection.ask("POST", "/token", HEADERS, base(assertion))
            except Exception:
                # No answer: the token may exist or not, and only the database knows.
                self.ambiguous.append(assertion)
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
                continue
            (self.acknowledged if answer.status == 200 else self.ambiguous).append(assertion)
            if answer.status != 200:
                self.others.append(answer.status)
        if connection is not None:
            connection.close()


def present_again(server: "Server", assertions: Sequence[str]) -> list[int]:
    """The status of every assertion on its next presentation."""

    def some(part: Sequence[str]) -> list[int]:
        connection = Connection(server.address)
        statuses = [connection.ask("POST", "/token", HEADERS, base(assertion)).status for assertion in part]
        connection.close()
        return statuses

    with ThreadPoolExecutor(4) as pool:
        return [status for part in pool.map(some, [assertions[n::4] for n in range(4)]) for status in part]


@pytest.mark.rule("F01", "F15", "P04", "I1")
def test_kill_minus_nine_forgets_nothing(groat: "Groat") -> None:
    """Workers, then everything, die under load: no acknowledged jti is accepted again, and new ones are."""
    party = add_client(groat, "killed")
    server = groat.serve(2, env=UNTHROTTLED)
    with Load(server, party, callers=6, limit=1500) as load:
        for round_ in range(1, 4):
            load.wait_for(150 * round_)
            os.kill(server.workers()[0], signal.SIGKILL)
        load.wait_for(600)
        server.stop(signal.SIGKILL)
        time.sleep(0.1)
    assert len(load.acknowledged) >= 600
    assert set(load.others) <= {503}
    again = groat.serve(2, env=UNTHROTTLED)
    assert set(present_again(again, load.acknowledged)) == {401}
    second = present_again(again, load.ambiguous)
    assert set(second) <= {200, 401}
    if load.ambiguous:
        assert set(present_again(again, load.ambiguous)) == {401}
    check_ok(post(again.address, base(fresh(party))))
    again.stop()


@pytest.mark.rule("F01", "F12")
def test_a_killed_worker_is_replaced(groat: "Groat", running: "list[Server]") -> None:
    """The supervisor starts another one within seconds, and the rest serve on meanwhile."""
    party = add_client(groat, "survivor")
    before = running[0].workers()
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + 15
    while before[0] in (now := running[0].workers()) or len(now) < WORKERS:
        with contextlib.suppress(ConnectionError):
            # A connection that the dead worker had accepted is lost; every other one is served.
            check_ok(post(running[0].address, base(fresh(party))))
        assert time.monotonic() < deadline
    check_ok(post(running[0].address, base(fresh(party))))


@pytest.mark.rule("F12")
def test_a_graceful_stop_answers_what_it_took(groat: "Groat") -> None:
    """Requests that are in flight at SIGTERM are answered; the process ends with code 0 within seconds."""
    party = add_client(groat, "leaving")
    server = groat.serve(1)
    body = base(fresh(party))
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (
        FORM.encode(),
        len(body),
    )
    with socket.create_connection(server.address, 10) as connection:
        connection.sendall(head + body[:50])
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        connection.sendall(body[50:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    began = time.monotonic()
    assert server.process.wait(15) == 0
    assert time.monotonic() - began < 10


@pytest.mark.rule("OPS-03", "OPS-04", "Z07", "I11")
def test_the_logs_of_the_workers(groat: "Groat", running: "list[Server]") -> None:
    """Lines of four processes do not mix: each is one JSON object, none holds a secret, every token has its line."""
    party = add_client(groat, "logged")
    answers = at_once(running[0], [base(fresh(party)) for _ in range(20)])
    lines = running[0].lines()
    issued = [line for line in lines if line["event"] == "token.issued" and line["client"] == "logged"]
    tokens = [check_ok(answer)["access_token"] for answer in answers]
    assert {line["jti"] for line in issued} == {decoded(token)[1]["jti"] for token in tokens}
    assert {line["request_id"] for line in issued} == {answer.request_id for answer in answers}
    text = running[0].log.read_text()
    private = str(party.key.private_jwk()["d"])
    assert "eyJ" not in text
    assert "PRIVATE" not in text
    assert private not in text
    assert not any(token in text for token in tokens)
