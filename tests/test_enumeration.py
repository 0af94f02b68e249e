"""The enumeration measurement itself: it measures every kind of refusal, sees a difference, and invents none."""

import random

import pytest

from benchmarks.enumeration import (
    KINDS,
    LANES,
    LIMIT,
    PUBLISHERS,
    REFERENCE,
    compare,
    line,
    measure,
    measure_publishers,
)
from groat.server.http.waiting_room import PATIENCE

pytestmark = pytest.mark.slow


@pytest.mark.rule("A18", "Z06")
@pytest.mark.timeout(60)
def test_it_measures_every_kind_of_refusal() -> None:
    """A short run against a real server yields as many samples of every kind; what they say is not judged here."""
    rows = measure(rounds=40, seconds=20)
    assert [row.kind for row in rows] == list(KINDS)
    assert {row.samples for row in rows} == {40}
    assert all(row.median > 0 for row in rows)
    reference = next(row for row in rows if row.kind == REFERENCE)
    assert (reference.effect, reference.t) == (0.0, 0.0)
    assert line(reference).count("|") == 6


@pytest.mark.rule("A18", "Z06", "ST-10", "I16")
@pytest.mark.timeout(60)
def test_it_measures_clients_that_publish_their_keys() -> None:
    """Every kind once in each lane, all of them answered after the time that everybody waits."""
    rows = measure_publishers(rounds=LANES, seconds=20)
    assert [row.kind for row in rows] == list(PUBLISHERS)
    assert {row.samples for row in rows} == {LANES}
    assert all(row.median > PATIENCE * 0.9e6 for row in rows)


@pytest.mark.rule("Z06")
@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (3.0, False), (-3.0, False)])
def test_it_sees_a_difference_and_invents_none(shift: float, passed: bool) -> None:
    """Three microseconds between samples of 20,000 are found in noise of thirty; none are not."""
    noise = random.Random(7)
    taken = {REFERENCE: [noise.gauss(400, 30) for _ in range(20_000)],
             "other": [noise.gauss(400 + shift, 30) for _ in range(20_000)]}  # fmt: skip
    other = compare(taken)[1]
    assert other.passed is passed
    assert abs(other.effect - shift) < 1.5
    assert passed or abs(other.t) > LIMIT


@pytest.mark.rule("Z06")
def test_stalls_do_not_hide_a_difference() -> None:
    """A tenth of the samples is far off, as on a busy machine; trimming keeps the rest usable."""
    noise = random.Random(7)

    def one(mean: float) -> float:
        return noise.gauss(mean, 20) + (5000 if noise.random() < 0.05 else 0)

    taken = {REFERENCE: [one(400) for _ in range(20_000)], "other": [one(403) for _ in range(20_000)]}
    assert not compare(taken)[1].passed
