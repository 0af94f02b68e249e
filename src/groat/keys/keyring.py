"""The signing keys over time: pending, active, retiring, removed.

A state is never stored: it follows from three instants and the clock, so every replica reaches the same answer
without a scheduler. A key is published before it signs, and stays published until the last token it signed is dead
(invariants: no verifier ever meets an unknown kid, no valid token loses its key).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey

# A verifier may keep a JWKS for as long as its own ceiling allows, whatever max-age said (protocol: 60..3600 s).
VERIFIER_CACHE_CEILING: Final = 3600
CLOCK_SKEW: Final = 60
JWKS_MAX_AGE: Final = 300
PUBLISH_LEAD: Final = JWKS_MAX_AGE + VERIFIER_CACHE_CEILING + CLOCK_SKEW


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

    `publish`: from publication to first signature; `token_lifetime`: how long the last signed token may live.
    """

    publish: int = PUBLISH_LEAD
    token_lifetime: int = 3600

    @property
    def keep(self) -> int:
        """From the last signature to removal."""
        return self.token_lifetime + CLOCK_SKEW


def plan_rotation(keys: Sequence[SigningKey], fresh: SigningKey, now: int, lead: Lead) -> tuple[SigningKey, ...]:
    """Add `fresh` to the ring: the first key signs at once, each later one when every verifier can know it.

    Returns the keys that are new or changed. Raises ConfigError when a successor is already on its way.
    """
    if any(key.state(now) is KeyState.PENDING for key in keys):
        raise ConfigError("a pending key is already published; it takes over by itself")
    current = active_key(keys, now)
    if current is None:
        return (replace(fresh, activates_at=now),)
    takeover = now + lead.publish
    outgoing = replace(current, retires_at=takeover, removes_at=takeover + lead.keep)
    return (replace(fresh, activates_at=takeover), outgoing)


def plan_revocation(keys: Sequence[SigningKey], kid: str, now: int) -> tuple[tuple[SigningKey, ...], bool]:
    """Take a key out at once, in an emergency: it neither signs nor is published any more.

    Returns the changed keys and whether the ring needs a new key to sign with. A pending successor is promoted
    early: an unpublished gap is the lesser evil against a stolen key. Raises ConfigError for an unknown kid.
    """
    revoked = next((key for key in keys if key.kid == kid), None)
    if revoked is None or revoked.state(now) is KeyState.REMOVED:
        raise ConfigError(f"no published key has kid {kid}")
    changed = [replace(revoked, retires_at=now, removes_at=now)]
    rest = [key for key in keys if key.kid != kid]
    if revoked.state(now) is KeyState.PENDING:
        # Whoever was to retire for it has nobody to retire for, and stays in office.
        stays = [key for key in rest if key.retires_at == revoked.activates_at]
        return (*changed, *(replace(key, retires_at=None, removes_at=None) for key in stays)), False
    if active_key(rest, now) is not None:
        return tuple(changed), False
    successor = next((key for key in rest if key.state(now) is KeyState.PENDING), None)
    if successor is None:
        return tuple(changed), True
    return (*changed, replace(successor, activates_at=now)), False
