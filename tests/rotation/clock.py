"""What the tests of the rotator share: a clock that the test turns, and a key-encryption key."""

from dataclasses import dataclass, replace
from typing import Final

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.server.store import Condition, Store
from groat.server.store.trusted_time import Reading, TrustedTime

NOW: Final = 1_800_000_000
DAY: Final = 86_400
KEK: Final = KeyEncryptionKey(bytes(range(32)))


@dataclass(slots=True)
class Clock:
    """Epoch seconds that stand still until the test says otherwise."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def settled_time(store: Store, clock: Clock) -> TrustedTime:
    """What a process believes that has run evenly for as long as is needed, however far its clock is turned."""
    time = TrustedTime(store, clock, clock)
    time._since = float("-inf")
    return time


class DistantTime(TrustedTime):
    """That of a world in which the database has the clock of the test, too."""

    def judge(self, condition: Condition) -> Reading:
        self._since = float("-inf")
        return super().judge(replace(condition, clock_offset=0.0))
