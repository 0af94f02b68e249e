"""SIGTERM, SIGINT and SIGHUP to real processes: nothing that is under way is lost, and settings change in service."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

from groat.keys.files import read_private_key
from groat.server.connection.lifetime import DRAIN_SECONDS
from groat.server.settings.sample import sample_config
from groat.server.settings.table import RELOADED, SETTINGS
from tests.server.builders import Party, base, decoded
from tests.server.wire import FORM, Answer, Connection, check_ec, check_ok, post
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

HEADERS: Final = [("Content-Type", FORM)]
QUIET: Final = "[throttle]\nclient_failures = 100000\nsource_failures = 100000\n"


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """An installation with one API and the client `billing`."""
    made = make_groat("signals")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    made.run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", "k.json")
    return made


@pytest.fixture(scope="module")
def party(groat: "Groat") -> Party:
    """The client, with its key."""
    return Party("billing", read_private_key(groat.directory / "k.json"))


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def running(groat: "Groat", request: pytest.FixtureRequest) -> "Iterator[Server]":
    """A server that reads its settings from groat.toml alone."""
    configure(groat, QUIET)
    server = groat.serve(request.param)
    yield server
    server.stop()


def configure(groat: "Groat", settings: str, issuer: str = "https://as.example") -> None:
    """Write groat.toml anew."""
    (groat.directory / "groat.toml").write_text(f'issuer = "{issuer}"\n{settings}')


def fresh(party: Party) -> bytes:
    """A request with a new assertion, by the clock of the wall."""
    party.now = time.time()
    return base(party.assertion())


def ask(server: "Server", party: Party, **headers: str) -> Answer:
    return post(server.address, fresh(party), [*HEADERS, *headers.items()])


def events(server: "Server", name: str) -> list[dict[str, Any]]:
    """The log lines of one kind so far."""
    return [line for line in server.lines() if line["event"] == name]


def reload(server: "Server", expected: str = "config.reloaded") -> dict[str, Any]:
    """SIGHUP; returns the log line once every process that must write one has done so."""
    before = len(events(server, expected))
    count = len(server.workers()) if expected == "config.reloaded" else 1
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(events(server, expected)) >= before + count)
    return events(server, expected)[-1]


class Callers:
    """Threads that ask over kept connections, one request after the other, until a connection fails."""

    def __init__(self, server: "Server", party: Party, count: int) -> None:
        self.answers: list[Answer] = []
        self.ends: list[BaseException] = []
        self._server = server
        self._party = Party(party.client_id, party.key)
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        self._stop = threading.Event()

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        connection = Connection(self._server.address, timeout=10)
        try:
            while not self._stop.is_set():
                self.answers.append(connection.ask("POST", "/token", HEADERS, fresh(self._party)))
        except Exception as end:
            self.ends.append(end)
        finally:
            connection.close()


@pytest.mark.rule("F12")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_graceful_stop_resets_nobody(groat: "Groat", party: Party, workers: int) -> None:
    """SIGTERM under load: every request is answered in full, the next connection is refused, and the exit code is 0."""
    configure(groat, QUIET)
    server = groat.serve(workers)
    with Callers(server, party, 6) as callers:
        wait_until(lambda: len(callers.answers) > 60)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 10
        wait_until(lambda: len(callers.ends) == 6)
    for answer in callers.answers:
        check_ok(answer)
    assert [type(end) for end in callers.ends] == [ConnectionRefusedError] * 6


@pytest.mark.rule("F12")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_is_on_its_way_at_the_stop_is_served(groat: "Groat", party: Party, workers: int) -> None:
    """An idle kept connection gets one more answer, which says that it was the last."""
    configure(groat, QUIET)
    server = groat.serve(workers)
    connection = Connection(server.address)
    check_ok(connection.ask("POST", "/token", HEADERS, fresh(party)))
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: sum(line.get("message") == "Shutting down" for line in server.lines()) == workers)
    answer = connection.ask("POST", "/token", HEADERS, fresh(party))
    check_ok(answer)
    assert answer.header("connection") == "close"
    assert server.process.wait(15) == 0


@pytest.mark.rule("F12")
def test_a_request_that_arrived_unread_at_the_last_moment_is_served(groat: "Groat", party: Party) -> None:
    """A server that had no time to read when its patience with an idle connection ended reads before it closes."""
    configure(groat, QUIET)
    server = groat.serve(1)
    connection = Connection(server.address)
    check_ok(connection.ask("POST", "/token", HEADERS, fresh(party)))
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: any(line.get("message") == "Shutting down" for line in server.lines()))
    server.process.send_signal(signal.SIGSTOP)
    threading.Timer(DRAIN_SECONDS + 0.5, server.process.send_signal, [signal.SIGCONT]).start()
    answer = connection.ask("POST", "/token", HEADERS, fresh(party))
    check_ok(answer)
    assert answer.header("connection") == "close"
    assert server.process.wait(15) == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_exit_code_says_how_it_ended(groat: "Groat", sent: signal.Signals, workers: int, code: int) -> None:
    """A service manager's stop is success; Ctrl-C is an interruption."""
    configure(groat, QUIET)
    assert groat.serve(workers).stop(sent) == code


@pytest.mark.rule("O05", "F17")
def test_a_reload_changes_what_it_may(groat: "Groat", party: Party, running: "Server") -> None:
    """Lifetime, claims, throttle, proxies, log: in force in every worker, without a restart."""
    pids = running.workers()
    settings = '[tokens]\nlifetime = "2m"\nextra_claims = {env = "test"}\n[server]\ntrusted_proxies = ["127.0.0.1"]\n'
    configure(groat, settings + "[throttle]\nclient_failures = 1\n")
    line = reload(running)
    assert line["needs_restart"] == []
    assert set(line["applied"]) >= {"tokens.lifetime", "tokens.extra_claims", "server.trusted_proxies"}
    for _ in range(8):
        document = check_ok(ask(running, party))
        assert document["expires_in"] == 120
        assert decoded(document["access_token"])[1]["env"] == "test"
    stranger = Party("billing")
    answers = [ask(running, stranger, **{"X-Forwarded-For": "192.0.2.7"}) for _ in range(2 * len(pids) + 1)]
    check_ec(answers[0])
    assert 429 in [answer.status for answer in answers]  # each worker counts for itself, and one had three of them
    assert events(running, "token.refused")[-1]["source"] == "192.0.2.7"
    assert running.workers() == pids
    configure(groat, QUIET + '[log]\nlevel = "error"\n')
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: [check_ok(ask(running, party))["expires_in"] for _ in range(8)] == [600] * 8)
    issued = len(events(running, "token.issued"))
    check_ok(ask(running, party))
    assert len(events(running, "token.issued")) == issued
    configure(groat, QUIET)
    reload(running)


@pytest.mark.rule("O05")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[tokens]\nlifetime = "2m"\nlifetme = 5\n', r"groat\.toml:4: .*did you mean tokens\.lifetime"),
        ('[tokens]\nlifetime = "3h"\n', r"groat\.toml:3: tokens\.lifetime must be 60 to 3600 seconds"),
        ("[tokens\n", r"groat\.toml:2: not TOML"),
        ('[tokens]\nextra_claims = {iss = "evil"}\n', r"tokens\.extra_claims must not set iss"),
    ],
    ids=["unknown", "range", "syntax", "claims"],
)
def test_a_bad_file_keeps_the_old_settings(
    groat: "Groat", party: Party, running: "Server", settings: str, said: str
) -> None:
    """The log says where and why; a worker that starts while the bad file lies there has the old settings too."""
    configure(groat, settings)
    line = reload(running, "config.refused")
    assert re.search(said, "\n".join(line["findings"]))
    workers = running.workers()
    if len(workers) > 1:
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: workers[0] not in running.workers() and len(running.workers()) == len(workers))
        wait_until(lambda: running.lines()[-1].get("message") == "Application startup complete.")
    for _ in range(8):
        assert check_ok(ask(running, party))["expires_in"] == 600
    configure(groat, QUIET)
    reload(running)


@pytest.mark.rule("O05")
def test_what_needs_a_restart_is_named_and_waits(groat: "Groat", party: Party, running: "Server") -> None:
    """Another issuer, store and profile change nothing yet; what stands beside them is applied."""
    settings = 'profile = "fapi2"\n[storage]\nurl = "sqlite:///other.db"\n[tokens]\nlifetime = "3m"\n'
    configure(groat, settings + QUIET, issuer="https://other.example")
    line = reload(running)
    assert (line["level"], line["applied"]) == ("warning", ["tokens.lifetime"])
    assert set(line["needs_restart"]) == {"issuer", "profile", "storage.url"}
    document = check_ok(ask(running, party))
    assert (document["expires_in"], decoded(document["access_token"])[1]["iss"]) == (180, "https://as.example")
    configure(groat, QUIET)
    reload(running)


@pytest.mark.rule("F17")
def test_reloads_under_load_lose_nothing(groat: "Groat", party: Party, running: "Server") -> None:
    """Ten reloads while six callers work: every answer is a token."""
    with Callers(running, party, 6) as callers:
        for number in range(10):
            configure(groat, QUIET + f'[tokens]\nlifetime = "{2 + number}m"\n')
            reload(running)
        wait_until(lambda: len(callers.answers) > 100)
    assert callers.ends == []
    lifetimes = {check_ok(answer)["expires_in"] for answer in callers.answers}
    assert len(lifetimes) > 2
    configure(groat, QUIET)
    reload(running)


def test_the_sample_says_what_a_reload_applies(groat: "Groat") -> None:
    """Each line of the sample file, and the schema, tell the same story as the code."""
    text = sample_config("https://as.example", "ES256", "sqlite:///data/groat.db")
    listed = {row["name"]: row["reload"] for row in json.loads(groat.run("--json", "config", "schema").stdout)}
    for setting in SETTINGS:
        (line,) = [line for line in text.splitlines() if f"({setting.env})" in line]
        assert line.endswith("; reload" if setting.name in RELOADED else "; restart")
        assert listed[setting.name] is (setting.name in RELOADED)
