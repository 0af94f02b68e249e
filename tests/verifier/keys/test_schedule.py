"""When keys are fetched: the decision table, at its boundaries and without any clock."""

from dataclasses import replace
from math import inf
from typing import Final

import pytest

from groat.verifier.keys.schedule import LAST_RETRY, Next, Schedule, clamp_max_age

EMPTY: Final = Schedule(max_stale=86400, cooldown=30)
LOADED: Final = EMPTY.succeeded(1000, 300)
FAILED: Final = LOADED.failed(1300, 1.0)  # retry_at 1301


@pytest.mark.rule("RS-19", "RS-21", "R15", "R16", "S03")
@pytest.mark.parametrize(
    ("schedule", "now", "expected"),
    [
        pytest.param(EMPTY, 0, Next.FETCH, id="nothing yet"),
        pytest.param(EMPTY.failed(10, 1.0), 10.9, Next.UNAVAILABLE, id="cold failure, before the retry"),
        pytest.param(EMPTY.failed(10, 1.0), 11, Next.FETCH, id="cold failure, at the retry"),
        pytest.param(LOADED, 1000, Next.SERVE, id="just loaded"),
        pytest.param(LOADED, 1239.9, Next.SERVE, id="before 80 % of max-age"),
        pytest.param(LOADED, 1240, Next.REFRESH, id="at 80 % of max-age"),
        pytest.param(LOADED, 1299.9, Next.REFRESH, id="before max-age"),
        pytest.param(LOADED, 1300, Next.FETCH, id="past max-age after idling: ask first"),
        pytest.param(FAILED, 1300.5, Next.SERVE, id="outage: serve until the retry"),
        pytest.param(FAILED, 1301, Next.REFRESH, id="outage: retry in the background"),
        pytest.param(FAILED, 1000 + 86399, Next.REFRESH, id="outage: last second of max_stale"),
        pytest.param(FAILED, 1000 + 86400, Next.FETCH, id="outage: past max_stale"),
        pytest.param(LOADED.failed(87399, 1.0), 87400, Next.FETCH, id="past max_stale, at the retry"),
        pytest.param(LOADED.failed(87399.5, 1.0), 87400, Next.UNAVAILABLE, id="past max_stale, before the retry"),
    ],
)
def test_known_kid(schedule: Schedule, now: float, expected: Next) -> None:
    """A known key serves as long as the key set may be trusted, and never a second longer."""
    assert schedule.next(now, known=True) is expected


@pytest.mark.rule("RS-20", "R18", "L07")
@pytest.mark.parametrize(
    ("schedule", "now", "in_flight", "expected"),
    [
        pytest.param(LOADED, 1001, False, Next.REFETCH, id="first unknown kid"),
        pytest.param(LOADED.begun(1001, Next.REFETCH), 1030.9, False, Next.REFUSE, id="within the cooldown"),
        pytest.param(LOADED.begun(1001, Next.REFETCH), 1031, False, Next.REFETCH, id="after the cooldown"),
        pytest.param(LOADED.begun(1001, Next.REFETCH), 1001, True, Next.FETCH, id="join the fetch under way"),
        pytest.param(LOADED.begun(1001, Next.FETCH), 1002, False, Next.REFETCH, id="other fetches start no cooldown"),
        pytest.param(LOADED.begun(1230, Next.REFETCH), 1240, False, Next.FETCH, id="a refresh is due anyway"),
        pytest.param(
            LOADED.begun(1001, Next.REFETCH).failed(1002, 1.0), 1005, False, Next.UNAVAILABLE, id="the refetch failed"
        ),
        pytest.param(
            LOADED.begun(1001, Next.REFETCH).failed(1002, 1.0), 1031, False, Next.REFETCH, id="failed, cooldown over"
        ),
    ],
)
def test_unknown_kid(schedule: Schedule, now: float, in_flight: bool, expected: Next) -> None:
    """An unknown kid causes at most one shared fetch per cooldown, and 503 instead of 401 when nobody can tell."""
    assert schedule.next(now, known=False, in_flight=in_flight) is expected


