"""The rotator: one task in every server process, workers and replicas alike, that does what the schedule says is due.

None of them leads. Each step is written under the registry version it was judged by, so one process makes it and the
others find it made. A step that fails is asked for again at the next look: the ring is safe between any two steps.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from groat.keys.ring.schedule import Change, Timing
from groat.protocol.errors import ConfigError
from groat.server.operations.signing_keys import Ring, apply_next_step
from groat.server.store import StoreConflict
from groat.server.store.trusted_time import TrustedTime
from groat.server.unavailable import Unavailable

Sleep = Callable[[float], Awaitable[None]]
LOOK_SECONDS: Final = 30.0
SPARE_SECONDS: Final = 600.0
SPARED: Final = (
    "uses that are remembered name this key, or are too many to look through; it is destroyed when none does"
)
MAX_STEPS: Final = 50  # of one look; what is left then is done at the next


@dataclass(slots=True)
class Rotator:
    """Looks every half minute or so, by the `timing` that is then in force.

    `sleep` and `jitter` (0 to 1) are arguments so that a test can turn the clock.
    """

    ring: Ring
    timing: Callable[[], Timing]
    time: TrustedTime
    sleep: Sleep = asyncio.sleep
    jitter: Callable[[], float] = random.SystemRandom().random
    _spared: set[str] = field(default_factory=set, init=False)
    _told: set[str] = field(default_factory=set, init=False)
    _forgets_at: float = field(default=float("-inf"), init=False)  # monotonic

    @property
    def pause(self) -> float:
        """Seconds from one look to the next; a tenth of a rotation where keys change faster than that."""
        rotate_every = self.timing().rotate_every
        often = rotate_every / 10 if rotate_every else LOOK_SECONDS
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
        """Make every step that is due; returns how many this process made. Raises Unavailable, ConfigError.

        Nothing happens while the time is in doubt: a key that is rotated or destroyed by a wrong clock stays so.
        """
        made = 0
        self._forget_spared()
        for _ in range(MAX_STEPS):
            try:
                if await self._step() is None:
                    break
                made += 1
            except StoreConflict:
                continue  # another process was first: see what is left to do
        return made

    async def _step(self) -> Change | None:
        known = set(self._spared)
        try:
            return await apply_next_step(self.ring, self.timing(), self.time, self._spared)
        finally:
            for kid in self._spared - known - self._told:
                self._told.add(kid)
                self.ring.operator.audit.operated("key.spared", {"kid": kid, "hint": SPARED})

    def _forget_spared(self) -> None:
        """Ask again now and then whether they are still in use; not at each look, for it may read every use."""
        now = self.time.monotonic()
        if now >= self._forgets_at:
            self._forgets_at = now + SPARE_SECONDS
            self._spared.clear()

    def _report(self, error: Exception, before: str) -> str:
        """Log it unless it was logged; returns what is compared the next time, without what changes by the second."""
        expected = isinstance(error, (Unavailable, ConfigError))
        hint = str(error) if expected else f"{type(error).__name__}: a bug"
        doubt = isinstance(error, Unavailable) and error.reason == "clock_in_doubt"
        problem = "clock_in_doubt" if doubt else hint
        if problem != before:
            event = "key.rotation_waits" if doubt else "key.rotation_failed"
            self.ring.operator.audit.troubled(event, {"hint": hint})
        return problem
