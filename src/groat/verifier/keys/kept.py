"""One document of somebody else's, kept current: what `schedule` decides, done with threads that live for one fetch.

A fetch runs in a daemon thread of its own and everybody who needs it waits on the same future, from any thread or
event loop. No lock is held around I/O, so what is at hand never waits for what is not.
"""

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from groat.outbound.clocks import Clocks
from groat.verifier.keys.fetch import DEADLINE, FetchError
from groat.verifier.keys.schedule import Next, Schedule

WAIT: Final = DEADLINE + 0.5  # seconds; a name server may hang longer than the fetch's own deadline
OVERDUE: Final = 3 * DEADLINE  # a fetch that hangs longer is given up, so that the next one may start
_TRIGGERS: Final = {Next.FETCH: "first", Next.REFRESH: "schedule", Next.REFETCH: "unknown_kid"}

Value = TypeVar("Value")


@dataclass(eq=False, slots=True)
class Flight:
    """One fetch under way; `done` always ends in None, whether the fetch succeeded or not."""

    started_at: float
    trigger: str
    life: int
    done: "Future[None]" = field(default_factory=Future)


class Kept(ABC, Generic[Value]):
    """One value for any number of threads, event loops and forked children.

    The monotonic clock is that of every rule. Nothing is fetched before the first one asks.
    """

    thread_name = "groat-fetch"

    def __init__(self, schedule: Schedule, clocks: Clocks) -> None:
        self._schedule = schedule
        self._monotonic = clocks.monotonic
        self._jitter = clocks.random
        self._value: Value | None = None
        self._wake_at = schedule.wake_at()
        self._flight: Flight | None = None
        self._lock = threading.Lock()
        self._problem = FetchError("not fetched yet")
        self._closed = False
        self._life = 0
        _all.add(self)

    @abstractmethod
    def _fetched(self, previous: Value | None, started_at: float, rediscover: bool) -> Value:
        """Visit the other side once; blocks. `rediscover`: the last visit failed. Raises FetchError."""

    @abstractmethod
    def _renewed(self, started_at: float, value: Value) -> Schedule:
        """The schedule, once this value came by the fetch that started then."""

    @abstractmethod
    def _report(self, flight: Flight, outcome: Value | FetchError) -> None:
        """A fetch has ended: for the log and whoever counts."""

    def current(self) -> Value | None:
        """The value, if it may serve without waiting for a fetch."""
        if self._monotonic() >= self._wake_at and not self._attend():
            return None
        return self._value

    def age(self) -> float | None:
        """Seconds since the fetch of what is at hand began; None if there is nothing."""
        loaded_at = self._schedule.loaded_at
        return None if loaded_at is None else self._monotonic() - loaded_at

    def close(self) -> None:
        """Start no more fetches. What is at hand serves on until it is stale."""
        self._closed = True

    def _board(self, known: Callable[[Value | None], bool], force: bool = False) -> "Future[None] | None":
        """The flight that has to be waited for, launched if this is the first to need one; None: there is none.

        `known`: whether this value, or None, has what is asked for. It may raise.
        """
        now = self._monotonic()
        with self._lock:
            next_ = self._schedule.next(now, known=known(self._value), in_flight=self._flight is not None)
            waits = force or next_ in (Next.FETCH, Next.REFETCH)
            begun = self._begin(now, next_) if waits else None
            flight = self._flight if waits else None
        self._launch(begun)
        return None if flight is None else flight.done

    def _attend(self) -> bool:
        """What is at hand needs a look: start what is due. False if it may not serve before a fetch has ended."""
        now = self._monotonic()
        with self._lock:
            next_ = self._schedule.next(now, known=True)
            begun = self._begin(now, next_) if next_ is Next.REFRESH else None
            self._wake_at = self._schedule.wake_at(in_flight=self._flight is not None)
        self._launch(begun)
        return next_ in (Next.SERVE, Next.REFRESH)

    def _begin(self, now: float, why: Next) -> Flight | None:
        """A new flight, unless one is out that may still land. The lock is held."""
        if self._closed or (self._flight is not None and now < self._flight.started_at + OVERDUE):
            return None
        self._schedule = self._schedule.begun(now, why)
        self._flight = Flight(now, _TRIGGERS.get(why, "forced"), self._life)
        return self._flight

    def _launch(self, flight: Flight | None) -> None:
        if flight is None:
            return
        try:
            threading.Thread(target=self._fly, args=(flight,), name=self.thread_name, daemon=True).start()
        except RuntimeError:
            self._land(flight, FetchError("no thread could be started"))

    def _fly(self, flight: Flight) -> None:
        with self._lock:
            previous, rediscover = self._value, self._schedule.failures > 0
        outcome: Value | FetchError
        try:
            outcome = self._fetched(previous, flight.started_at, rediscover)
        except FetchError as error:
            outcome = error.with_traceback(None)
        except Exception as error:
            # A callable given as `http` may raise anything; those who wait must have their answer all the same.
            outcome = FetchError(f"the fetch broke ({type(error).__name__})")
        self._land(flight, outcome)

    def _land(self, flight: Flight, outcome: Value | FetchError) -> None:
        with self._lock:
            if not isinstance(outcome, FetchError):
                self._accept(flight, outcome)
            elif self._flight is flight:
                self._schedule = self._schedule.failed(self._monotonic(), self._jitter())
                self._problem = outcome
            if self._flight is flight:
                self._flight = None
            self._wake_at = self._schedule.wake_at(in_flight=self._flight is not None)
        flight.done.set_result(None)
        self._report(flight, outcome)

    def _accept(self, flight: Flight, value: Value) -> None:
        if flight.life != self._life:
            return  # begun before what was at hand was forgotten: what it brings may be that very thing
        loaded_at = self._schedule.loaded_at
        if loaded_at is None or flight.started_at >= loaded_at:  # a flight that was given up may land late
            self._value = value
            self._schedule = self._renewed(flight.started_at, value)

    def _start_over(self, schedule: Schedule, value: Value | None) -> None:
        """Go on from here, whatever is under way. The lock is held."""
        self._schedule, self._value = schedule, value
        self._flight, self._life = None, self._life + 1
        self._wake_at = schedule.wake_at()

    def _after_fork(self) -> None:
        # The thread of a flight stays in the parent, and any thread there may have held the lock.
        self._lock = threading.Lock()
        self._flight = None
        self._wake_at = self._schedule.wake_at()


def wait_for(flight: "Future[None] | None") -> None:
    """Block until the flight has landed, for 5.5 s at most; what came of it says whoever launched it."""
    if flight is not None:
        with suppress(TimeoutError):  # the verdict sees that the flight is still out
            flight.result(timeout=WAIT)


async def await_landing(flight: "Future[None] | None") -> None:
    """As `wait_for`, without blocking the event loop; cancelling one waiter leaves the fetch to the others."""
    if flight is not None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(flight)), WAIT)


# Whatever has threads that a fork leaves behind.
_all: "Final[WeakSet[Kept[Any]]]" = WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