@pytest.mark.rule("RS-21", "R17")
@pytest.mark.parametrize(
    ("schedule", "now", "known", "in_flight", "expected"),
    [
        pytest.param(EMPTY, 0, False, False, Next.UNAVAILABLE, id="no keys"),
        pytest.param(LOADED, 1001, True, False, Next.SERVE, id="known"),
        pytest.param(FAILED, 1400, True, False, Next.SERVE, id="known, the fetch failed"),
        pytest.param(FAILED, 87400, True, False, Next.UNAVAILABLE, id="known, but too old"),
        pytest.param(LOADED, 1001, False, False, Next.REFUSE, id="unknown"),
        pytest.param(LOADED, 1001, False, True, Next.UNAVAILABLE, id="unknown, the fetch still hangs"),
        pytest.param(FAILED, 1301, False, False, Next.UNAVAILABLE, id="unknown, the fetch failed"),
    ],
)
def test_settled(schedule: Schedule, now: float, known: bool, in_flight: bool, expected: Next) -> None:
    """After waiting there is an answer: 401 only if the issuer itself did not know the kid."""
    assert schedule.settled(now, known=known, in_flight=in_flight) is expected


@pytest.mark.rule("RS-19")
@pytest.mark.parametrize(
    ("said", "used"), [(-5, 60), (0, 60), (59, 60), (60, 60), (300, 300), (3600, 3600), (86400, 3600)]
)
def test_max_age_is_clamped(said: float, used: float) -> None:
    """The server's max-age counts between one minute and one hour."""
    assert clamp_max_age(said) == used
    assert EMPTY.succeeded(0, said).max_age == used


@pytest.mark.rule("RS-21", "R17")
def test_retries_back_off_with_jitter() -> None:
    """Retries wait 1, 2, 4 ... 60 s, less at most half at random, and Retry-After tells it in whole seconds."""
    schedule = EMPTY
    for expected in (1, 2, 4, 8, 16, 32, LAST_RETRY, LAST_RETRY):
        assert schedule.failed(100, 1.0).retry_at == 100 + expected
        assert schedule.failed(100, 0.0).retry_at == 100 + expected / 2
        schedule = schedule.failed(100, 1.0)
        assert schedule.retry_after(100) == expected
    assert EMPTY.retry_after(0) == 1
    assert EMPTY.failed(0, 0.0).retry_after(0.2) == 1


@pytest.mark.rule("RS-21")
def test_success_ends_the_outage() -> None:
    """One success forgets all failures."""
    recovered = FAILED.failed(1400, 1.0).succeeded(1500, 300)
    assert (recovered.failures, recovered.retry_at) == (0, -inf)
    assert recovered.next(1501, known=True) is Next.SERVE


@pytest.mark.rule("RS-19")
@pytest.mark.parametrize(
    ("schedule", "in_flight", "expected"),
    [
        pytest.param(EMPTY, False, -inf, id="nothing yet"),
        pytest.param(LOADED, False, 1240, id="loaded: until the refresh"),
        pytest.param(LOADED, True, 1300, id="refreshing: until max-age"),
        pytest.param(FAILED, False, 1301, id="outage: until the retry"),
        pytest.param(FAILED, True, 87400, id="outage, retrying: until max_stale"),
        pytest.param(replace(FAILED, retry_at=90000), False, 87400, id="never past max_stale"),
        pytest.param(
            Schedule(max_stale=0).succeeded(0, 300).failed(250, 0.0), True, 300, id="max_stale 0: max-age rules"
        ),
    ],
)
def test_wake_at(schedule: Schedule, in_flight: bool, expected: float) -> None:
    """The fast path asks nobody before this instant, so it must not lie past any of the others."""
    assert schedule.wake_at(in_flight=in_flight) == expected
