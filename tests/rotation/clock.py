"""What the tests of the rotator share: a clock that the test turns, and a key-encryption key."""

from dataclasses import dataclass
from typing import Final

from groat.keys.custody import KeyEncryptionKey

NOW: Final = 1_800_000_000
DAY: Final = 86_400
KEK: Final = KeyEncryptionKey(bytes(range(32)))


@dataclass(slots=True)
class Clock:
    """Epoch seconds that stand still until the test says otherwise."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now
