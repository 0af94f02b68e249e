"""How many events of a kind there may be in a time: counted by the throttle and by the log."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

MAX_TRACKED: Final = 20_000
SWEPT: Final = 4  # counters that are looked at to make room for a new one


@dataclass(slots=True)
class Gcra:
    """A leaky bucket per key (generic cell rate algorithm): `limit` events per `window` seconds.

    At most MAX_TRACKED keys; one that counts is never given up for a new one.
    """

    limit: int
    window: float
    _full_at: "OrderedDict[str, float]" = field(default_factory=OrderedDict, repr=False)

    def wait(self, key: str, now: float) -> float:
        """Seconds until one more event would fit; 0 if it fits now."""
        theoretical = self._full_at.get(key)
        if theoretical is None:
            return 0.0
        return max(0.0, theoretical - now - self.window + self.window / self.limit)

    def add(self, key: str, now: float) -> bool:
        """Count one event; False if there is no room for another key."""
        theoretical = self._full_at.pop(key, None)
        if theoretical is None and len(self._full_at) >= MAX_TRACKED and not self._make_room(now):
            return False
        theoretical = max(theoretical or now, now) + self.window / self.limit
        self._full_at[key] = min(theoretical, now + self.window)
        return True

    def counts(self, key: str) -> bool:
        """Whether this key has a bucket."""
        return key in self._full_at

    def _make_room(self, now: float) -> bool:
        """Drop a bucket that has run dry, of a few that were filled longest ago."""
        for _ in range(SWEPT):
            key, theoretical = self._full_at.popitem(last=False)
            if theoretical <= now:
                return True
            self._full_at[key] = theoretical
        return False
