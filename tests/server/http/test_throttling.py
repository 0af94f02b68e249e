"""AS-TE-31: failures are slowed down per source and per claimed client, and nobody locks out anybody else."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groat.protocol.errors import InvalidClient, TooManyRequests
from groat.protocol.jwk import generate_private_key
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.gcra import MAX_TRACKED, Gcra
from groat.server.http import throttle
from groat.server.http.entrance import MAX_CHEAP_LINES
from groat.server.http.exchange import Exchange
from groat.server.http.in_force import InForce, Limits
from groat.server.http.throttle import (
    BLOCK_FACTOR,
    DOUBT_SHARE,
    FAILURE_SECONDS,
    NO_SHARE,
    SERVED_SECONDS,
    UNTHROTTLED,
    Share,
    Throttle,
)
from tests.server.builders import Party, base
from tests.server.lab import Lab
from tests.server.wire import FORM, Connection, check_ec, check_ok, check_refused, encoded

REFUSAL = InvalidClient("x")
LIMITS = "[throttle]\nclient_failures = 30\nsource_failures = 300\n"


@pytest.mark.rule("AS-TE-31", "L10")
def test_a_hundred_bad_requests(fresh_lab: Callable[..., Lab]) -> None:
    """The first thirty are EC, the rest 429 with Retry-After; other clients and the owner of the name are served."""
    lab = fresh_lab(LIMITS)
    other = lab.add_client("other")
    answers = [lab.ask(lab.party.assertion()[:-6] + "AAAAAA") for _ in range(100)]
    for answer in answers[:30]:
        check_ec(answer)
    for answer in answers[32:]:
        check_refused(answer, "temporarily_unavailable", 429)
        assert lab.reason(answer) == "throttled"
    waits = {int(answer.header("retry-after") or "0") for answer in answers[32:]}
    assert waits <= {1, 2, 3}
    check_ok(lab.ask(other.assertion()))
    for _ in range(3):
        check_ok(lab.ask())


@pytest.mark.rule("ST-5", "I14")
def test_refusals_of_the_throttle_do_not_fill_the_log(fresh_lab: Callable[..., Lab]) -> None:
    """Some hundreds a minute have a line; a failure that is no excess always has one."""
    lab = fresh_lab("[throttle]\nclient_failures = 5\nsource_failures = 50\n")
    connection = Connection(lab.address)
    for _ in range(MAX_CHEAP_LINES + 200):
        connection.ask("POST", "/token", [("Content-Type", FORM)], base("a.b.c"))
    connection.close()
    reasons = Counter(json.loads(line)["reason"] for line in lab.lines() if b'"token.refused"' in line)
    assert MAX_CHEAP_LINES <= reasons["throttled"] < MAX_CHEAP_LINES + 150
    assert reasons["assertion_malformed"] >= 5


@pytest.mark.rule("AS-TE-31")
@pytest.mark.parametrize("kind", ["unknown clients", "nothing at all", "replays"])
def test_every_kind_of_failure_counts(fresh_lab: Callable[..., Lab], kind: str) -> None:
    """Wrong names, missing proof and replays lead to 429 as bad signatures do."""
    lab = fresh_lab("[throttle]\nclient_failures = 5\nsource_failures = 50\n")
    replay = lab.party.assertion()
    check_ok(lab.ask(replay))
    stranger = Party("nobody")
    bodies = {
        "unknown clients": lambda: base(stranger.assertion()),
        "nothing at all": lambda: encoded([("grant_type", "client_credentials")]),
        "replays": lambda: base(replay),
    }
    statuses = [lab.post(bodies[kind]()).status for _ in range(12)]
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    check_ok(lab.ask())


@pytest.mark.rule("AS-TE-31", "T9", "ST-5", "L10")
def test_a_source_over_its_limit(fresh_lab: Callable[..., Lab]) -> None:
    """Past the limit of a source every failure is 429, whoever is named, and a good signature gets its token."""
    lab = fresh_lab("[throttle]\nclient_failures = 5\nsource_failures = 20\n")
    check_ok(lab.ask())
    never_seen = lab.add_client("never-seen")
    answers = [lab.ask(Party(f"guess-{n}", never_seen.key).assertion()) for n in range(30)]
    assert {answer.status for answer in answers[:20]} == {401}
    check_refused(answers[-1], "temporarily_unavailable", 429)
    check_ok(lab.ask())
    check_ok(lab.ask(never_seen.assertion()))


@pytest.mark.rule("AS-TE-31", "ST-5", "I16")
def test_a_refusal_past_the_limit_does_not_tell_who_is_known(fresh_lab: Callable[..., Lab]) -> None:
    """Active just now, registered, disabled, unknown, out of form: one answer, byte for byte."""
    lab = fresh_lab("[throttle]\nclient_failures = 500\nsource_failures = 20\n")
    check_ok(lab.ask())
    lab.add_client("quiet")
    lab.add_client("off")
    lab.operate(lambda op: operations.enable_client(op, "off", enabled=False))
    forger = generate_private_key("ES256")
    for _ in range(25):
        lab.ask("a.b.c")
    named = [lab.ask(Party(name, forger).assertion()) for name in ("billing", "quiet", "off", "nobody")]
    shapeless = [lab.ask("a.b.c"), lab.post(b"grant_type=password"), lab.post(b"%41" * 20_000)]
    for answer in (*named, *shapeless):
        check_refused(answer, "temporarily_unavailable", 429)
    appearances = {repr([part for part in answer.comparable() if part]) for answer in named + shapeless}
    assert len({text.replace("'3'", "'2'").replace("'4'", "'3'") for text in appearances}) <= 2  # seconds pass
    assert len({answer.body for answer in named + shapeless}) == 1
    check_ok(lab.ask())


@pytest.mark.rule("AS-TE-31", "I2", "ST-5", "I14")
def test_a_throttled_request_spends_nothing(fresh_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    """429 before authentication leaves the jti unused: the same assertion is good from a source that may."""
    monkeypatch.setattr(throttle, "DOUBT_SHARE", 0.0)
    lab = fresh_lab('[server]\ntrusted_proxies = ["127.0.0.1"]\n[throttle]\nclient_failures = 2\nsource_failures = 2\n')
    for _ in range(4):
        lab.post(base("a.b.c"), FORM, ("X-Forwarded-For", "192.0.2.1"))
    assertion = lab.party.assertion()
    check_refused(lab.post(base(assertion), FORM, ("X-Forwarded-For", "192.0.2.1")), "temporarily_unavailable", 429)
    check_ok(lab.post(base(assertion), FORM, ("X-Forwarded-For", "192.0.2.2")))


@pytest.mark.rule("OPS-02", "AS-TE-31", "H07")
def test_forwarded_addresses_count_from_trusted_proxies_only(fresh_lab: Callable[..., Lab]) -> None:
    """Without a trusted proxy a new X-Forwarded-For is no new source, so it buys no new tries."""
    lab = fresh_lab("[throttle]\nclient_failures = 5\nsource_failures = 10\n")
    statuses = [
        lab.post(base(Party(f"g{n}", lab.party.key).assertion()), FORM, ("X-Forwarded-For", f"192.0.2.{n}")).status
        for n in range(20)
    ]
    assert statuses[-1] == 429
    answer = lab.post(base("a.b.c"), FORM, ("X-Forwarded-For", "192.0.2.77"))
    assert lab.event(answer)["source"] == "127.0.0.1"


@pytest.mark.rule("OPS-02")
def test_a_trusted_proxy_names_the_source(fresh_lab: Callable[..., Lab]) -> None:
    """From a trusted proxy the last foreign hop is the source, and each source has its own count."""
    lab = fresh_lab(
        '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n[throttle]\nclient_failures = 2\nsource_failures = 3\n'
    )
    answer = lab.post(base("a.b.c"), FORM, ("X-Forwarded-For", "198.51.100.9, 192.0.2.7"))
    assert lab.event(answer)["source"] == "192.0.2.7"
    for source, expected in (("192.0.2.1", 429), ("192.0.2.2", 401)):
        for _ in range(4 if expected == 429 else 1):
            status = lab.post(base("a.b.c"), FORM, ("X-Forwarded-For", source)).status
        assert status == expected


# The counting itself


@dataclass
class LeakyBucket:
    """The naive model: a level that drips, and an event that fits while the level leaves room for it."""

    limit: int
    window: float
    level: float = 0.0
    at: float = field(default=0.0)

    def wait(self, now: float) -> float:
        self._drip(now)
        return max(0.0, (self.level + 1 - self.limit) * self.window / self.limit)

    def add(self, now: float) -> None:
        self._drip(now)
        self.level = min(self.level + 1, float(self.limit))

    def _drip(self, now: float) -> None:
        self.level = max(0.0, self.level - (now - self.at) * self.limit / self.window)
        self.at = now


_STEPS = st.lists(st.tuples(st.floats(0, 90), st.sampled_from(["a", "b"]), st.booleans()), max_size=80)


@pytest.mark.rule("AS-TE-31")
@given(st.integers(1, 40), st.sampled_from([1.0, 60.0]), _STEPS)
@settings(max_examples=200, deadline=None)
def test_gcra_is_a_leaky_bucket(limit: int, window: float, steps: list[tuple[float, str, bool]]) -> None:
    """For any events at any times, two keys at once, the waiting times are those of the naive model."""
    gcra = Gcra(limit, window)
    models = {"a": LeakyBucket(limit, window), "b": LeakyBucket(limit, window)}
    now = 1000.0
    for pause, key, add in steps:
        now += pause / 30
        assert gcra.wait(key, now) == pytest.approx(models[key].wait(now), abs=1e-6)
        if add:
            gcra.add(key, now)
            models[key].add(now)


@pytest.mark.rule("AS-TE-31")
@pytest.mark.parametrize("limit", [1, 2, 30])
def test_exactly_the_limit_fits_at_once(limit: int) -> None:
    """As many events as the limit fit in one instant, not one more, and one more after its share of the window."""
    gcra = Gcra(limit, 60.0)
    for _ in range(limit):
        assert gcra.wait("k", 5.0) == 0
        gcra.add("k", 5.0)
    wait = gcra.wait("k", 5.0)
    assert wait == pytest.approx(60.0 / limit)
    assert gcra.wait("k", 5.0 + wait + 1e-9) == 0


UNSHARED = Limits(failure_share=int(NO_SHARE))
IN_FORCE = InForce(Policy("https://as.example"))


def _exchange(
    source: str, now: float, client: str | None = None, proving: float = 0.0, limits: Limits = IN_FORCE.limits
) -> Exchange:
    return Exchange("r", source, now, replace(IN_FORCE, limits=limits), client=client, proving=proving)


@pytest.mark.rule("I9", "AS-TE-31", "ST-11", "I14")
def test_counts_are_bounded() -> None:
    """However many names and sources fail or succeed, the tables stay as large as they may be."""
    counts = Throttle()
    for n in range(MAX_TRACKED + 5000):
        counts.failed(_exchange(f"source-{n}", 1.0, f"name-{n}"), REFUSAL)
        counts.succeeded(_exchange(f"source-{n}", 1.0))
    tables = (counts.per_client._full_at, counts.per_source._full_at, counts.per_block._full_at, counts._served)
    assert [len(table) for table in tables] == [MAX_TRACKED] * 4


def _networks(kind: str, count: int) -> list[str]:
    return {
        "one /48": [f"2001:db8:77:{n:x}::/64" for n in range(count)],
        "many /48": [f"2001:db8:{n:x}::/64" for n in range(count)],
        "IPv4": [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(count)],
        "far apart": [f"{n & 127}.{n >> 7 & 255}.{n >> 15}.1" for n in range(count)],
    }[kind]


@pytest.mark.rule("ST-11", "I14", "AS-TE-31")
@pytest.mark.parametrize("kind", ["one /48", "many /48", "IPv4", "far apart"])
@pytest.mark.parametrize("at_limit", ["203.0.113.9", "2001:db8:1:2::/64"])
def test_a_source_at_its_limit_is_not_forgotten(kind: str, at_limit: str) -> None:
    """Not for 40,000 others that fail at the same time, wherever they are; and its pair with a client is not, either."""
    counts = Throttle()
    for _ in range(counts.per_source.limit):
        counts.failed(_exchange(at_limit, 1.0, "billing"), REFUSAL)
    for source in _networks(kind, 40_000):
        counts.failed(_exchange(source, 1.0, "x"), REFUSAL)
    assert counts.per_source.wait(at_limit, 1.0) > 0
    assert counts.per_client.wait(f"{at_limit} billing", 1.0) > 0
    assert isinstance(counts.failed(_exchange(at_limit, 1.0, "another"), REFUSAL), TooManyRequests)


@pytest.mark.rule("ST-11", "I14")
@pytest.mark.parametrize(("kind", "newcomer"), [("one /48", "2001:db8:77:ffff::/64"), ("one /24", "10.0.0.255")])
def test_neighbouring_networks_share_a_count(kind: str, newcomer: str) -> None:
    """Whoever has many addresses of one block gains a multiple of one source's tries, not one each."""
    asks = partial(_exchange, limits=UNSHARED)
    counts = Throttle()
    sources = _networks("one /48", 40_000) if kind == "one /48" else _networks("IPv4", 250) * 160
    refusals = [counts.failed(asks(source, 1.0, None), REFUSAL) for source in sources]
    tried = sum(isinstance(refusal, InvalidClient) for refusal in refusals)
    assert tried == pytest.approx(counts.per_source.limit * BLOCK_FACTOR, abs=1)
    assert isinstance(counts.failed(asks(newcomer, 1.0, None), REFUSAL), TooManyRequests)
    assert isinstance(counts.failed(asks("198.51.100.1", 1.0, None), REFUSAL), InvalidClient)


