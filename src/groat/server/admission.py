"""A bound on the requests that are being served at once, so that a flood meets refusals and not an endless queue."""

from dataclasses import dataclass, field
from typing import Final

from groat.protocol.errors import TemporarilyUnavailable

# Some 100 ms of work for one process: whoever would wait longer is told at once (docs/decisions/0015-admission.md).
MAX_IN_FLIGHT: Final = 256
RETRY_AFTER_SECONDS: Final = 1


@dataclass(slots=True)
class Admission:
    """At most `limit` requests inside `with` at once. Raises TemporarilyUnavailable for one more.

    A request that is refused here has used up nothing. Entered when the body has been read: a place costs work, and
    nobody holds one by sending slowly. Not bounded: connections, and requests that are still being read (`reading`).
    """

    limit: int = MAX_IN_FLIGHT
    in_flight: int = field(default=0, init=False)
    reading: int = field(default=0, init=False)

    def is_full(self, under_way: int) -> bool:
        """Whether that many requests of the process leave no place, those aside whose bodies come slowly."""
        return under_way - self.reading >= self.limit

    def __enter__(self) -> None:
        if self.in_flight >= self.limit:
            hint = f"{self.limit} requests are being served; add workers or replicas"
            raise TemporarilyUnavailable("overloaded", hint, retry_after=RETRY_AFTER_SECONDS)
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
