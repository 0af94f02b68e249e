"""Clients that publish their keys, on real servers: what strangers can cause in their name, and what they cannot see."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from groat.keys.files import read_private_key
from groat.protocol.client_settings import ClientSettings
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.http.waiting_room import PATIENCE
from groat.server.operations.operator import Operator
from groat.server.store.sqlite.store import SqliteStore
from tests.burst import Answered, Door, burst, one_by_one, worst
from tests.conftest import ISSUER
from tests.key_set_server import KEY, QUIET, Target, http, target, targets
from tests.server.builders import Party, base
from tests.server.wire import check_ec, check_ok, post
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

FORGER: Final = generate_private_key("ES256")
SETTINGS: Final = {
    "GROAT_KEYS__CLIENT_NETWORKS": "127.0.0.0/8",
    "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.1",  # so that requests may come from many sources
    "GROAT_THROTTLE__CLIENT_FAILURES": "100000",
    "GROAT_THROTTLE__FAILURE_SHARE": "100",  # nobody is in doubt here, however slow the machine
}


def installed(make_groat: "Callable[[str], Groat]", name: str) -> "Groat":
    """With one API, and one client whose key is registered here."""
    groat = make_groat(name)
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    grant = ("--allow", "orders=read", "--default-scope", "read")
    groat.run("client", "add", "billing", *grant, "--new-key", "billing.json")
    return groat


def publish(groat: "Groat", name: str, uri: str) -> None:
    """What `groat client add --jwks-uri` does, without a process for each."""

    async def add() -> None:
        store = SqliteStore.open(groat.directory / "data" / "groat.db")
        settings = ClientSettings(jwks_uri=uri, default_scopes=("read",))
        await operations.add_client(Operator(store, Policy(ISSUER)), name, {"orders": ["read"]}, (), settings)
        await store.close()

    asyncio.run(add())


def serve(groat: "Groat", folder: Path, workers: int = 1, **env: str) -> "Server":
    return groat.serve(workers, env={"SSL_CERT_FILE": str(folder / "ca.pem"), **SETTINGS, **env})


def body(name: str, key: PrivateKey = FORGER) -> bytes:
    return base(Party(name, key, time.time()).assertion())


@pytest.mark.rule("AS-CA-18", "AS-CA-22")
@pytest.mark.parametrize("allowed", [True, False])
def test_a_client_publishes_its_keys(make_groat: "Callable[[str], Groat]", tmp_path: Path, allowed: bool) -> None:
    """Its assertions are good by the set that it publishes; at an address that is not allowed nobody ever knocks."""
    groat = installed(make_groat, f"jwks-uri-{allowed}")
    with target(tmp_path) as (outer, _):
        publish(groat, "publisher", outer.uri)
        networks = "127.0.0.0/8" if allowed else "10.0.0.0/8"
        server = serve(groat, tmp_path, GROAT_KEYS__CLIENT_NETWORKS=networks)
        for _ in range(3):
            answer = post(server.address, body("publisher", KEY))
            check_ok(answer) if allowed else check_ec(answer)
        assert outer.hits == (1 if allowed else 0)
        for _ in range(3):
            check_ec(post(server.address, body("publisher")))
        assert outer.hits == (2 if allowed else 0)
        refused = [line["hint"] for line in server.lines() if line["event"] == "token.refused"]
        assert all("must be at its jwks_uri" in hint and "key add" not in hint for hint in refused)
        hints = [line["hint"] for line in server.lines() if line["event"] == "client.keys_unavailable"]
        assert all("not public" in hint for hint in hints)
        assert bool(hints) is not allowed
        server.stop()


def test_a_jwks_uri_is_checked_when_it_is_registered(make_groat: "Callable[[str], Groat]") -> None:
    """Plain http is no way to publish keys, and no number is a host."""
    groat = make_groat("jwks-uri-check")
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    words = ("client", "add", "x", "--allow", "orders=read", "--jwks-uri")
    for uri, why in (("http://a.example/keys", "must be an https URL"), ("https://2130706433/keys", "plain form")):
        done = groat.run(*words, uri, check=False)
        assert (done.returncode, why in done.stderr) == (3, True)
    groat.run(*words, "https://a.example/keys")
    changes: tuple[tuple[tuple[str, ...], str | None], ...] = (
        ((), "https://a.example/keys"),
        (("--jwks-uri", "https://b.example/k"), "https://b.example/k"),
        (("--jwks-uri", ""), None),
    )
    for change, uri_now in changes:
        groat.run("client", "update", "x", *change)
        assert json.loads(groat.run("--json", "client", "show", "x").stdout)["jwks_uri"] == uri_now


@dataclass(frozen=True, slots=True)
class Scene:
    """A running server with a client whose host is silent and one whose host answers."""

    groat: "Groat"
    server: "Server"
    silent: Target
    lively: Target

    @property
    def door(self) -> Door:
        return Door(self.server.address)

    def honest(self) -> bytes:
        return body("billing", read_private_key(self.groat.directory / "billing.json"))


@contextmanager
def scene(make_groat: "Callable[[str], Groat]", folder: Path, name: str, workers: int = 1) -> Iterator[Scene]:
    groat = installed(make_groat, name)
    with targets(folder, QUIET, {}) as ((silent, lively), _):
        publish(groat, "silent", silent.uri)
        publish(groat, "lively", lively.uri)
        server = serve(groat, folder, workers)
        yield Scene(groat, server, silent, lively)
        server.stop()


@pytest.fixture(scope="module")
def on(make_groat: "Callable[[str], Groat]", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene for the tests that only ask."""
    with scene(make_groat, tmp_path_factory.mktemp("published"), "publishers") as made:
        yield made