@pytest.mark.rule("ST-11", "I14")
def test_where_no_table_has_room_one_count_is_for_all() -> None:
    """Twenty thousand blocks fail at once: those that nobody can count apart are counted together, and forgotten in time."""
    asks = partial(_exchange, limits=UNSHARED)
    counts = Throttle()
    for n in range(MAX_TRACKED):
        counts.failed(asks(f"2001:{n >> 12:x}:{n & 4095:x}::/64", 1.0, None), REFUSAL)
    answers = [counts.failed(asks(f"s{n}", 1.0, None), REFUSAL) for n in range(5000)]
    tried = sum(isinstance(answer, InvalidClient) for answer in answers)
    assert tried == pytest.approx(counts.per_source.limit * BLOCK_FACTOR, abs=1)
    assert isinstance(answers[-1], TooManyRequests)
    assert isinstance(counts.failed(asks("2001:0:1::/64", 1.0, None), REFUSAL), InvalidClient)
    later = [counts.failed(asks(f"s{n}", 70.0, None), REFUSAL) for n in range(5000)]
    assert not any(isinstance(answer, TooManyRequests) for answer in later)


@pytest.mark.rule("ST-5", "I14")
def test_a_share_of_time() -> None:
    """Work fills it, time empties it, and at once no more fits than a second's worth."""
    share = Share(0.2)
    assert share.used(5.0) == 0
    share.spend(0.1, 5.0)
    assert share.used(5.0) == pytest.approx(0.5)
    assert share.used(5.25) == pytest.approx(0.25)
    share.spend(0.15, 5.25)
    assert share.used(5.25) == pytest.approx(1.0)
    assert share.used(9.0) == 0
    assert Share(0.0).used(0.0) == 1


