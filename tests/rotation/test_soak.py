"""The short form of `make rotation-soak`: a key a second under load, on two replicas with four verifiers."""

import pytest

from .soak import faults, soak


@pytest.mark.timeout(120)
@pytest.mark.rule("L04", "L05", "KEY-19", "KEY-20", "KEY-21", "KEY-22", "AS-MD-15", "RS-19", "I4", "I5")
def test_keys_change_every_second_and_nobody_notices() -> None:
    """No live token fails, no key signs too early, a revoked one stops at once; see docs/reliability.md for the long run."""
    report = soak(9.0, 60.0)
    assert faults(report) == [], report
    assert report["verifications"] > 500