def bear_a_burst(on: Scene, workers: int, name: str = "silent") -> None:
    """Check that honest requests are served as ever beside 300 forged ones for each worker, the first of their kind."""

    async def beside() -> tuple[list[Answered], list[Answered], list[Answered]]:
        quiet = await one_by_one(on.door, on.honest, 60)
        forged = burst(on.door, [body(name) for _ in range(300 * workers)])
        return quiet, *await asyncio.gather(one_by_one(on.door, on.honest, 100), forged)

    quiet, honest, forged = asyncio.run(beside())
    served = sum(answer.status == 200 for answer in honest)
    print(f"{served} of {len(honest)} served; p99 quiet {worst(quiet):.3f} s, beside the burst {worst(honest):.3f} s")
    assert {answer.status for answer in quiet} == {200}
    assert served >= 99
    assert worst(honest) <= max(3 * worst(quiet), 5.0)  # the test itself runs on the same cores
    assert {answer.status for answer in forged} <= {401, 429, 503}
    assert on.silent.hits <= 2 * workers


@pytest.mark.rule("ST-3", "ST-10", "I14", "F11")
def test_a_burst_in_the_name_of_a_silent_publisher(on: Scene) -> None:
    """300 forged assertions at once, its set never fetched: the honest are served as if they were not there."""
    bear_a_burst(on, 1)


@pytest.mark.rule("ST-3", "I14")
def test_a_burst_in_the_name_of_the_honest_themselves(on: Scene) -> None:
    """They wait behind the forged ones that claim to be theirs, and are served."""
    bear_a_burst(on, 1, "billing")


@pytest.mark.rule("ST-3", "ST-10", "I14", "F11")
def test_the_same_burst_on_two_workers(make_groat: "Callable[[str], Groat]", tmp_path: Path) -> None:
    """Each of them keeps the bounds."""
    with scene(make_groat, tmp_path, "burst-2", 2) as two:
        bear_a_burst(two, 2)


@pytest.mark.rule("ST-10", "ST-3", "I16", "A18")
def test_no_time_tells_whose_keys_are_fetched(on: Scene) -> None:
    """A host that is silent, one that answers, a registered key, nobody at all: one answer, after one time."""
    took: dict[str, list[float]] = {}
    answers = set()
    for turn in range(5):
        for name in ("silent", "lively", "billing", f"nobody-{turn}"):
            started = time.monotonic()
            answer = post(on.server.address, body(name))
            took.setdefault(name.partition("-")[0], []).append(time.monotonic() - started)
            check_ec(answer)
            answers.add((answer.status, answer.body))
    assert len(answers) == 1
    medians = {name: statistics.median(times) for name, times in took.items()}
    assert min(medians.values()) >= PATIENCE * 0.9
    assert max(medians.values()) - min(medians.values()) < PATIENCE / 2, medians
    assert on.silent.hits <= 2


