"""When to try again, and when to refresh: pure schedules. All times are seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from groat.protocol.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a token request is tried: `retries` more times, within `total` in all.

    `base` and `cap` bound the exponential backoff, of which a random share is waited (full jitter).
    """

    retries: int = 3
    base: float = 0.5
    cap: float = 8.0
    total: float = 30.0

    def __post_init__(self) -> None:
        if self.retries < 0 or self.total <= 0 or self.base < 0 or self.cap < 0:
            raise ConfigError("RetryPolicy: retries, base and cap must not be negative, total must be positive")

    def delay(self, attempt: int, asked: float | None, random: float) -> float:
        """How long to wait after failed attempt 0, 1, ...; `asked`: what Retry-After says, which is never undercut."""
        return (asked or 0.0) + random * min(self.cap, self.base * 2.0**attempt)


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """When a token is renewed, as shares of its life.

    From `soft` (minus a random part of `jitter`) on, one background request renews it while it stays in use. Nobody
    gets it within the guard: the larger of `guard` seconds and `guard_share` of its life, at most a quarter of it.
    `default_lifetime`: for answers without expires_in. `max_lifetime`: no token is kept for longer. `pause`: between
    failed background requests.
    """

    soft: float = 0.8
    jitter: float = 0.1
    guard: float = 10.0
    guard_share: float = 0.05
    default_lifetime: float = 60.0
    max_lifetime: float = 86400.0
    pause: float = 5.0

    def __post_init__(self) -> None:
        shares_ok = 0 < self.soft <= 0.9 and 0 <= self.jitter <= 0.3 and 0 <= self.guard_share <= 0.5
        if not shares_ok or self.guard < 0 or self.default_lifetime <= 0 or self.max_lifetime <= 0 or self.pause < 0:
            raise ConfigError("RefreshPolicy: a share or a time is out of its range")

    def hard_age(self, lifetime: float) -> float:
        """The age from which a token is no longer handed out."""
        return lifetime - min(max(self.guard, self.guard_share * lifetime), lifetime / 4)

    def soft_age(self, lifetime: float, random: float) -> float:
        """The age from which a token is renewed in the background; always before `hard_age`.

        It also lies before min(30 s, 10 % of the life) from the end, because `soft` is at most 90 %.
        """
        hard = self.hard_age(lifetime)
        return min(self.soft * lifetime, hard - (lifetime - hard)) - random * self.jitter * lifetime


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The Retry-After header in seconds from `now` (epoch), or None if absent or nonsense (RFC 9110 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    instant = http_date(text)
    return None if instant is None else max(0.0, instant - now)


def http_date(text: str) -> float | None:
    """An HTTP-date as epoch seconds, or None (RFC 9110 5.6.7)."""
    try:
        instant = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
