"""The life of a client's keys: what state each is in, which of them may go, and whom an expiry would lock out.

Pure functions of what is registered and what was noted. Not known here: keys that a client publishes itself
(jwks_uri), and hosts that hold a key without using it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from groat.protocol.key_limits import KeyLimits, OutOfTime

# Server processes note last uses in memory and write them down every few seconds; clocks differ by some more.
LAST_USE_RESOLUTION: Final = 60


class ClientKeyState(StrEnum):
    """What a client's key is at one instant."""

    NOT_YET_VALID = "not_yet_valid"
    VALID = "valid"
    EXPIRING = "expiring"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class KeyLife:
    """One registered key of a client; instants in epoch seconds. `last_used_at`: None if nobody noted a use."""

    kid: str
    created_at: int
    limits: KeyLimits
    last_used_at: int | None = None

    def valid(self, at: float) -> bool:
        """Whether it counts at this instant, by an exact clock."""
        return self.limits.fault(at) is None

    def state(self, now: float, warning: int) -> ClientKeyState:
        """`warning`: how many seconds before its end a key is called expiring."""
        fault, end = self.limits.fault(now), self.limits.expires_at
        if fault is not None:
            return ClientKeyState.EXPIRED if fault is OutOfTime.EXPIRED else ClientKeyState.NOT_YET_VALID
        return ClientKeyState.EXPIRING if end is not None and end < now + warning else ClientKeyState.VALID

    @property
    def last_mattered_at(self) -> int:
        """The last instant at which somebody counted on it: its registration, its not-before, its last use."""
        return max(self.created_at, self.limits.not_before or 0, self.last_used_at or 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a key may be removed without harm, and why or why not, in words."""

    safe: bool
    why: str


def removal_verdict(key: KeyLife, keys: Iterable[KeyLife], now: float, idle: int) -> Verdict:
    """Whether removing `key` from `keys` is safe.

    It is if another key is valid now, and this one has expired, or: nobody used it for `idle` seconds, another valid
    key was used after it, and both are certain although last uses are known to the minute only.
    """
    others = [other for other in keys if other.kid != key.kid and other.valid(now)]
    if not others:
        return Verdict(False, "no other key is valid")
    fault = key.limits.fault(now)
    if fault is OutOfTime.EXPIRED:
        return Verdict(True, "expired")
    if fault is OutOfTime.NOT_YET_VALID:
        return Verdict(False, "its time is still to come")
    if not any((other.last_used_at or 0) > (key.last_used_at or 0) + LAST_USE_RESOLUTION for other in others):
        return Verdict(False, "no other valid key was used since")
    wait = key.last_mattered_at + idle + LAST_USE_RESOLUTION - now
    if wait > 0:
        return Verdict(False, f"wait {span(wait)} without a use of it")
    return Verdict(True, f"not used for {span(now - key.last_mattered_at)}, another key was")


@dataclass(frozen=True, slots=True)
class Expiry:
    """A key whose end is near or just over. `replaced`: whether another key of the client counts from then on."""

    kid: str
    expires_at: int
    replaced: bool


def expiries(keys: Sequence[KeyLife], now: float, warning: int) -> tuple[Expiry, ...]:
    """The ends within `warning` seconds, and those as long ago that leave their client without a valid key."""
    found = []
    for key in keys:
        end = key.limits.expires_at
        if end is None or not now - warning <= end < now + warning:
            continue
        replaced = any(other.valid(max(end, now)) for other in keys if other.kid != key.kid)
        if end > now or not replaced:
            found.append(Expiry(key.kid, end, replaced))
    return tuple(sorted(found, key=lambda expiry: (expiry.expires_at, expiry.kid)))


@dataclass(frozen=True, slots=True)
class ClientExpiry:
    """One client's key that ends soon, or has ended and left the client without any."""

    client_id: str
    expiry: Expiry

    def words(self, now: float) -> str:
        """For people, without the client's name."""
        left, replaced = self.expiry.expires_at - now, self.expiry.replaced
        when = f"expires in {span(left)}" if left > 0 else f"expired {span(-left)} ago"
        return f"key {self.expiry.kid} {when}; " + ("another key takes over" if replaced else "no other key is valid")


def span(seconds: float) -> str:
    """Seconds for people: the largest unit that fits, rounded up, so that no wait is too short."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{-int(-seconds // size)} {unit}"
    return f"{max(1, -int(-seconds // 1))} s"
