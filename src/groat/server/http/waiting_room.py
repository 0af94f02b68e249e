"""Where requests wait that proved nothing, in case their client has published a new key: all of them equally long.

An honest request with a new key and a forged one look the same until the client's key set was fetched, and the time of
the answer must not tell whose key sets are fetched at all. So every refusal waits as long, whatever it names
(docs/decisions/0036-foreign-keys.md).
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

PATIENCE: Final = 0.4  # seconds: a fetch from a healthy host takes less
SEATS: Final = 32
SEATS_PER_CLIENT: Final = 4
SEATS_PER_SOURCE: Final = 8


@dataclass(slots=True)
class WaitingRoom:
    """At most so many at once, in all, by claimed client and by source; one more gets its answer at once."""

    patience: float = PATIENCE
    seats: int = SEATS
    _taken: "Counter[tuple[str, str]]" = field(default_factory=Counter)

    @contextlib.contextmanager
    def seat(self, client_id: str, source: str) -> Iterator[bool]:
        """Whether there was a seat; it is given back at the end of the block."""
        bounds = (
            (("all", ""), self.seats),
            (("client", client_id), SEATS_PER_CLIENT),
            (("source", source), SEATS_PER_SOURCE),
        )
        if any(self._taken[key] >= bound for key, bound in bounds):
            yield False
            return
        for key, _ in bounds:
            self._taken[key] += 1
        try:
            yield True
        finally:
            for key, _ in bounds:
                self._taken[key] -= 1
                if not self._taken[key]:
                    del self._taken[key]
