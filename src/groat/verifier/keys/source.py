"""One issuer's keys, kept current: what `schedule` decides, done with threads that live for one fetch.

A fetch runs in a daemon thread of its own and everybody who needs it waits on the same future, from any thread or
event loop. No lock is held around I/O, so known keys never wait for an unknown one.
"""

import asyncio
import logging
import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakSet

from groat.outbound.clocks import Clocks
from groat.protocol.errors import InvalidToken, JoseError, KeysUnavailable
from groat.protocol.jose import Header
from groat.protocol.jwk import PublicKey, printable
from groat.protocol.key_set import Skipped
from groat.verifier.keys.fetch import DEADLINE, MAX_LISTED, FetchError, KeyFetcher, KeySet
from groat.verifier.keys.schedule import Next, Schedule
from groat.verifier.observer import Observer

logger = logging.getLogger("groat.verifier")

WAIT: Final = DEADLINE + 0.5  # seconds; a name server may hang longer than the fetch's own deadline
OVERDUE: Final = 3 * DEADLINE  # a fetch that hangs longer is given up, so that the next one may start


@dataclass(eq=False, slots=True)
class _Flight:
    """One fetch under way; `done` always ends in None, whether the fetch succeeded or not."""

    started_at: float
    trigger: str
    life: int
    done: "Future[None]" = field(default_factory=Future)


_TRIGGERS: Final = {Next.FETCH: "first", Next.REFRESH: "schedule", Next.REFETCH: "unknown_kid"}
_sources: "WeakSet[KeySource]" = WeakSet()


