"""The life of clients' keys on a running server: from when to when they count, when they were used, who is warned."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from groat.keys.client_keys import ClientExpiry, Expiry
from groat.keys.files import read_private_key
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_limits import KeyLimits, LimitsChange
from groat.server import operations
from groat.server.chores.client_key_watch import DAY, ClientKeyWatch
from groat.server.endpoints.exposition import MAX_NAMED, Metrics
from groat.server.log.audit import Audit
from groat.server.operations.operator import Operator
from groat.server.registry.key_uses import MAX_NOTED, KeyUses
from groat.server.store.sqlite.store import SqliteStore
from tests.ports import free_port
from tests.server.assertions import add_key, refused
from tests.server.builders import NOW, Party, base
from tests.server.endpoints.test_metrics import scrape, total
from tests.server.lab import Lab, prepare, running
from tests.server.wire import check_ok, post

if TYPE_CHECKING:
    from tests.conftest import Groat

WARNING = 14 * DAY


def limit(lab: Lab, party: Party, *, force: bool = True, **changes: int | None) -> None:
    lab.operate(
        lambda op: operations.update_client_key(
            op, party.client_id, party.key.kid, LimitsChange(**changes), force=force
        )
    )


def last_used(lab: Lab, client_id: str) -> dict[str, int | None]:
    keys = lab.operate(lambda op: operations.list_client_keys(op, client_id))
    return {key.kid: key.last_used_at for key in keys}


# From when to when


@pytest.mark.rule("KEY-23", "AS-CA-19", "AS-CA-24", "I6")
def test_limits_act_on_the_next_request(lab: Lab) -> None:
    """A key counts from its not-before (less the tolerance) to its expiry; outside of that it looks unknown."""
    party = lab.add_client("limited")
    check_ok(lab.ask(party.assertion()))
    limit(lab, party, not_before=NOW + 11)
    refused(lab, party.assertion(), "key_not_yet_valid")
    limit(lab, party, not_before=NOW + 10)
    check_ok(lab.ask(party.assertion()))
    limit(lab, party, expires_at=NOW + 20)
    with lab.clock.at(NOW + 19.9):
        check_ok(lab.ask(party.assertion(iat=NOW + 19, exp=NOW + 60)))
    with lab.clock.at(NOW + 20):
        refused(lab, party.assertion(iat=NOW + 19, exp=NOW + 60), "key_expired")
    limit(lab, party, expires_at=None, not_before=None)
    with lab.clock.at(NOW + 20):
        check_ok(lab.ask(party.assertion(iat=NOW + 19, exp=NOW + 60)))


@pytest.mark.rule("KEY-23", "AS-CA-12", "AS-CA-19")
def test_an_expired_key_spends_no_jti(lab: Lab) -> None:
    """Refused before anything is used up: the same assertion is good once the key counts again."""
    party = lab.add_client("unspent")
    limit(lab, party, expires_at=NOW)
    assertion = party.assertion()
    refused(lab, assertion, "key_expired")
    limit(lab, party, expires_at=NOW + 1)
    check_ok(lab.ask(assertion))


@pytest.mark.rule("KEY-23")
def test_a_key_may_be_registered_ahead(lab: Lab) -> None:
    """The next key waits for its time beside the present one."""
    party = lab.add_client("ahead")
    following = Party("ahead")
    limits = KeyLimits(NOW + 3600, NOW + 7200)
    lab.operate(lambda op: operations.add_client_keys(op, "ahead", (following.key.public,), limits))
    refused(lab, following.assertion(), "key_not_yet_valid")
    check_ok(lab.ask(party.assertion()))
    with lab.clock.at(NOW + 3600):
        check_ok(lab.ask(following.assertion(iat=NOW + 3600, exp=NOW + 3660)))


@pytest.mark.rule("KEY-23", "KEY-21")
@pytest.mark.parametrize("changes", [{"expires_at": NOW}, {"not_before": NOW + 100}, None], ids=str)
def test_the_only_valid_key_is_not_taken_by_accident(lab: Lab, changes: dict[str, int | None] | None) -> None:
    """Neither by removing it nor by its limits, unless forced; two operators at once do not take the last two."""
    party = lab.add_client(f"only-{changes}".replace(" ", "").replace("'", ""))
    spare = Party(party.client_id)

    async def take(op: Operator, kid: str, force: bool) -> object:
        if changes is None:
            return await operations.remove_client_key(op, party.client_id, kid, force=force)
        return await operations.update_client_key(op, party.client_id, kid, LimitsChange(**changes), force=force)

    with pytest.raises(ConfigError, match="only valid key"):
        lab.operate(lambda op: take(op, party.key.kid, False))
    check_ok(lab.ask(party.assertion()))
    add_key(lab, party.client_id, spare.key)
    both = [take_by.key.kid for take_by in (party, spare)]

    async def race(op: Operator) -> list[object]:
        return await asyncio.gather(*(take(op, kid, False) for kid in both), return_exceptions=True)

    outcomes = lab.operate(race)
    assert sorted(isinstance(outcome, ConfigError) for outcome in outcomes) == [False, True]
    left = both[1] if isinstance(outcomes[1], ConfigError) else both[0]
    lab.operate(lambda op: take(op, left, True))
    for one in (party, spare):
        refused(lab, one.assertion())


def test_slips_with_limits(lab: Lab) -> None:
    """A key that would have expired already, or would never count, is not registered."""
    for limits, words in (((None, NOW), "expired already"), ((NOW + 9, NOW + 8), "after its not-before")):
        with pytest.raises(ConfigError, match=words):
            lab.operate(
                lambda op, limits=limits: operations.add_client_keys(  # type: ignore[misc]
                    op, "billing", (generate_private_key("ES256").public,), KeyLimits(*limits)
                )
            )
    with pytest.raises(ConfigError, match="after its not-before"):
        limit(lab, lab.party, not_before=NOW, expires_at=NOW)


# When they were used


@pytest.mark.rule("KEY-23")
def test_a_use_is_written_down_when_the_server_ends(tmp_path: Path) -> None:
    """Of each key that got a token, by the server's clock; a refusal is no use; no version moves."""
    with running(prepare(tmp_path)) as lab:
        other = lab.add_client("other")
        spare = Party("other")
        add_key(lab, "other", spare.key)
        version = lab.operate(lambda op: op.store.registry_version())
        lab.token()
        with lab.clock.at(NOW + 30):
            check_ok(lab.ask(lab.party.assertion(iat=NOW + 30)))
        check_ok(lab.ask(other.assertion()))
        refused(lab, spare.assertion(aud="https://elsewhere.example"), "assertion_audience")
    assert last_used(lab, "billing") == {lab.party.key.kid: NOW + 30}
    assert last_used(lab, "other") == {other.key.kid: NOW, spare.key.kid: None}
    assert lab.operate(lambda op: op.store.registry_version()) == version