@pytest.mark.rule("ST-5", "I14", "T9")
def test_failures_of_sources_in_doubt_take_their_share_and_no_more() -> None:
    """However fast they come, of a second they take a fifth, and at the beginning as much at once."""
    asks = partial(_exchange, limits=Limits(source_failures=1))
    counts, looked_at, now = Throttle(), 0.0, 100.0
    counts.failed(asks("s", now, "x"), REFUSAL)
    for _ in range(20_000):
        now += 0.0005
        with contextlib.suppress(TooManyRequests):
            counts.check(asks("s", now))
            looked_at += 0.001
            counts.failed(asks("s", now, "x", 0.001 - FAILURE_SECONDS), REFUSAL)
    assert looked_at <= (DOUBT_SHARE * 11) * 1.01
    assert looked_at >= DOUBT_SHARE * 5


@pytest.mark.rule("ST-5", "I14", "L10")
def test_a_flood_from_one_source_leaves_room_for_the_neighbours_of_another() -> None:
    """Half of the share is for sources that fail little: behind them a good signature is looked at every time."""
    asks = partial(_exchange, limits=Limits(source_failures=60))
    counts, refused, now = Throttle(), 0, 100.0
    for source in ("flood", "office"):
        for _ in range(60):
            counts.failed(asks(source, now, "x"), REFUSAL)
    for step in range(20_000):
        now += 0.0005
        with contextlib.suppress(TooManyRequests):
            counts.check(asks("flood", now))
            counts.failed(asks("flood", now, "x", 0.0003), REFUSAL)
        if step % 200 == 0:  # ten times a second, one of them a failure
            try:
                counts.check(asks("office", now))
            except TooManyRequests:
                refused += 1
            counts.failed(asks("office", now, "x", 0.0003), REFUSAL)
    assert refused == 0


