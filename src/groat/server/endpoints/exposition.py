"""Metrics for Prometheus: counted in plain memory on the path of a request, handed over once a second.

A counter of prometheus-client costs microseconds and a token has few to spare, so a request only adds to a tally. With
several workers the library keeps its numbers in files of a shared folder (PROMETHEUS_MULTIPROC_DIR, which
`groat serve` sets before it starts them), and whichever worker is asked sums them up. Label values come from fixed
sets: grants, algorithms, error codes and reason codes, never from a request; clients are named only where their keys
end soon, and few of them.
"""

import os
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from groat import __version__
from groat.keys.client_keys import ClientExpiry
from groat.keys.ring.keyring import SigningKey, active_key, published_keys
from groat.server.log.tally import MILLISECONDS, TOKEN_REQUESTS, Durations, Ledger, Tally
from groat.server.store.trusted_time import Clocks

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
disable_created_metrics()  # type: ignore[no-untyped-call]
MULTIPROCESS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
SECONDS: Final = tuple(bound / 1000 for bound in MILLISECONDS)
REPLAYED: Final = "assertion_replayed"
MAX_NAMED: Final = 20  # clients' keys with a series of their own


class CountedHistogram(Histogram):
    """A histogram that takes in what was counted elsewhere.

    The library offers `observe` alone, one value at a time; its buckets are counters, and are raised here as it does.
    """

    def absorb(self, durations: Durations) -> None:
        """Add these counts to the buckets, which must have the bounds of MILLISECONDS."""
        if not any(durations.counts):
            return
        self._sum.inc(durations.total / 1000)
        for bucket, count in zip(self._buckets, durations.counts, strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """The numbers of this process, and of its siblings where there are any."""

    def __init__(self, tally: Tally, ledgers: Iterable[Ledger] = ()) -> None:
        """`ledgers`: of the endpoints, of which some have a counter."""
        self._tally = tally
        self._registry = own = CollectorRegistry()
        self._issued = Counter(
            "groat_tokens_issued", "Access tokens issued", ("grant", "auth_method", "alg"), registry=own
        )
        self._answered = {
            ledger.counter: Counter(ledger.counter, ledger.about, ("result", "reason"), registry=own)
            for ledger in ledgers
            if ledger.counter
        }
        self._turned_away = Counter(
            "groat_requests_refused", "Refusals beside those two endpoints", ("endpoint", "reason"), registry=own
        )
        self._replays = Counter("groat_assertion_replays", "Assertions that came a second time", registry=own)
        self._bound = Counter("groat_tokens_bound", "Tokens that only a holder can use", ("binding",), registry=own)
        self._of_trusts = Counter(
            "groat_workload_requests", "Requests with tokens of trusted issuers", ("trust", "result"), registry=own
        )
        self._fetches = Counter(
            "groat_client_key_set_fetches", "Visits to addresses of clients' keys", ("result",), registry=own
        )
        self._cut = Counter(
            "groat_connections_cut", "Connections that the server ended or refused to begin", ("reason",), registry=own
        )
        self._polls = Gauge(
            "groat_revocation_polls_waiting", "Verifiers that wait for news", registry=own, multiprocess_mode="livesum"
        )
        self._durations = CountedHistogram(
            "groat_token_request_duration_seconds", "From request head to answer", buckets=SECONDS, registry=own
        )

    def absorb(self) -> None:
        """Take over what was counted since the last time."""
        tally = self._tally
        issued, durations = tally.issued, tally.durations
        tally.issued, tally.durations = Counts(), Durations()
        fetched, tally.fetched = tally.fetched, Counts()
        for labels, count in issued.items():
            self._issued.labels(*labels).inc(count)
        if issued:
            self._answered[TOKEN_REQUESTS].labels("issued", "").inc(issued.total())
        self._absorb_answers()
        for result, count in fetched.items():
            self._fetches.labels(result).inc(count)
        of_trusts, tally.of_trusts = tally.of_trusts, Counts()
        for of_trust, count in of_trusts.items():
            self._of_trusts.labels(*of_trust).inc(count)
        bound, tally.bound = tally.bound, Counts()
        for binding, count in bound.items():
            self._bound.labels(binding).inc(count)
        cut, tally.cut = tally.cut, Counts()
        for reason, count in cut.items():
            self._cut.labels(reason).inc(count)
        self._durations.absorb(durations)
        self._polls.set(tally.waiting_polls)

    def _absorb_answers(self) -> None:
        tally = self._tally
        for (counter, result, reason), count in tally.answered.items():
            self._answered[counter].labels(result, reason).inc(count)
            if reason == REPLAYED:
                self._replays.inc(count)
        for labels, count in tally.turned_away.items():
            self._turned_away.labels(*labels).inc(count)
        tally.answered.clear()
        tally.turned_away.clear()

    def render(
        self,
        keys: Iterable[SigningKey],
        now: float,
        expiring: Sequence[ClientExpiry] | None = None,
        clocks: Clocks | None = None,
        trail: int | None = None,
    ) -> bytes:
        """The text exposition format of everything, with the ages of these signing keys at `now` (epoch seconds).

        `expiring`: what is known of clients' keys that end soon, `clocks`: of time, `trail`: the number of the audit
        trail's newest row; None if nothing is.
        """
        self.absorb()
        shown = self._registry
        if os.environ.get(MULTIPROCESS_FOLDER):
            shown = CollectorRegistry()
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        computed = _single(_KeyAges(tuple(keys), now), _ClientKeys(expiring), _Clocks(clocks), _Trail(trail))
        return generate_latest(shown) + generate_latest(computed)


@dataclass(frozen=True, slots=True, eq=False)
class _KeyAges:
    """What is computed when asked for, and the same in every process."""

    keys: tuple[SigningKey, ...]
    now: float

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        ages = GaugeMetricFamily("groat_signing_key_age_seconds", "Since its creation", labels=("kid", "state"))
        for key in published_keys(self.keys, self.now):
            ages.add_metric((key.kid, str(key.state(self.now))), self.now - key.created_at)
        yield ages
        yield from self._next_rotation()
        yield InfoMetricFamily("groat_build", "What runs here", value={"version": __version__})

    def _next_rotation(self) -> Iterator[GaugeMetricFamily]:
        """Nothing where no rotation is planned: an alert on its absence finds a ring that nobody rotates."""
        signer = active_key(self.keys, self.now)
        if signer is not None and signer.retires_at is not None:
            name = "groat_signing_key_next_rotation_timestamp_seconds"
            yield GaugeMetricFamily(name, "When the next key takes over", value=signer.retires_at)


@dataclass(frozen=True, slots=True, eq=False)
class _ClientKeys:
    """How many keys of clients end soon, and when the first of them do. Nothing while the store does not say."""

    expiring: Sequence[ClientExpiry] | None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self.expiring is None:
            return
        labels = ("replaced",)
        numbers = GaugeMetricFamily("groat_client_keys_expiring", "Clients' keys that end soon", labels=labels)
        for replaced in (False, True):
            number = sum(one.expiry.replaced is replaced for one in self.expiring)
            numbers.add_metric((str(replaced).lower(),), number)
        yield numbers
        name = "groat_client_key_expiry_timestamp_seconds"
        ends = GaugeMetricFamily(name, "When a key ends that nothing replaces", labels=("client", "kid"))
        for one in [one for one in self.expiring if not one.expiry.replaced][:MAX_NAMED]:
            ends.add_metric((one.client_id, one.expiry.kid), one.expiry.expires_at)
        yield ends


@dataclass(frozen=True, slots=True, eq=False)
class _Clocks:
    """How far this process's clock may be believed. Nothing while the store does not say."""

    clocks: Clocks | None

    def collect(self) -> Iterator[Metric]:
        found = self.clocks
        if found is None:
            return
        yield GaugeMetricFamily("groat_clock_trusted", "1 while nothing contradicts this clock", value=found.trusted)
        if found.ahead is not None:
            name = "groat_clock_ahead_of_store_seconds"
            yield GaugeMetricFamily(name, "This process's clock less the store's", value=found.ahead)
        yield CounterMetricFamily("groat_clock_steps", "Steps of this clock since the start", value=found.steps)
        name = "groat_store_horizon_timestamp_seconds"
        yield GaugeMetricFamily(name, "Values that ended by then may be forgotten", value=found.horizon)


@dataclass(frozen=True, slots=True, eq=False)
class _Trail:
    """How far the audit trail goes: a number that falls says that rows at its end are gone, which no chain tells."""

    newest: int | None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self.newest is not None:
            yield GaugeMetricFamily("groat_audit_sequence", "Newest row of the audit trail", value=self.newest)


def _single(*collectors: _KeyAges | _ClientKeys | _Clocks | _Trail) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry
