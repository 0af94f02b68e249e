"""Whether this server could issue a token now: the truth behind /readyz, and a line in the log when a clock drifts."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

from groat.server.event_log import EventLog
from groat.server.registry import Registry
from groat.server.store import Condition, Store, StoreUnavailable
from groat.server.trusted_time import TrustedTime

WARN_SKEW_SECONDS: Final = 5.0
WATCH_INTERVAL_SECONDS: Final = 10.0


@dataclass(slots=True)
class Health:
    """Asks the store itself, every time. Not checked: whether a client could reach this server."""

    store: Store
    registry: Registry
    time: TrustedTime
    log: EventLog
    _told: str | None = field(default=None, init=False)

    async def fault(self) -> str | None:
        """Why no token can be issued now, None if one can."""
        try:
            condition = await self.store.condition()
            self.registry.observe(condition.registry_version)
            await self.registry.signer(self.time.clock())
        except StoreUnavailable as error:
            return str(error)
        if condition.closed_at is not None:
            return "the store is closed: its contents moved to another one"
        if condition.write_fault is not None:
            return condition.write_fault
        return self._clock_fault(condition)

    def _clock_fault(self, condition: Condition) -> str | None:
        fault = self.time.judge(condition).fault
        offset = condition.clock_offset or 0.0
        if abs(offset) > WARN_SKEW_SECONDS:
            self._tell("clock.skew", {"database_ahead_seconds": round(offset, 1)})
        else:
            self._tell("clock.behind" if fault else None, {"hint": fault} if fault else {})
        return fault

    def _tell(self, event: str | None, facts: dict[str, Any]) -> None:
        """Once for each change."""
        if event != self._told:
            self._told = event
            with contextlib.suppress(OSError):
                self.log.emit("error" if event else "warning", event or "clock.agrees", facts)

    async def watch(self) -> None:
        """Look now and then, so that the log tells of a drift though nobody asks."""
        while True:
            await self.fault()
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
