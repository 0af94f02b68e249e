"""Run once more what failed, alone: `python -m tests.again`, after a run of pytest.

A host that stops for half a second breaks a bound that a test holds something to; beside nothing else it holds. What
is broken fails again, and more than a few failures are never looked at twice. Every one is named either way.
"""

import json
import sys
from pathlib import Path
from typing import Final

import pytest

AT_MOST: Final = 3
_CACHE: Final = Path(".pytest_cache/v/cache/lastfailed")
# How the last run ended, written by tests/conftest.py: one that broke off says nothing about the tests it did not run.
ENDED: Final = Path(".pytest_cache/ended")


def run_again() -> int:
    """The exit code: 0 only if a whole run of this directory failed at AT_MOST tests and none of them does now."""
    names = sorted(json.loads(_CACHE.read_text())) if _CACHE.exists() else []
    print(f"\nFailed: {len(names)}", *names, sep="\n  ")
    whole = ENDED.exists() and ENDED.read_text() == str(int(pytest.ExitCode.TESTS_FAILED))
    if not (whole and 0 < len(names) <= AT_MOST and all("::" in name for name in names)):
        return 1
    print("Once more, alone:", flush=True)
    return int(pytest.main(["-p", "no:xdist", "-p", "no:cacheprovider", *names]))


if __name__ == "__main__":
    sys.exit(run_again())
