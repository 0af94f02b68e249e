"""When to fetch an issuer's keys, or what else it publishes: a state, and what follows from it.

No clock, thread, network or chance is in here. Every time is a number of seconds on one monotonic clock, and comes in
as an argument.
"""

from dataclasses import dataclass, replace
from enum import Enum
from math import ceil, inf
from typing import Final

DEFAULT_MAX_AGE: Final = 300.0
MIN_MAX_AGE: Final = 60.0
MAX_MAX_AGE: Final = 3600.0
REFRESH_SHARE: Final = 0.8  # of max-age: from here on a background fetch renews the keys ahead of their time
FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 60.0


class Next(Enum):
    """What to do for one request."""

    SERVE = "the keys at hand are good"
    REFRESH = "the keys at hand are good; renew them in the background"
    FETCH = "wait for one shared fetch"
    REFETCH = "wait for one shared fetch, made because of an unknown kid"
    REFUSE = "the kid is unknown, and the keys are current"
    UNAVAILABLE = "nobody can tell: no usable keys, or no current ones"


def clamp_max_age(seconds: float) -> float:
    """Bring a server's max-age between one minute and one hour (RFC 9111 5.2.2.1; our ceiling for a removed key)."""
    return min(MAX_MAX_AGE, max(MIN_MAX_AGE, seconds))


@dataclass(frozen=True, slots=True)
class Schedule:
    """The life of one key set: when it came, how long it is good for, and what failed since.

    `max_stale`: seconds after loading for which keys may serve while the issuer is out of reach. `cooldown`: seconds
    between two fetches for unknown kids. `last_retry`: the longest wait between two that fail.
    """

    max_stale: float = 86400
    cooldown: float = 30
    loaded_at: float | None = None
    max_age: float = DEFAULT_MAX_AGE
    failures: int = 0
    retry_at: float = -inf
    refetched_at: float = -inf
    last_retry: float = LAST_RETRY

    def next(self, now: float, *, known: bool, in_flight: bool = False) -> Next:
        """Decide for a token whose kid is or is not in the key set at hand.

        `in_flight`: a fetch is under way; FETCH then means joining it.
        """
        if not self.usable(now):
            return Next.FETCH if in_flight or now >= self.retry_at else Next.UNAVAILABLE
        due = self._due(now)
        if known:
            return due
        if in_flight or due is not Next.SERVE:
            return Next.FETCH  # it is made anyway, and may bring the kid
        if now >= max(self.retry_at, self.refetched_at + self.cooldown):
            return Next.REFETCH
        return Next.UNAVAILABLE if self.failures else Next.REFUSE

    def settled(self, now: float, *, known: bool, in_flight: bool = False) -> Next:
        """Decide for a request that has waited already and must have its answer now."""
        if not self.usable(now):
            return Next.UNAVAILABLE
        if known:
            return Next.SERVE
        return Next.UNAVAILABLE if self.failures or in_flight else Next.REFUSE

    def usable(self, now: float) -> bool:
        """Whether the keys at hand may prove anything at all."""
        return self.loaded_at is not None and now < self._dead_at(self.loaded_at)

    def _due(self, now: float) -> Next:
        age = now - (self.loaded_at or 0.0)
        if age < self.max_age * REFRESH_SHARE or now < self.retry_at:
            return Next.SERVE
        # Past max-age a key may have been revoked, so an idle process asks first. Once a fetch has failed the outage
        # is known: requests stop waiting, and the retries go on in the background.
        return Next.FETCH if age >= self.max_age and not self.failures else Next.REFRESH

    def _dead_at(self, loaded_at: float) -> float:
        return loaded_at + max(self.max_age, self.max_stale)

    def wake_at(self, *, in_flight: bool = False) -> float:
        """Until when known keys may serve without asking again."""
        if self.loaded_at is None:
            return -inf
        dead_at = self._dead_at(self.loaded_at)
        if in_flight:
            return dead_at if self.failures else self.loaded_at + self.max_age
        return min(dead_at, max(self.retry_at, self.loaded_at + self.max_age * REFRESH_SHARE))

    def retry_after(self, now: float) -> int:
        """Whole seconds until another attempt, for Retry-After; at least 1."""
        return max(1, ceil(min(self.retry_at - now, self.last_retry))) if self.retry_at > now else 1

    def begun(self, now: float, why: Next) -> "Schedule":
        """A fetch starts; only one that an unknown kid caused starts the cooldown."""
        return replace(self, refetched_at=now) if why is Next.REFETCH else self

    def eager(self) -> "Schedule":
        """As if nothing had failed, and no kid been unknown, until now."""
        return replace(self, failures=0, retry_at=-inf, refetched_at=-inf)

    def succeeded(self, started_at: float, max_age: float) -> "Schedule":
        """The fetch that started then brought keys that are good for `max_age` seconds."""
        return self.renewed(started_at, clamp_max_age(max_age), self.max_stale)

    def renewed(self, started_at: float, max_age: float, max_stale: float) -> "Schedule":
        """The same, of what says itself how long it is good and how long it may serve."""
        return replace(self, loaded_at=started_at, max_age=max_age, max_stale=max_stale, failures=0, retry_at=-inf)

    def failed(self, now: float, jitter: float) -> "Schedule":
        """A fetch failed: wait twice as long each time, 1 to 60 s, less a random part (`jitter`: 0 to 1)."""
        delay = min(self.last_retry, FIRST_RETRY * 2.0 ** min(self.failures, 10))
        return replace(self, failures=self.failures + 1, retry_at=now + delay * (0.5 + jitter / 2))
