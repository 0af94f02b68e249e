"""One issuer's keys, kept current for whoever verifies tokens by them."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final
from weakref import WeakSet

from groat.outbound.clocks import Clocks
from groat.protocol.errors import InvalidToken, JoseError, KeysUnavailable
from groat.protocol.jose import Header
from groat.protocol.jwk import PublicKey, printable
from groat.protocol.key_set import Skipped
from groat.verifier.keys.fetch import MAX_LISTED, FetchError, KeyFetcher, KeySet
from groat.verifier.keys.kept import Flight, Kept, await_landing, wait_for
from groat.verifier.keys.schedule import Next, Schedule
from groat.verifier.observer import Observer

logger = logging.getLogger("groat.verifier")


class KeySource(Kept[KeySet]):
    """The keys of one issuer, for any number of threads, event loops and forked children.

    Nothing is fetched before the first key is asked for. Not checked here: signatures, and anything else about a token
    but its kid and algorithm.
    """

    thread_name = "groat-jwks"

    def __init__(
        self,
        fetcher: KeyFetcher,
        schedule: Schedule,
        *,
        clocks: Clocks = Clocks(),  # noqa: B008 - frozen
        observer: Observer | None = None,
    ) -> None:
        super().__init__(schedule, clocks)
        self._observer = observer
        self._fetcher = fetcher
        self._told: frozenset[Skipped] = frozenset()
        _sources.add(self)

    def known_key(self, header: Header) -> PublicKey | None:
        """The key for this header if it can be had without waiting for a fetch. Raises InvalidToken."""
        if self._monotonic() >= self._wake_at and not self._attend():
            return None
        keys = self._value
        return None if keys is None else _find(keys, header)

    def holds(self, key: PublicKey) -> bool:
        """Whether this very key is still among those that may serve without waiting."""
        if self._monotonic() >= self._wake_at and not self._attend():
            return False
        keys = self._value
        return keys is not None and keys.by_kid.get(key.kid) is key

    def board(self, header: Header | None, *, force: bool = False) -> "Future[None] | None":
        """The flight that a request with this header has to wait for, launched if it is the first to need one.

        None for a header asks for usable keys of any kind. Raises InvalidToken("algorithm").
        """
        return self._board(_anything if header is None else _having(header), force)

    def verdict(self, header: Header) -> PublicKey:
        """The key for this header, for a request that has waited already.

        Raises InvalidToken("key_unknown") or ("algorithm"), and KeysUnavailable when nobody can tell.
        """
        now = self._monotonic()
        with self._lock:
            keys, schedule, in_flight = self._value, self._schedule, self._flight is not None
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

    @property
    def fetcher(self) -> KeyFetcher:
        """How the issuer is asked."""
        return self._fetcher

    @property
    def issuer(self) -> str:
        return self._fetcher.issuer

    def forget(self, *, keys: bool) -> None:
        """Forget what was waited for, so that the next one who needs a key has it fetched; with `keys` those, too."""
        with self._lock:
            if keys:
                self._start_over(Schedule(self._schedule.max_stale, self._schedule.cooldown), None)
            else:
                self._start_over(self._schedule.eager(), self._value)

    def _fetched(self, previous: KeySet | None, started_at: float, rediscover: bool) -> KeySet:
        return self._fetcher.fetch(previous, started_at, rediscover=rediscover)

    def _renewed(self, started_at: float, value: KeySet) -> Schedule:
        return self._schedule.succeeded(started_at, value.max_age)

    def _report(self, flight: Flight, outcome: KeySet | FetchError) -> None:
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


_sources: "Final[WeakSet[KeySource]]" = WeakSet()


def _anything(keys: KeySet | None) -> bool:
    return True


def _having(header: Header) -> Callable[[KeySet | None], bool]:
    return lambda keys: keys is not None and _find(keys, header) is not None


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
