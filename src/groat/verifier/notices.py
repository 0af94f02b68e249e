"""Which refusals are said aloud, so that they show without any logging being configured, and how often."""

from collections import Counter
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 10.0  # seconds between two warnings for one reason


class Notices:
    """The first refusal of each reason at once, then one every ten seconds with the number of those in between.

    `reason` comes from a closed set, so the memory is bounded. Without a lock: a race costs a line too many.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def due(self, reason: str) -> int | None:
        """How many were held back since the last warning for this reason, or None if this one is, too."""
        now = self._monotonic()
        if now < self._next.get(reason, now):
            self._held[reason] += 1
            return None
        self._next[reason] = now + INTERVAL
        return self._held.pop(reason, 0)
