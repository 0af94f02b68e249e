"""The rotator: one task in every server process, workers and replicas alike, that does what the schedule says is due.

None of them leads. Each step is written under the registry version it was judged by, so one process makes it and the
others find it made. A step that fails is asked for again at the next look: the ring is safe between any two steps.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from groat.keys.custody import Custody
from groat.keys.schedule import Timing
from groat.protocol.errors import ConfigError
from groat.server.key_operations import apply_next_step
from groat.server.operator import Operator
from groat.server.store import StoreConflict, StoreUnavailable

Sleep = Callable[[float], Awaitable[None]]
LOOK_SECONDS: Final = 30.0
MAX_STEPS: Final = 50  # of one look; what is left then is done at the next


@dataclass(slots=True)
class Rotator:
    """Looks every half minute or so, by the `timing` then in force.

    `sleep` and `jitter` (0 to 1) are arguments so that a test can turn the clock.
    """

    operator: Operator
    custody: Custody
    algorithm: str
    timing: Timing
    sleep: Sleep = asyncio.sleep
    jitter: Callable[[], float] = random.SystemRandom().random

    @property
    def pause(self) -> float:
        """Seconds from one look to the next; a tenth of a rotation where keys change faster than that."""
        often = self.timing.rotate_every / 10 if self.timing.rotate_every else LOOK_SECONDS
        return min(LOOK_SECONDS, often) * (0.5 + self.jitter())

    async def run(self) -> None:
        """Look until cancelled. No failure ends it: each is logged once, until a look succeeds again."""
        problem = ""
        while True:
            try:
                await self.look()
                problem = ""
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a bug here must not end rotation silently
                problem = self._report(error, problem)
            await self.sleep(self.pause)

    async def look(self) -> int:
        """Make every step that is due; returns how many this process made. Raises StoreUnavailable, ConfigError."""
        made = 0
        for _ in range(MAX_STEPS):
            try:
                if await apply_next_step(self.operator, self.custody, self.algorithm, self.timing) is None:
                    break
                made += 1
            except StoreConflict:
                continue  # another process was first: see what is left to do
        return made

    def _report(self, error: Exception, before: str) -> str:
        expected = isinstance(error, (StoreUnavailable, ConfigError))
        problem = str(error) if expected else f"{type(error).__name__}: a bug"
        if problem != before:
            self.operator.audit.troubled("key.rotation_failed", {"hint": problem})
        return problem
