"""A bound on the requests that are being served at once, so that a flood meets refusals and not an endless queue."""

import contextlib
from collections.abc import Iterator
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
    `waiting`: those that gave their place back for a while, see `away`.
    """

    limit: int = MAX_IN_FLIGHT
    in_flight: int = field(default=0, init=False)
    reading: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)

    def is_full(self, under_way: int) -> bool:
        """Whether that many requests of the process leave no place, those aside that hold none."""
        return under_way - self.reading - self.waiting >= self.limit

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Give the place back while waiting for somebody else; whoever comes back is not refused.

        Not bounded: how many are away at once; the caller sees to that.
        """
        self.in_flight -= 1
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1
            self.in_flight += 1

    def __enter__(self) -> None:
        if self.in_flight >= self.limit:
            hint = f"{self.limit} requests are being served; add workers or replicas"
            raise TemporarilyUnavailable("overloaded", hint, retry_after=RETRY_AFTER_SECONDS)
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
