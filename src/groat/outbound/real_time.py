"""Deadlines on the clock that nobody turns."""

import time
from collections.abc import Callable


def monotonic(*, clock: Callable[[], float] = time.monotonic) -> float:
    """Monotonic seconds for a deadline, whatever a test has made of `time.monotonic`.

    Libraries that freeze time put another function in its place, in some modules and threads only. Two of them in one
    subtraction make an end that is past at once, or never comes; so the real one is bound here, when this is imported.
    """
    return clock()


def remaining(deadline: float) -> float:
    """Seconds until the deadline, by `monotonic`. Raises TimeoutError when there are none."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
