"""Counting in plain memory, against the library that the counts are handed to."""

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import Metric

from groat.server.endpoints.exposition import SECONDS, CountedHistogram
from groat.server.log.tally import Durations

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
