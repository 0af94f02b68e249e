"""The guard's numbers: counted in plain memory, written for Prometheus when somebody asks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from groat import __version__
from groat.guard.demand import Kind
from groat.verifier import Observer

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Figures(Observer):
    """What a verifier tells of its verdicts and fetches. Labels come from fixed sets, never from a request."""

    def __init__(self) -> None:
        self._verified: Counter[tuple[str, str]] = Counter()
        self._refreshed: Counter[tuple[str, str]] = Counter()
        self._status: Counter[str] = Counter()
        self._unknown = 0
        self._misasked: Counter[Kind] = Counter(dict.fromkeys(get_args(Kind), 0))

    def verified(self, result: str, reason: str) -> None:
        self._verified[result, reason] += 1

    def refreshed(self, issuer: str, result: str, trigger: str) -> None:
        self._refreshed[result, trigger] += 1

    def status_refreshed(self, issuer: str, result: str) -> None:
        self._status[result] += 1

    def status_unknown(self, issuer: str) -> None:
        self._unknown += 1

    def misasked(self, kind: Kind) -> None:
        """Somebody has asked for what the guard cannot answer."""
        self._misasked[kind] += 1

    def render(self, ages: "Ages", cut: Mapping[str, int]) -> bytes:
        """The text exposition format. `cut`: connections by reason."""
        registry = CollectorRegistry()
        asked = _Asked(dict(self._verified), dict(self._misasked), self._unknown)
        fetched = _Fetched(dict(self._refreshed), dict(self._status), ages)
        registry.register(_Snapshot(asked, fetched, dict(cut)))
        return generate_latest(registry)


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds since the keys, and what was taken back, were fetched; None where there is nothing."""

    keys: float | None
    status: float | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of checks: verdicts, those that could not be read, and those that were let in for want of a status."""

    verified: Mapping[tuple[str, str], int]
    misasked: Mapping[Kind, int]
    unknown: int


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What came of asking the issuer: for keys, and for what it took back."""

    keys: Mapping[tuple[str, str], int]
    status: Mapping[str, int]
    ages: Ages


class _Snapshot:
    """The numbers of one moment, as the library collects them."""

    def __init__(self, asked: _Asked, fetched: _Fetched, cut: Mapping[str, int]) -> None:
        self._asked, self._fetched, self._cut = asked, fetched, cut

    def collect(self) -> Iterator[Metric]:
        verdicts = CounterMetricFamily("groat_verify", "Verdicts on tokens", labels=("result", "reason"))
        for labels, count in self._asked.verified.items():
            verdicts.add_metric(labels, count)
        yield verdicts
        unread = CounterMetricFamily("groat_guard_misasked", "Requests that the guard cannot read", labels=("kind",))
        for kind, count in self._asked.misasked.items():
            unread.add_metric((kind,), count)
        yield unread
        yield from self._fetches()
        ended = CounterMetricFamily("groat_connections_cut", "Connections that had to make room", labels=("reason",))
        for reason, count in self._cut.items():
            ended.add_metric((reason,), count)
        yield ended
        yield InfoMetricFamily("groat_build", "What runs here", value={"version": __version__})

    def _fetches(self) -> Iterator[Metric]:
        name = "groat_verify_jwks_refresh"
        keys = CounterMetricFamily(name, "Fetches of the issuer's keys", labels=("result", "trigger"))
        for labels, count in self._fetched.keys.items():
            keys.add_metric(labels, count)
        yield keys
        name = "groat_verify_status_refresh"
        status = CounterMetricFamily(name, "Times that the issuer was asked what it took back", labels=("result",))
        for result, count in self._fetched.status.items():
            status.add_metric((result,), count)
        yield status
        name = "groat_verify_status_unknown"
        yield CounterMetricFamily(name, "Tokens accepted while nobody could tell", value=self._asked.unknown)
        if self._fetched.ages.keys is not None:
            since = self._fetched.ages.keys
            yield GaugeMetricFamily("groat_verify_jwks_age_seconds", "Since the keys were fetched", value=since)
        if self._fetched.ages.status is not None:
            since = self._fetched.ages.status
            yield GaugeMetricFamily(
                "groat_verify_status_age_seconds", "Since the list or feed was current", value=since
            )