@pytest.mark.rule("ST-10", "I16")
def test_who_is_one_too_many_is_answered_at_once_whatever_the_name(on: Scene) -> None:
    """Twelve at once in one name: four wait and others do not, be it a publisher's name or nobody's."""

    def late(name: str) -> int:
        answers = asyncio.run(burst(on.door, [body(name) for _ in range(12)]))
        assert {answer.status for answer in answers} == {401}
        return sum(answer.seconds >= PATIENCE * 0.9 for answer in answers)

    for name in ("silent", "lively", "nobody", "billing"):
        assert 4 <= late(name) < 12, name  # more than four where early ones were through before the last came


@pytest.mark.rule("ST-4", "F11")
def test_an_honest_publisher_beside_sixteen_silent_ones(make_groat: "Callable[[str], Groat]", tmp_path: Path) -> None:
    """Its first token comes at once: from a server that just started, and from one that it was just added to."""
    groat = installed(make_groat, "sixteen")
    with targets(tmp_path, {}, *[QUIET] * 16) as ((lively, *silent), _):
        for number, one in enumerate(silent):
            publish(groat, f"silent-{number}", one.uri)
        publish(groat, "lively", lively.uri)
        server = serve(groat, tmp_path)

        async def first(name: str) -> Answered:
            door = Door(server.address)
            forged = burst(door, [body(f"silent-{number}") for number in range(16)])
            _, honest = await asyncio.gather(forged, door.ask(body(name, KEY)))
            return honest

        for name in ("lively", "added"):
            if name == "added":
                publish(groat, name, f"{lively.uri}/added")
            answer = asyncio.run(first(name))
            assert answer.status == 200, name
            assert answer.seconds < 2.0, name
        server.stop()


@pytest.mark.rule("ST-10", "AS-CA-18")
def test_a_set_is_at_hand_before_anybody_asks_and_renewed_for_a_new_key(on: Scene) -> None:
    """Fetched soon after the client was registered, and once more while a request with a new key waits for it."""
    before = on.lively.hits
    publish(on.groat, "second", f"{on.lively.uri}/second")
    wait_until(lambda: on.lively.hits == before + 1)
    check_ok(post(on.server.address, body("second", KEY)))
    fresh = generate_private_key("ES256")
    on.lively.answer = http(json.dumps(public_key_set([KEY.public, fresh.public])).encode())
    check_ok(post(on.server.address, body("second", fresh)))
    check_ok(post(on.server.address, body("second", KEY)))
    assert on.lively.hits == before + 2


def test_without_publishers_a_refusal_does_not_wait(make_groat: "Callable[[str], Groat]") -> None:
    """Once the registry was read, there is nothing to wait for."""
    groat = installed(make_groat, "no-publishers")
    server = groat.serve()

    def took() -> float:
        started = time.monotonic()
        check_ec(post(server.address, body("nobody")))
        return time.monotonic() - started

    wait_until(lambda: took() < PATIENCE / 2)
    server.stop()


@pytest.mark.rule("I14", "F11")
def test_a_silent_host_is_told_in_the_log(on: Scene) -> None:
    """A line for each fetch that failed, with its host, although nobody waited for it."""

    def told() -> list[Any]:
        return [line for line in on.server.lines() if line["event"] == "client.keys_unavailable"]

    wait_until(lambda: bool(told()))
    assert {line["host"] for line in told()} == {on.silent.uri.split("/")[2]}
    assert all("no usable answer" in line["hint"] for line in told())


@pytest.mark.rule("AS-CA-18", "OPS-06")
@pytest.mark.parametrize("reachable", [True, False])
def test_the_doctor_visits_the_key_sets_of_clients(
    make_groat: "Callable[[str], Groat]", tmp_path: Path, reachable: bool
) -> None:
    """It names the address and what is wrong there."""
    groat = installed(make_groat, f"visited-{reachable}")
    with target(tmp_path, http() if reachable else http(status="503 Service Unavailable")) as (outer, _):
        uri = outer.uri
        publish(groat, "publisher", uri)
        server = serve(groat, tmp_path)
        settings = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), **SETTINGS}
        done = groat.run("--json", "doctor", "server", "--url", server.url, check=False, **settings)
        server.stop()
    (row,) = [row for row in json.loads(done.stdout) if row["check"] == "client_key_sets"]
    if reachable:
        assert (done.returncode, row["outcome"]) == (0, "ok"), done.stdout
        assert row["detail"] == "1 published by clients, each fetched from this host"
    else:
        assert (done.returncode, row["outcome"]) == (7, "failed"), done.stdout
        assert row["detail"] == f"{uri}: the answer has status 503, not 200"
