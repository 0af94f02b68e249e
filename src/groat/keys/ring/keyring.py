"""The signing keys over time: pending, active, retiring, removed.

A state is never stored: it follows from three instants and the clock, so every replica reaches the same answer
without a scheduler. A key is published before it signs, and stays published until the last token it signed is dead
(invariants: no verifier ever meets an unknown kid, no valid token loses its key).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from groat.protocol.jwk import PublicKey

# A verifier may keep a JWKS for as long as its own ceiling allows, whatever max-age said (protocol: 60..3600 s).
VERIFIER_CACHE_CEILING: Final = 3600
# How far apart any two clocks of servers and verifiers may be, the time that a change takes to commit included.
CLOCK_SKEW: Final = 60
JWKS_MAX_AGE: Final = 300
PUBLISH_LEAD: Final = JWKS_MAX_AGE + VERIFIER_CACHE_CEILING + CLOCK_SKEW
# `activates_at` of a key that is published and waits for an operator: the last second of the year 9999.
HELD: Final = 253_402_300_799


class KeyState(StrEnum):
    """What a signing key does now: is published only, signs, is published only again, is gone."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One issuer key and its instants in epoch seconds; None means "not planned yet".

    Signs from `activates_at` until `retires_at`, is in the JWKS until `removes_at`.
    """

    public: PublicKey
    created_at: int
    activates_at: int
    retires_at: int | None = None
    removes_at: int | None = None
    sealed: bytes = b""

    @property
    def kid(self) -> str:
        return self.public.kid

    @property
    def held(self) -> bool:
        """Published, and not planned to sign before somebody says so."""
        return self.activates_at >= HELD

    @property
    def revoked(self) -> bool:
        """Taken out of the JWKS without regard to the tokens that it signed."""
        return self.removes_at is not None and self.removes_at == self.retires_at

    def state(self, now: float) -> KeyState:
        """The state at one instant."""
        if self.removes_at is not None and now >= self.removes_at:
            return KeyState.REMOVED
        if self.retires_at is not None and now >= self.retires_at:
            return KeyState.RETIRING
        return KeyState.ACTIVE if now >= self.activates_at else KeyState.PENDING


def active_key(keys: Iterable[SigningKey], now: float) -> SigningKey | None:
    """The key that signs now: of several active ones the youngest; None if there is none."""
    active = [key for key in keys if key.state(now) is KeyState.ACTIVE]
    return max(active, key=lambda key: (key.activates_at, key.kid), default=None)


def in_office(keys: Iterable[SigningKey], now: float) -> tuple[SigningKey, ...]:
    """The keys that sign or will, in the order in which they take over; held ones last."""
    serving = [key for key in keys if key.state(now) in (KeyState.PENDING, KeyState.ACTIVE)]
    return tuple(sorted(serving, key=lambda key: (key.activates_at, key.created_at, key.kid)))


def stand_ins(keys: Iterable[SigningKey], now: float, publish_lead: int) -> tuple[SigningKey, ...]:
    """Who may sign although it is not their turn: published, not yet in turn, known to every verifier (KEY-19).

    For when the private half of the key that should sign is gone; the one that was published first comes first.
    """
    known = [
        key
        for key in keys
        if key.state(now) is KeyState.PENDING and key.sealed and key.created_at + publish_lead <= now
    ]
    return tuple(sorted(known, key=lambda key: (key.created_at, key.kid)))


def published_keys(keys: Iterable[SigningKey], now: float) -> tuple[SigningKey, ...]:
    """The keys of the JWKS now, oldest first."""
    listed = [key for key in keys if key.state(now) is not KeyState.REMOVED]
    return tuple(sorted(listed, key=lambda key: (key.activates_at, key.kid)))


def next_change(keys: Iterable[SigningKey], now: float) -> float:
    """The next instant at which any key changes its state; infinity if none is planned."""
    instants = (i for key in keys for i in (key.activates_at, key.retires_at, key.removes_at))
    return min((float(i) for i in instants if i is not None and i > now), default=float("inf"))


@dataclass(frozen=True, slots=True)
class Lead:
    """How far ahead things must happen, in seconds.

    `publish`: from publication to first signature; `token_lifetime`: how long the last signed token may live;
    `clock_skew`: how far apart two clocks may be.
    """

    publish: int = PUBLISH_LEAD
    token_lifetime: int = 3600
    clock_skew: int = CLOCK_SKEW

    @property
    def keep(self) -> int:
        """From the last signature to removal."""
        return self.token_lifetime + self.clock_skew
