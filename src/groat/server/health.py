"""Whether this server could issue a token now: the truth behind /readyz, and a line in the log when a clock drifts."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from groat.server.event_log import EventLog
from groat.server.registry import Registry
from groat.server.store import Store, StoreUnavailable

WARN_SKEW_SECONDS: Final = 5.0
MAX_SKEW_SECONDS: Final = 30.0
WATCH_INTERVAL_SECONDS: Final = 10.0


@dataclass(slots=True)
class Health:
    """Asks the store itself, every time. Not checked: whether a client could reach this server."""

    store: Store
    registry: Registry
    clock: Callable[[], float]
    log: EventLog
    _drifting: bool = field(default=False, init=False)

    async def fault(self) -> str | None:
        """Why no token can be issued now, None if one can."""
        try:
            condition = await self.store.condition()
            self.registry.observe(condition.registry_version)
            await self.registry.signer(self.clock())
        except StoreUnavailable as error:
            return str(error)
        if condition.closed_at is not None:
            return "the store is closed: its contents moved to another one"
        if condition.write_fault is not None:
            return condition.write_fault
        offset = condition.clock_offset or 0.0
        self._tell(offset)
        if abs(offset) > MAX_SKEW_SECONDS:
            return f"the clocks of server and database differ by {abs(offset):.0f} s"
        return None

    def _tell(self, offset: float) -> None:
        drifting = abs(offset) > WARN_SKEW_SECONDS
        if drifting != self._drifting:
            self._drifting = drifting
            level, event = ("error", "clock.skew") if drifting else ("warning", "clock.agrees")
            with contextlib.suppress(OSError):
                self.log.emit(level, event, {"database_ahead_seconds": round(offset, 1)})

    async def watch(self) -> None:
        """Look now and then, so that the log tells of a drift though nobody asks."""
        while True:
            await self.fault()
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