class KeySource:
    """The keys of one issuer, for any number of threads, event loops and forked children.

    The monotonic clock is that of every rule. Nothing is fetched before the first key is asked for. Not checked here:
    signatures, and anything else about a token but its kid and algorithm.
    """

    def __init__(
        self,
        fetcher: KeyFetcher,
        schedule: Schedule,
        *,
        clocks: Clocks = Clocks(),  # noqa: B008 - frozen
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer
        self._fetcher = fetcher
        self._schedule = schedule
        self._monotonic = clocks.monotonic
        self._jitter = clocks.random
        self._keys: KeySet | None = None
        self._wake_at = schedule.wake_at()
        self._flight: _Flight | None = None
        self._lock = threading.Lock()
        self._problem = FetchError("not fetched yet")
        self._told: frozenset[Skipped] = frozenset()
        self._closed = False
        self._life = 0
        _sources.add(self)

    def known_key(self, header: Header) -> PublicKey | None:
        """The key for this header if it can be had without waiting for a fetch. Raises InvalidToken."""
        if self._monotonic() >= self._wake_at and not self._attend():
            return None
        keys = self._keys
        return None if keys is None else _find(keys, header)

    def holds(self, key: PublicKey) -> bool:
        """Whether this very key is still among those that may serve without waiting."""
        if self._monotonic() >= self._wake_at and not self._attend():
            return False
        keys = self._keys
        return keys is not None and keys.by_kid.get(key.kid) is key

    def board(self, header: Header | None, *, force: bool = False) -> "Future[None] | None":
        """The flight that a request with this header has to wait for, launched if it is the first to need one.

        None for a header asks for usable keys of any kind. Raises InvalidToken("algorithm").
        """
        now = self._monotonic()
        with self._lock:
            known = header is None or (self._keys is not None and _find(self._keys, header) is not None)
            next_ = self._schedule.next(now, known=known, in_flight=self._flight is not None)
            waits = force or next_ in (Next.FETCH, Next.REFETCH)
            begun = self._begin(now, next_) if waits else None
            flight = self._flight if waits else None
        self._launch(begun)
        return None if flight is None else flight.done

    def verdict(self, header: Header) -> PublicKey:
        """The key for this header, for a request that has waited already.

        Raises InvalidToken("key_unknown") or ("algorithm"), and KeysUnavailable when nobody can tell.
        """
        now = self._monotonic()
        with self._lock:
            keys, schedule, in_flight = self._keys, self._schedule, self._flight is not None
        key = None if keys is None else _find(keys, header)
        next_ = schedule.settled(now, known=key is not None, in_flight=in_flight)
        if key is not None and next_ is Next.SERVE:
            return key
        if next_ is Next.REFUSE:
            raise InvalidToken("key_unknown", self._unknown(keys, header))
        raise self._unavailable(schedule, now)

    def load(self, *, force: bool = False) -> None:
        """Have usable keys when this returns; `force` fetches even if they are current. Raises KeysUnavailable."""
        wait_for(self.board(None, force=force))
        self._require_loaded(force)

    async def aload(self, *, force: bool = False) -> None:
        """As `load`, without blocking the event loop."""
        await await_landing(self.board(None, force=force))
        self._require_loaded(force)

    def close(self) -> None:
        """Start no more fetches. Keys at hand serve on until they are stale."""
        self._closed = True

    @property
    def issuer(self) -> str:
        return self._fetcher.issuer

    def forget(self, *, keys: bool) -> None:
        """Forget what was waited for, so that the next one who needs a key has it fetched; with `keys` those, too."""
        with self._lock:
            if keys:
                self._keys, self._schedule = None, Schedule(self._schedule.max_stale, self._schedule.cooldown)
            else:
                self._schedule = self._schedule.eager()
            self._flight, self._life = None, self._life + 1
            self._wake_at = self._schedule.wake_at()

    def _attend(self) -> bool:
        """Known keys need a look: start what is due. False if they may not serve before a fetch has ended."""
        now = self._monotonic()
        with self._lock:
            next_ = self._schedule.next(now, known=True)
            begun = self._begin(now, next_) if next_ is Next.REFRESH else None
            self._wake_at = self._schedule.wake_at(in_flight=self._flight is not None)
        self._launch(begun)
        return next_ in (Next.SERVE, Next.REFRESH)

    def _begin(self, now: float, why: Next) -> _Flight | None:
        """A new flight, unless one is out that may still land. The lock is held."""
        if self._closed or (self._flight is not None and now < self._flight.started_at + OVERDUE):
            return None
        self._schedule = self._schedule.begun(now, why)
        self._flight = _Flight(now, _TRIGGERS.get(why, "forced"), self._life)
        return self._flight

    def _launch(self, flight: _Flight | None) -> None:
        if flight is None:
            return
        try:
            threading.Thread(target=self._fly, args=(flight,), name="groat-jwks", daemon=True).start()
        except RuntimeError:
            self._land(flight, FetchError("no thread could be started"))

    def _fly(self, flight: _Flight) -> None:
        with self._lock:
            previous, rediscover = self._keys, self._schedule.failures > 0
        outcome: KeySet | FetchError
        try:
            outcome = self._fetcher.fetch(previous, flight.started_at, rediscover=rediscover)
        except FetchError as error:
            outcome = error.with_traceback(None)
        except Exception as error:
            # A callable given as `http` may raise anything; those who wait must have their answer all the same.
            outcome = FetchError(f"the fetch broke ({type(error).__name__})")
        self._land(flight, outcome)

    def _land(self, flight: _Flight, outcome: KeySet | FetchError) -> None:
        with self._lock:
            if isinstance(outcome, KeySet):
                self._accept(flight, outcome)
            elif self._flight is flight:
                self._schedule = self._schedule.failed(self._monotonic(), self._jitter())
                self._problem = outcome
            if self._flight is flight:
                self._flight = None
            self._wake_at = self._schedule.wake_at(in_flight=self._flight is not None)
        flight.done.set_result(None)
        self._report(flight, outcome)

    def _accept(self, flight: _Flight, keys: KeySet) -> None:
        if flight.life != self._life:
            return  # begun before `forget`: what it brings may be what was to be forgotten
        loaded_at = self._schedule.loaded_at
        if loaded_at is None or flight.started_at >= loaded_at:  # a flight that was given up may land late
            self._keys = keys
            self._schedule = self._schedule.succeeded(flight.started_at, keys.max_age)

    def age(self) -> float | None:
        """Seconds since the fetch of the keys at hand began; None if there are none."""
        loaded_at = self._schedule.loaded_at
        return None if loaded_at is None else self._monotonic() - loaded_at

    def _report(self, flight: _Flight, outcome: KeySet | FetchError) -> None:
        if self._observer is not None:
            result = "ok" if isinstance(outcome, KeySet) else "failed"
            self._observer.refreshed(self._fetcher.issuer, result, flight.trigger)
        if isinstance(outcome, KeySet):
            logger.debug("keys loaded: issuer=%s keys=%d", self._fetcher.issuer, len(outcome.by_kid))
        else:
            logger.warning("keys not loaded: issuer=%s reason=%s", self._fetcher.issuer, outcome)

    def _unknown(self, keys: KeySet | None, header: Header) -> str:
        """Why no key fits. A key that is there but was skipped gets one warning: its issuer has to mend it."""
        skipped = keys.overlooked(header)[:MAX_LISTED] if keys is not None else ()
        fresh = [entry for entry in skipped if entry not in self._told]
        if keys is not None and fresh:
            self._told = (self._told & frozenset(keys.skipped)).union(fresh)
            logger.warning("keys unusable: issuer=%s %s", self._fetcher.issuer, "; ".join(map(str, fresh)))
        which = f"no key with kid {printable(header.kid)}" if header.kid else f"no key for {header.algorithm.name}"
        return f"{which} is usable: {'; '.join(entry.why for entry in skipped)}" if skipped else which

    def _unavailable(self, schedule: Schedule, now: float) -> KeysUnavailable:
        return KeysUnavailable(str(self._problem), schedule.retry_after(now), self._problem.request_id)

    def _require_loaded(self, force: bool) -> None:
        now, schedule = self._monotonic(), self._schedule
        if not schedule.usable(now) or (force and schedule.failures):
            raise self._unavailable(schedule, now)

    def _after_fork(self) -> None:
        # The thread of a flight stays in the parent, and any thread there may have held the lock.
        self._lock = threading.Lock()
        self._flight = None
        self._wake_at = self._schedule.wake_at()


def wait_for(flight: "Future[None] | None") -> None:
    """Block until the flight has landed, for 5.5 s at most; what came of it says `KeySource.verdict`."""
    if flight is not None:
        with suppress(TimeoutError):  # the verdict sees that the flight is still out
            flight.result(timeout=WAIT)


async def await_landing(flight: "Future[None] | None") -> None:
    """As `wait_for`, without blocking the event loop; cancelling one waiter leaves the fetch to the others."""
    if flight is not None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(flight)), WAIT)


def _find(keys: KeySet, header: Header) -> PublicKey | None:
    try:
        return keys.find(header)
    except JoseError as error:
        raise InvalidToken(error.reason, error.hint) from None


def forget(issuer: str, *, keys: bool) -> None:
    """`KeySource.forget` for whoever in this process has keys of this issuer; for tests."""
    for source in list(_sources):
        if source.issuer == issuer:
            source.forget(keys=keys)


def _after_fork() -> None:
    for source in list(_sources):
        source._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
