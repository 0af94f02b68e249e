"""Forgetting what no longer needs remembering, a small slice at a time, off the path of any request.

The horizon is raised first, by trusted time alone; what lies below it may go by nobody's clock.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from groat.server.store import FORGET_AFTER, PURGE_CHUNK, Store, StoreUnavailable
from groat.server.store.trusted_time import TrustedTime

INTERVAL_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 10.0
STEP_SECONDS: Final = 30  # the registry's row is not written anew for less, by however many processes


@dataclass(slots=True)
class Forgetter:
    """One of every server process; any number of them share the work."""

    store: Store
    time: TrustedTime
    _looked: float = field(default=float("-inf"), init=False)

    async def run(self) -> None:
        """Forget until cancelled. A store that cannot purge cannot issue either, and says so on the requests."""
        dropped = 0
        while True:
            # After a whole chunk there is more; others want their turn all the same.
            await asyncio.sleep(PAUSE_SECONDS if dropped >= PURGE_CHUNK else INTERVAL_SECONDS)
            dropped = 0
            self.time.sample()
            with contextlib.suppress(StoreUnavailable):
                await self._look_now_and_then()
                dropped = await self.store.forget_expired()

    async def _look_now_and_then(self) -> None:
        now = self.time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            await self.move_horizon()

    async def move_horizon(self) -> bool:
        """Raise the horizon to where trusted time lets it be; returns whether it was. Raises StoreUnavailable."""
        condition = await self.store.condition()
        reading = self.time.judge(condition)
        passed = reading.now if reading.passed is None else min(reading.now, reading.passed)
        horizon = passed - FORGET_AFTER
        if not reading.trusted or horizon < condition.horizon + STEP_SECONDS:
            return False
        await self.store.raise_horizon(horizon)
        return True
