"""AS-TE-31: failures are slowed down per source and per claimed client, and nobody locks out anybody else."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groat.protocol.errors import InvalidClient, TooManyRequests
from groat.server.throttle import MAX_TRACKED, TRUST_SECONDS, Gcra, Throttle

from .builders import Party, base
from .lab import Lab
from .wire import FORM, Answer, check_ec, check_ok, check_refused, encoded

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


@pytest.mark.rule("AS-TE-31", "T9")
def test_a_source_over_its_limit(fresh_lab: Callable[..., Lab]) -> None:
    """Past the limit of a source, names that never proved themselves from there wait; those that did are served."""
    lab = fresh_lab("[throttle]\nclient_failures = 5\nsource_failures = 20\n")
    check_ok(lab.ask())
    never_seen = lab.add_client("never-seen")
    answers: list[Answer] = []
    for n in range(30):
        answers.append(lab.ask(Party(f"guess-{n}", never_seen.key).assertion()))
    assert {answer.status for answer in answers[:20]} == {401}
    check_refused(answers[-1], "temporarily_unavailable", 429)
    check_ok(lab.ask())
    check_refused(lab.ask(never_seen.assertion()), "temporarily_unavailable", 429)


@pytest.mark.rule("AS-TE-31", "I2")
def test_a_throttled_request_spends_nothing(fresh_lab: Callable[..., Lab]) -> None:
    """429 before authentication leaves the jti unused: the same assertion is good from a source that may."""
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


@pytest.mark.rule("I9", "AS-TE-31")
def test_counts_are_bounded() -> None:
    """A hundred thousand names leave a bounded number of counters, and the newest are the ones that stay."""
    throttle = Throttle()
    for n in range(MAX_TRACKED + 5000):
        throttle.failed(f"source-{n}", f"name-{n}", InvalidClient("x"), 1.0)
        throttle.succeeded(f"source-{n}", "name", 1.0)
    sizes = [len(table) for table in (throttle.per_client._full_at, throttle.per_source._full_at, throttle._proven)]
    assert sizes == [MAX_TRACKED] * 3


@pytest.mark.rule("AS-TE-31")
def test_trust_ends() -> None:
    """A client that proved itself from a source passes its limit for an hour, and no other client there does."""
    throttle = Throttle(per_source=Gcra(1, 60.0))
    throttle.succeeded("s", "good", 0.0)
    for now in (1.0, TRUST_SECONDS - 1):
        throttle.failed("s", "bad", InvalidClient("x"), now)
        throttle.check_source("s", "good", now)
        for name, source in (("bad", "s"), ("goo", "s"), ("good2", "s")):
            with pytest.raises(TooManyRequests):
                throttle.check_source(source, name, now)
    throttle.failed("s", "bad", InvalidClient("x"), TRUST_SECONDS + 1)
    with pytest.raises(TooManyRequests):
        throttle.check_source("s", "good", TRUST_SECONDS + 1)


@pytest.mark.rule("AS-TE-31")
def test_names_cannot_run_into_sources() -> None:
    """No client id makes the count of another pair: ids have no spaces, and the source stands first."""
    throttle = Throttle(per_client=Gcra(1, 60.0))
    throttle.failed("10.0.0.1", "a", InvalidClient("x"), 0.0)
    assert isinstance(throttle.failed("10.0.0.1", "a", InvalidClient("x"), 0.0), TooManyRequests)
    assert isinstance(throttle.failed("10.0.0.1", "a2", InvalidClient("x"), 0.0), InvalidClient)
    assert isinstance(throttle.failed("10.0.0.11", "a", InvalidClient("x"), 0.0), InvalidClient)