@pytest.mark.rule("ST-5", "I14", "T9")
def test_a_flood_from_everywhere_puts_newcomers_in_doubt() -> None:
    """When failures take half of a process, sources that were served lately go first, and all failures read the same."""
    counts, now = Throttle(), 100.0
    counts.succeeded(_exchange("known", now))
    for n in range(4000):
        now += 0.0001
        counts.failed(_exchange(f"s{n}", now, f"c{n}", 0.0005), REFUSAL)
    counts.check(_exchange("known", now))
    with pytest.raises(TooManyRequests):
        counts.check(_exchange("newcomer", now))
    for source in ("known", "newcomer"):
        assert isinstance(counts.failed(_exchange(source, now, "c"), REFUSAL), TooManyRequests)
    counts.check(_exchange("newcomer", now + 10))
    assert isinstance(counts.failed(_exchange("newcomer", now + 10, "d"), REFUSAL), InvalidClient)


@pytest.mark.rule("ST-5")
@pytest.mark.parametrize(("source_failures", "bounded"), [(UNTHROTTLED - 1, True), (UNTHROTTLED, False)])
def test_no_bound_for_all_where_there_is_none_for_one(source_failures: int, bounded: bool) -> None:
    """Whoever turns the throttle off for every source has turned it off; a share is of the time that was set."""
    counts = Throttle()
    limits = Limits(10**6, source_failures, 10)
    refusals = [counts.failed(_exchange(f"s{n}", 1.0, None, 0.001, limits), REFUSAL) for n in range(200)]
    assert any(isinstance(refusal, TooManyRequests) for refusal in refusals) is bounded


