"""Counting in plain memory, against the library that the counts are handed to."""

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import Metric

from groat.server.endpoints.exposition import SECONDS, CountedHistogram, Metrics
from groat.server.log.tally import TOKEN_REQUESTS, Durations, Ledger, Tally

EDGES = (0.0, 0.99, 1.0, 1.01, 2.5, 3.0, 10.0, 2500.0, 2500.1, 90_000.0)


def samples(histogram: Histogram) -> list[tuple[str, str, float]]:
    family: Metric
    (family,) = histogram.collect()
    return [(one.name, one.labels.get("le", ""), round(one.value, 9)) for one in family.samples]


@pytest.mark.parametrize("values", [EDGES, (5.0, 5.0), (7.25,), ()], ids=["edges", "twice", "one", "none"])
def test_counted_durations_read_as_observed_ones(values: tuple[float, ...]) -> None:
    """The bounds of a bucket, its counts and the sum are what `observe` makes of the same values."""
    counted = CountedHistogram("d", "d", buckets=SECONDS, registry=CollectorRegistry())
    observed = Histogram("d", "d", buckets=SECONDS, registry=CollectorRegistry())
    durations = Durations()
    for value in values:
        durations.add(value)
        observed.observe(value / 1000)
    counted.absorb(durations)
    assert samples(counted) == samples(observed)


def test_what_came_of_the_tokens_of_a_trust() -> None:
    """By the name of a trust and the reason; what is of no trust is in the counter of its endpoint alone."""
    tally, ledger = Tally(), Ledger("token", "token.refused", TOKEN_REQUESTS, "about")
    metrics = Metrics(tally, [ledger])
    for reason, facts in (
        ("workload_rule", {"trust": "ci"}),
        ("workload_rule", {"trust": "ci"}),
        ("workload_key", {"trust": "prod"}),
        ("workload_issuer", {}),
    ):
        tally.refuse(ledger, {"error": "invalid_grant", "ms": 1.0, **facts}, reason)
    tally.of_trusts["ci", "issued"] += 1
    for _ in range(2):  # what was handed over is not counted again
        metrics.absorb()
    text = metrics.render((), 0.0).decode()
    found = sorted(line for line in text.splitlines() if line.startswith("groat_workload_requests_total"))
    assert found == [
        'groat_workload_requests_total{result="issued",trust="ci"} 1.0',
        'groat_workload_requests_total{result="workload_key",trust="prod"} 1.0',
        'groat_workload_requests_total{result="workload_rule",trust="ci"} 2.0',
    ]
