"""The phases of requests that came together."""

import types
from collections.abc import Generator


class Turns:
    """Lets requests that came together take each step together, and says how many are between two steps.

    One signature between two pieces of Python costs both their caches, so that a step at a time is cheaper
    (docs/decisions/0006-hot-path.md). For one event loop.
    """

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = 0

    @types.coroutine
    def next(self) -> Generator[None, None, None]:
        """Go on in the next turn of the event loop; `asyncio.sleep(0)` in fewer steps, and counted."""
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1