@pytest.mark.rule("ST-5", "AS-TE-31")
@pytest.mark.parametrize("last", [2, 4])
def test_each_request_is_counted_by_the_limits_it_began_with(last: int) -> None:
    """At a reload the counts go on, by other limits: after three failures a fourth is too many by two, and not by four."""
    counts = Throttle()
    for _ in range(3):
        assert counts.failed(_exchange("s", 1.0, limits=Limits(source_failures=4)), REFUSAL) is REFUSAL
    refusal = counts.failed(_exchange("s", 1.0, limits=Limits(source_failures=last)), REFUSAL)
    assert isinstance(refusal, TooManyRequests) is (last == 2)


@pytest.mark.rule("ST-5")
def test_service_is_forgotten_after_an_hour() -> None:
    """A source that was served counts as known for an hour from then."""
    asks = partial(_exchange, limits=Limits(failure_share=0))
    counts = Throttle(_doubt=Share(0.0))
    counts.succeeded(asks("s", 0.0))
    counts.check(asks("s", SERVED_SECONDS - 1))
    with pytest.raises(TooManyRequests):
        counts.check(asks("s", SERVED_SECONDS + 1))
    with pytest.raises(TooManyRequests):
        counts.check(asks("t", 1.0))


@pytest.mark.rule("AS-TE-31")
def test_names_cannot_run_into_sources() -> None:
    """No client id makes the count of another pair: ids have no spaces, and the source stands first."""
    asks = partial(_exchange, limits=Limits(client_failures=1))
    counts = Throttle()
    counts.failed(asks("10.0.0.1", 0.0, "a"), REFUSAL)
    assert isinstance(counts.failed(asks("10.0.0.1", 0.0, "a"), REFUSAL), TooManyRequests)
    assert isinstance(counts.failed(asks("10.0.0.1", 0.0, "a2"), REFUSAL), InvalidClient)
    assert isinstance(counts.failed(asks("10.0.0.11", 0.0, "a"), REFUSAL), InvalidClient)
