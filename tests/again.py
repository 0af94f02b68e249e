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


def run_again() -> int:
    """The exit code: 0 only if at most AT_MOST failed in the last run of this directory and none of them does now."""
    names = sorted(json.loads(_CACHE.read_text())) if _CACHE.exists() else []
    print(f"\nFailed: {len(names)}", *names, sep="\n  ")
    if not 0 < len(names) <= AT_MOST:
        return 1
    print("Once more, alone:", flush=True)
    return int(pytest.main(["-p", "no:xdist", "-p", "no:cacheprovider", *names]))


if __name__ == "__main__":
    sys.exit(run_again())
