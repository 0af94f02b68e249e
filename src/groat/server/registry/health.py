"""Whether this server could issue a token now: the truth behind /readyz, and a line in the log when that changes."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from groat.server.log.event_log import EventLog
from groat.server.registry.registry import Registry
from groat.server.store import MAX_SKEW_SECONDS, Condition, Store
from groat.server.store.trusted_time import TrustedTime
from groat.server.unavailable import StoreClosed, StoreUnavailable, Unavailable

WARN_SKEW_SECONDS: Final = 5.0
WATCH_INTERVAL_SECONDS: Final = 3.0


@dataclass(slots=True)
class Health:
    """Asks the store itself, every time. Not checked: whether a client could reach this server."""

    store: Store
    registry: Registry
    time: TrustedTime
    log: EventLog
    _clocks: str = field(default="", init=False)
    _told: str = field(default="", init=False)
    _lost: str = field(default="", init=False)

    async def fault(self) -> Unavailable | None:
        """Why no token can be issued now, None if one can."""
        fault: Unavailable | None = None
        try:
            await self._check()
        except Unavailable as error:
            fault = error
        self._tell(fault)
        self._tell_loss()
        # Telling may have shown that the log works again.
        return fault if fault is None or fault.reason != "log_unavailable" or self.log.fault else None

    async def _check(self) -> None:
        condition = await self.store.condition()
        self.registry.observe(condition.registry_version)
        if condition.closed_at is not None:
            raise StoreClosed
        if condition.write_fault is not None:
            raise StoreUnavailable(condition.write_fault)
        self._check_clock(condition)  # by a wrong clock there may be no key to sign with either
        await self.registry.check_signer(self.time.clock())
        if self.log.fault is not None:
            raise Unavailable("log_unavailable", f"the log could not be written: {self.log.fault}")

    def _tell(self, fault: Unavailable | None) -> None:
        """Each change of the reason once."""
        reason = "" if fault is None else fault.reason
        if fault is None:
            written = reason == self._told or self._emit("warning", "server.ready", {"was": self._told})
        else:
            hopeful = reason == "log_unavailable"  # the line itself is how to find out
            written = (reason == self._told and not hopeful) or self._emit(
                "error", "server.unready", {"reason": reason, "hint": fault.hint}
            )
        if written:
            self._told = reason

    def _tell_loss(self) -> None:
        """The key that should sign is lost, and another one stands in for it."""
        lost = self.registry.lost
        kid = "" if lost is None else lost.kid
        if lost is None or kid == self._lost or self._emit("error", "key.lost", {"kid": kid, "hint": str(lost)}):
            self._lost = kid

    def _check_clock(self, condition: Condition) -> None:
        fault, offset = self.time.judge(condition).fault, condition.clock_offset or 0.0
        if abs(offset) > WARN_SKEW_SECONDS:
            self._tell_clocks("clock.skew", {"database_ahead_seconds": round(offset, 1)})
        else:
            self._tell_clocks("clock.behind" if fault else "", {"hint": fault} if fault else {})
        if fault:
            raise Unavailable("clock_skew" if abs(offset) > MAX_SKEW_SECONDS else "clock_behind", fault)

    def _tell_clocks(self, event: str, facts: Mapping[str, Any]) -> None:
        """Once for each change."""
        if event != self._clocks:
            self._clocks = event
            self._emit("error" if event else "warning", event or "clock.agrees", facts)

    def _emit(self, level: str, event: str, facts: Mapping[str, Any]) -> bool:
        with contextlib.suppress(OSError):
            self.log.emit(level, event, facts)
            return True
        return False

    async def watch(self) -> None:
        """Look now and then, so that the log tells of it though nobody asks."""
        while True:
            await self.fault()
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
