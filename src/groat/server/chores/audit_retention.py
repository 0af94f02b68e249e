"""Retention of the audit trail: its oldest rows go once they are older than `audit.keep`, by trusted time alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from groat.server.operations.audit import forget_audit
from groat.server.operations.operator import Operator
from groat.server.store import StoreConflict
from groat.server.store.trusted_time import TrustedTime
from groat.server.unavailable import Unavailable

LOOK_SECONDS: Final = 3600.0


@dataclass(slots=True)
class AuditRetention:
    """One of every server process; whoever is first does it. `keep`: seconds; 0: for good."""

    operator: Operator
    keep: int
    time: TrustedTime
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.SystemRandom().random

    async def run(self) -> None:
        """Look about every hour until cancelled. Nothing waits for this: what did not work is done at the next look."""
        while self.keep:
            await self.sleep(LOOK_SECONDS * (0.5 + self.jitter()))
            await self.look()

    async def look(self) -> int:
        """Let go what may go; returns how many rows did."""
        gone = 0
        try:
            while some := await forget_audit(self.operator, self.keep, self.time):
                gone += some
        except (Unavailable, StoreConflict):
            pass  # the store is away or the clock in doubt, and both are told elsewhere
        return gone
