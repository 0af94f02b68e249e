"""Fixtures of the verifier's tests."""

import time
from collections.abc import Iterator

import pytest

from groat.verifier import Verifier
from tests.verifier.issuer import Clock, Issuer, serving


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.fixture
def monotonic() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def wall() -> Clock:
    return Clock(time.time())


@pytest.fixture(scope="module")
def running() -> Iterator[Issuer]:
    """One issuer for a module whose tests leave it as it is."""
    with serving() as shared:
        yield shared


@pytest.fixture
def verifier(issuer: Issuer, monotonic: Clock, wall: Clock) -> Verifier:
    return issuer.verifier(monotonic=monotonic, clock=wall)
