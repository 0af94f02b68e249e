"""Places for requests that wait long: few enough that connections are left for those that do not."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SEATS: Final = 2048
SEATS_PER_SOURCE: Final = 512
SHARE: Final = 2  # of the connections of a process one in so many


@dataclass(slots=True)
class Seats:
    """Of one process. Whoever waits holds a connection that nobody takes away from him."""

    taken: int = field(default=0, init=False)
    _by_source: "Counter[str]" = field(default_factory=Counter, init=False)

    @contextlib.contextmanager
    def seat(self, source: str, connections: float) -> Iterator[bool]:
        """Whether there was one, of a process with so many connections; it is given back at the end of the block."""
        if self.taken >= min(SEATS, connections // SHARE) or self._by_source[source] >= SEATS_PER_SOURCE:
            self._tidy(source)
            yield False
            return
        self.taken += 1
        self._by_source[source] += 1
        try:
            yield True
        finally:
            self.taken -= 1
            self._by_source[source] -= 1
            self._tidy(source)

    def _tidy(self, source: str) -> None:
        if not self._by_source[source]:
            del self._by_source[source]
