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
        self._misasked: Counter[Kind] = Counter(dict.fromkeys(get_args(Kind), 0))

    def verified(self, result: str, reason: str) -> None:
        self._verified[result, reason] += 1

    def refreshed(self, issuer: str, result: str, trigger: str) -> None:
        self._refreshed[result, trigger] += 1

    def misasked(self, kind: Kind) -> None:
        """Somebody has asked for what the guard cannot answer."""
        self._misasked[kind] += 1

    def render(self, age: float | None, cut: Mapping[str, int]) -> bytes:
        """The text exposition format. `age`: of the keys in seconds, None without any; `cut`: connections by reason."""
        registry = CollectorRegistry()
        asked = _Asked(dict(self._verified), dict(self._misasked))
        registry.register(_Snapshot(asked, dict(self._refreshed), age, dict(cut)))
        return generate_latest(registry)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of checks: verdicts, and those that could not be read."""

    verified: Mapping[tuple[str, str], int]
    misasked: Mapping[Kind, int]


class _Snapshot:
    """The numbers of one moment, as the library collects them."""

    def __init__(
        self,
        asked: _Asked,
        refreshed: Mapping[tuple[str, str], int],
        age: float | None,
        cut: Mapping[str, int],
    ) -> None:
        self._asked, self._refreshed, self._age, self._cut = asked, refreshed, age, cut

    def collect(self) -> Iterator[Metric]:
        verdicts = CounterMetricFamily("groat_verify", "Verdicts on tokens", labels=("result", "reason"))
        for labels, count in self._asked.verified.items():
            verdicts.add_metric(labels, count)
        yield verdicts
        unread = CounterMetricFamily("groat_guard_misasked", "Requests that the guard cannot read", labels=("kind",))
        for kind, count in self._asked.misasked.items():
            unread.add_metric((kind,), count)
        yield unread
        name = "groat_verify_jwks_refresh"
        fetches = CounterMetricFamily(name, "Fetches of the issuer's keys", labels=("result", "trigger"))
        for labels, count in self._refreshed.items():
            fetches.add_metric(labels, count)
        yield fetches
        if self._age is not None:
            yield GaugeMetricFamily("groat_verify_jwks_age_seconds", "Since the keys were fetched", value=self._age)
        ended = CounterMetricFamily("groat_connections_cut", "Connections that had to make room", labels=("reason",))
        for reason, count in self._cut.items():
            ended.add_metric((reason,), count)
        yield ended
        yield InfoMetricFamily("groat_build", "What runs here", value={"version": __version__})