def _in(lab: Lab, work: Callable[[SqliteStore], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = SqliteStore.open(lab.database)
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())
    lab.stream.close()


@pytest.mark.rule("KEY-23")
def test_uses_are_written_down_while_the_server_runs(tmp_path: Path) -> None:
    """By the chore, every few seconds, again and again."""
    lab = prepare(tmp_path)
    key = ("billing", lab.party.key.public.thumbprint)

    async def work(store: SqliteStore) -> None:
        uses = KeyUses(pause=0.01)
        chore = asyncio.create_task(uses.flush_forever(store))
        for at in (NOW + 1, NOW + 2):
            uses.noted[key] = at + 0.9
            async with asyncio.timeout(10):
                while (await store.client_keys("billing"))[0].last_used_at != at:
                    await asyncio.sleep(0.01)
        chore.cancel()
        assert uses.noted == {}

    _in(lab, work)


@pytest.mark.rule("KEY-23", "I12", "CL-2")
def test_a_clock_that_is_ahead_notes_no_use_of_the_future(tmp_path: Path) -> None:
    """A last use never goes down, so it is written down by a time that does not jump."""
    lab = prepare(tmp_path)

    async def work(store: SqliteStore) -> None:
        uses = KeyUses({("billing", lab.party.key.public.thumbprint): NOW + 60.0 * DAY}, latest=lambda: NOW + 5.5)
        await uses.flush(store)
        assert (await store.client_keys("billing"))[0].last_used_at == NOW + 5

    _in(lab, work)


@pytest.mark.rule("KEY-23", "F06")
def test_a_store_that_is_away_costs_precision_alone(tmp_path: Path) -> None:
    """What was noted stays noted, with what came meanwhile, and is written down later; memory stays bounded."""
    lab = prepare(tmp_path)
    key = ("billing", lab.party.key.public.thumbprint)

    async def work(store: SqliteStore) -> None:
        uses = KeyUses({key: NOW + 1.0, ("gone", "t"): NOW + 1.0})
        with closing(sqlite3.connect(lab.database, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            flushing = asyncio.create_task(uses.flush(store))
            await asyncio.sleep(0.1)
            uses.noted[key] = NOW + 2.0
            await flushing
            assert uses.noted == {key: NOW + 2.0, ("gone", "t"): NOW + 1.0}
            await uses.flush_finally(store)  # does not hang, and keeps what it has
            uses.noted.update({("x", str(number)): NOW for number in range(MAX_NOTED)})
            cancelled = asyncio.create_task(uses.flush(store))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            assert len(uses.noted) == MAX_NOTED
        uses.noted = {key: uses.noted[key]}
        await uses.flush(store)
        assert uses.noted == {}
        assert (await store.client_keys("billing"))[0].last_used_at == NOW + 2

    _in(lab, work)


# Who is warned


@pytest.mark.rule("KEY-23")
def test_the_watch_says_it_once_a_day(tmp_path: Path) -> None:
    """One line a key and day; a warning where the client is left without a key, plain information where it is not."""
    lab = prepare(tmp_path)
    alone, paired = lab.add_client("alone"), lab.add_client("paired")
    add_key(lab, "paired", generate_private_key("ES256"))
    for party in (alone, paired):
        limit(lab, party, expires_at=NOW + 10 * DAY)

    async def work(store: SqliteStore) -> None:
        watch = ClientKeyWatch(Operator(store, lab.config.policy, lab.audit, lab.clock), WARNING)
        expected = [(0, 2), (1, 0), (DAY - 1, 0), (DAY, 2), (DAY + 5, 0), (10 * DAY + 1, 1), (30 * DAY, 0)]
        for passed, lines in expected:
            with lab.clock.at(NOW + passed):
                assert await watch.look() == lines, passed

    _in(lab, work)
    events = [json.loads(line) for line in lab.lines()]
    told = [event for event in events if event["event"] == "client.key_expiring"]
    assert [(e["client"], e["level"], e["replaced"]) for e in told[:2]] == [
        ("alone", "warning", False), ("paired", "info", True)]  # fmt: skip
    assert told[0]["kid"] == alone.key.kid
    assert told[0]["expires_at"] == NOW + 10 * DAY
    assert "expires in 10 d; no other key is valid" in told[0]["hint"]
    assert (told[-1]["client"], "expired 1 s ago" in told[-1]["hint"]) == ("alone", True)


@pytest.mark.rule("KEY-23", "I12", "CL-2")
def test_a_clock_that_was_ahead_does_not_silence_the_watch(tmp_path: Path) -> None:
    """What was told by a clock some days ahead is told again by the right one, and then once a day."""
    lab = prepare(tmp_path)
    limit(lab, lab.add_client("alone"), expires_at=NOW + 10 * DAY)

    async def work(store: SqliteStore) -> None:
        watch = ClientKeyWatch(Operator(store, lab.config.policy, lab.audit, lab.clock), WARNING)
        for passed, lines in [(8 * DAY, 1), (0, 1), (60, 0), (DAY, 1)]:
            with lab.clock.at(NOW + passed):
                assert await watch.look() == lines, passed

    _in(lab, work)


@pytest.mark.rule("KEY-23")
def test_numbers_about_ends_are_bounded() -> None:
    """However many clients there are, twenty are named: those that are locked out first."""
    many = tuple(ClientExpiry(f"c{n:03}", Expiry(f"k{n}", NOW + n, n % 4 == 3)) for n in range(100))
    text = Metrics(Audit().tally).render((), NOW, many).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    counts = {s.labels["replaced"]: s.value for s in samples if s.name == "groat_client_keys_expiring"}
    named = [s for s in samples if s.name == "groat_client_key_expiry_timestamp_seconds"]
    assert counts == {"false": 75, "true": 25}
    assert len(named) == MAX_NAMED
    assert [sample.labels["client"] for sample in named[:4]] == ["c000", "c001", "c002", "c004"]
    assert named[1].value == NOW + 1
    assert "groat_client_key_expiry" not in Metrics(Audit().tally).render((), NOW).decode()


# On real servers


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """An installation with one API."""
    made = make_groat("life")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    return made


def _client(groat: "Groat", name: str, *options: str) -> Party:
    words = ("--allow", "orders=read", "--default-scope", "read", "--new-key", f"{name}.json", *options)
    groat.run("client", "add", name, *words)
    return Party(name, read_private_key(groat.directory / f"{name}.json"), time.time())


def _listed(groat: "Groat", name: str) -> list[dict[str, Any]]:
    return list(json.loads(groat.run("--json", "client", "key", "list", name).stdout))


@pytest.mark.rule("KEY-23", "F01")
@pytest.mark.parametrize("workers", [1, 3])
def test_uses_survive_a_restart(groat: "Groat", workers: int) -> None:
    """Whichever worker served, SIGTERM writes down what it noted, and the next server only adds to it."""
    party, silent = _client(groat, f"used{workers}"), _client(groat, f"silent{workers}")
    before = int(time.time())
    server = groat.serve(workers)
    for _ in range(6):
        check_ok(post(server.address, base(replace(party, now=time.time()).assertion())))
    assert server.stop() == 0
    (key,) = _listed(groat, party.client_id)
    assert before <= key["last_used_at"] <= time.time()
    server = groat.serve(workers)
    assert server.stop() == 0
    assert _listed(groat, party.client_id) == [key]
    assert _listed(groat, silent.client_id)[0]["last_used_at"] is None


@pytest.mark.rule("KEY-23")
def test_an_end_that_comes_is_told_everywhere(groat: "Groat") -> None:
    """In the log when a server starts, in its numbers, and by the doctor, until another key takes over."""
    party = _client(groat, "ending", "--key-expires", "5d")
    port = free_port()
    server = groat.serve(env={"GROAT_ADMIN__LISTEN": f"127.0.0.1:{port}"})
    try:
        deadline = time.monotonic() + 10
        while not (told := [line for line in server.lines() if line["event"] == "client.key_expiring"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [(line["client"], line["kid"], line["level"]) for line in told] == [
            ("ending", party.key.kid, "warning")]  # fmt: skip
        numbers = scrape(port)
        assert total(numbers, "groat_client_keys_expiring", replaced="false") == 1
        assert total(numbers, "groat_client_key_expiry_timestamp_seconds", client="ending") > time.time() + 4 * DAY
        failed = groat.run("--json", "doctor", "server", "--url", server.url, check=False)
        row = next(row for row in json.loads(failed.stdout) if row["check"] == "client_keys")
        assert (failed.returncode, row["outcome"]) == (7, "failed")
        assert f"ending: key {party.key.kid} expires in" in row["detail"]
        (groat.directory / "next.jwk").write_text(json.dumps(dict(generate_private_key("ES256").public.jwk)))
        groat.run("client", "key", "add", "ending", "next.jwk")
        assert total(scrape(port), "groat_client_keys_expiring", replaced="true") == 1
        passed = json.loads(groat.run("--json", "doctor", "server", "--url", server.url).stdout)
        assert {row["outcome"] for row in passed if row["check"] == "client_keys"} == {"ok"}
    finally:
        server.stop()
