"""Who may be believed about time, before anything is done that nobody can take back (docs/decisions/0034-time.md).

A process has its own clock, which may be wrong. Its witnesses are the monotonic clock, against which the other must not
step, and what the store says: its own clock where it has one, and the horizon, near which the time must be.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from groat.server.log.event_log import EventLog
from groat.server.store import FORGET_AFTER, MAX_SKEW_SECONDS, Condition, Store

MAX_STEP_SECONDS: Final = 5.0
SETTLED_SECONDS: Final = 900.0
AT_ONCE_SECONDS: Final = 1.0
NEAR_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Reading:
    """The time in epoch seconds, of two clocks the earlier; and why nothing irreversible may be done by it.

    `doubt`: None if the time may be trusted. `fault`: None unless this process's clock is certainly wrong, so that it
    should get no requests. Neither stops issuing by itself. `passed`: epoch seconds until which time has passed for
    certain, for what may as well wait; None: until `now`.
    """

    now: int
    doubt: str | None = None
    fault: str | None = None
    passed: int | None = None

    @property
    def trusted(self) -> bool:
        return self.doubt is None


@dataclass(frozen=True, slots=True)
class Clocks:
    """What a look at them shows. `ahead`: of the store's clock, in seconds; None: it has none."""

    trusted: bool
    ahead: float | None
    steps: int
    horizon: int


@dataclass(slots=True)
class TrustedTime:
    """The one who is asked. `clock` is under suspicion, `monotonic` is not; both are arguments so that tests turn them.

    Not noticed: a clock that was wrong from the start, with no other clock at hand, for SETTLED_SECONDS.
    """

    store: Store
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    log: EventLog | None = None
    steps: int = field(default=0, init=False)
    _difference: float = field(init=False)  # of the two clocks
    _since: float = field(init=False)  # when they began to agree, monotonic
    _step: float | None = field(default=0.0, init=False)  # seconds since it was right; None: it never was
    _ahead: float | None = field(default=None, init=False)  # of the store's clock, where it has one
    _horizon: int | None = field(default=None, init=False)
    _begun: tuple[int, float] | None = field(default=None, init=False)  # what the store had seen at first, and when

    def __post_init__(self) -> None:
        self._since, now = self._together()
        self._difference = now - self._since

    async def read(self) -> Reading:
        """Ask the store, and judge. Raises StoreUnavailable."""
        return self.judge(await self.store.condition())

    async def clocks(self) -> Clocks:
        """For the metrics. Raises StoreUnavailable."""
        condition = await self.store.condition()
        reading = self.judge(condition)
        return Clocks(reading.trusted, self._ahead, self.steps, condition.horizon)

    def judge(self, condition: Condition) -> Reading:
        """Judge by a condition that the store has just told."""
        now = self.sample()
        ahead = -(condition.clock_offset or 0.0)
        if condition.clock_offset is not None:
            self._compare(ahead)
        self._horizon = condition.horizon
        fault = self._fault(now, ahead, condition.horizon)
        doubt = fault or self._stepped() or self._far(now, condition.horizon)
        return Reading(int(min(now, now - ahead)), doubt, fault, self._passed(condition))

    def _passed(self, condition: Condition) -> int | None:
        """A lone clock may be minutes off from the start: until it settles, forgetting counts on from what was seen."""
        if self._begun is None:
            self._begun = condition.horizon + FORGET_AFTER, self.monotonic()
        if condition.clock_offset is not None or self._left() <= 0:
            return None
        seen, since = self._begun
        return int(seen + self.monotonic() - since)

    def _compare(self, ahead: float) -> None:
        """Once they agree this process's clock was right; the first look says whether it is to begin with."""
        first, self._ahead = self._ahead is None, ahead
        if abs(ahead) > MAX_SKEW_SECONDS:
            self._step = None if first else self._step
        elif self._step is None:
            self._step = 0.0

    def sample(self) -> float:
        """Compare the two clocks, and return the time by this process's clock; wants to be called every few seconds."""
        since, now = self._together()
        step = now - since - self._difference
        if self._step and self._left() <= 0 and not self._differs():
            self._step = 0.0
        if abs(step) > MAX_STEP_SECONDS:
            if self._step is not None:
                self._step += step
            self._difference, self._since = now - since, since
            if self._ahead is not None:
                self._ahead += step
            self.steps += 1
            self._tell(step)
        return now

    def _together(self) -> tuple[float, float]:
        """Both clocks at one moment: a process that is stopped in between has not seen a step."""
        while True:
            before, now, after = self.monotonic(), self.clock(), self.monotonic()
            if after - before < AT_ONCE_SECONDS:
                return after, now

    def _differs(self) -> bool:
        return self._ahead is not None and abs(self._ahead) > MAX_SKEW_SECONDS

    def steady(self) -> float:
        """The time for what must not jump, such as which key signs: as if a clock that is known to be wrong were right.

        The time without the steps that have not settled, of whichever clock; unless it is not near the horizon and
        another one is: the store's, or this one as it shows now. A clock that never agreed with the store's counts
        least. Asks nobody.
        """
        now = self.sample()
        times = [] if self._step is None else [now - self._step]
        if self._ahead is not None and self._differs():
            times.append(now - self._ahead)
        times.append(now)
        return next(filter(self._is_near, times), times[0])

    def latest(self) -> float:
        """The latest that any clock which may be right says now."""
        return self.steady() + MAX_SKEW_SECONDS

    def _is_near(self, instant: float) -> bool:
        return self._horizon is None or self._horizon < instant <= self._horizon + FORGET_AFTER + NEAR_SECONDS

    def _fault(self, now: float, ahead: float, horizon: int) -> str | None:
        if abs(ahead) > MAX_SKEW_SECONDS:
            return (
                f"this host's clock ({instant(now)}) and the database's ({instant(now - ahead)})"
                f" differ by {abs(ahead):.0f} s"
            )
        if now <= horizon:
            return f"this host's clock ({instant(now)}) is behind what the store has seen ({instant(horizon)})"
        return None

    def _stepped(self) -> str | None:
        if not self.steps or self._left() <= 0:
            return None
        return "this host's clock stepped within the last 15 minutes"

    def _far(self, now: float, horizon: int) -> str | None:
        """After a long pause, or with a wrong clock from the start: which of them nobody can tell."""
        if now <= horizon + FORGET_AFTER + NEAR_SECONDS or self._left() <= 0:
            return None
        return f"this host's clock ({instant(now)}) is far ahead of what the store has seen ({instant(horizon)})"

    def _left(self) -> float:
        return self._since + SETTLED_SECONDS - self.monotonic()

    def _tell(self, step: float) -> None:
        if self.log is not None:
            hint = "nothing is forgotten and no key changes for 15 minutes: docs/guides/clocks.md"
            with contextlib.suppress(OSError):
                self.log.emit("error", "clock.stepped", {"seconds": round(step, 1), "hint": hint})


def instant(seconds: float) -> str:
    """An instant as people read it, in UTC; also of a clock that has lost its senses."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f}"
