"""Clocks that only the test moves, and waiting for what other threads do."""

import time
from collections.abc import Callable
from typing import Any

from groat.outbound.clocks import Clocks

EPOCH = 1_800_000_000.0


class Clock:
    """Wall clock and monotonic clock in one; `sleep` moves both at once. `random` is fixed."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.sleeps: list[float] = []
        self.random = 0.0
        self.wall_step = 0.0

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.advance(seconds)

    def now(self) -> float:
        return EPOCH + self.elapsed + self.wall_step

    @property
    def clocks(self) -> Clocks:
        return Clocks(self.now, lambda: 1000.0 + self.elapsed, self.sleep, lambda: self.random)

    @property
    def options(self) -> dict[str, Any]:
        """The clocks as an argument of MachineClient."""
        return {"clocks": self.clocks}


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for another thread's work; fail if it does not happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
