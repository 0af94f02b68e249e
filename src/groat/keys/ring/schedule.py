"""Rotation without anybody: what should happen to the ring next, as a pure function of keys, settings and clock.

Every replica asks the same question and writes its answer under the registry version it had read, so whoever is first
wins and the others ask again: no leader, no lease. Each change leaves a ring that is safe by itself, so a crash
between two of them costs nothing but time.

The ring always holds a key that is published and does not sign yet: it is known to every verifier when its time
comes, and it can take over at once when the key that signs has to go.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from groat.keys.ring.keyring import (
    CLOCK_SKEW,
    JWKS_MAX_AGE,
    VERIFIER_CACHE_CEILING,
    KeyState,
    Lead,
    SigningKey,
    in_office,
    published_keys,
)
from groat.keys.ring.plans import earliest, relinked
from groat.protocol.errors import Finding

MAX_PUBLISHED: Final = 20  # keys in a JWKS; some verifiers read no more
ROTATE_EVERY: Final = 30 * 86400
GRACE: Final = 86400


@dataclass(frozen=True, slots=True)
class Timing:
    """What the schedule depends on, in seconds. `rotate_every`: how long a key signs; 0 leaves it to the operator.

    `jwks_max_age`: what the JWKS tells caches; `verifier_cache`: how long a verifier may keep one, whatever it was
    told; `clock_skew`: how far apart any two clocks may be.
    """

    token_lifetime: int = 600
    jwks_max_age: int = JWKS_MAX_AGE
    verifier_cache: int = VERIFIER_CACHE_CEILING
    clock_skew: int = CLOCK_SKEW
    rotate_every: int = ROTATE_EVERY

    @property
    def lead(self) -> Lead:
        """The two spans of KEY-19 and KEY-20: a shared cache and then a verifier may each hold a JWKS for its time."""
        publish = self.jwks_max_age + self.verifier_cache + self.clock_skew
        return Lead(publish, self.token_lifetime, self.clock_skew)

    @property
    def grace(self) -> int:
        """From the instant at which no clock lets a key sign any more to the destruction of its private half."""
        return min(GRACE, self.rotate_every // 10) if self.rotate_every else GRACE

    @property
    def most_published(self) -> int:
        """How many keys the JWKS holds at most while only the schedule acts."""
        if not self.rotate_every:
            return 1
        pending = -(-self.lead.publish // self.rotate_every) + 1
        retiring = -(-self.lead.keep // self.rotate_every) + 1  # one more where clocks differ
        return pending + 1 + retiring


@dataclass(frozen=True, slots=True)
class Change:
    """One step: `keys` to save; a fresh key that signs from `fresh_at`; the private half of `destroy` to destroy."""

    event: str
    keys: tuple[SigningKey, ...] = ()
    fresh_at: int | None = None
    destroy: SigningKey | None = None

    def with_fresh(self, keys: Sequence[SigningKey], fresh: SigningKey, now: int, lead: Lead) -> "Change":
        """This change once the key that it asks for is made."""
        assert self.fresh_at is not None
        moved = replace(fresh, activates_at=self.fresh_at)
        return Change(self.event, relinked(keys, now, lead, moved))


def timing_faults(timing: Timing) -> list[Finding]:
    """What makes these settings unfit for a schedule."""
    faults = [
        _outside("keys.jwks_max_age", timing.jwks_max_age, 60, 3600),
        _outside("keys.verifier_cache", timing.verifier_cache, 60, 7 * 86400),
        _outside("keys.rotate_every", timing.rotate_every, timing.clock_skew, 3650 * 86400)
        if timing.rotate_every
        else None,
    ]
    found = [fault for fault in faults if fault is not None]
    if not found and timing.most_published > MAX_PUBLISHED:
        many = (
            f"keys.rotate_every {timing.rotate_every} seconds, with a lead of {timing.lead.publish}, would put"
            f" {timing.most_published} keys into the JWKS; at most {MAX_PUBLISHED} are safe"
        )
        found.append(Finding(many, setting="keys.rotate_every"))
    return found


def _outside(name: str, value: int, low: int, high: int) -> Finding | None:
    wrong = f"{name} must be {low} to {high} seconds, not {value}"
    return None if low <= value <= high else Finding(wrong, setting=name)


def next_step(keys: Sequence[SigningKey], timing: Timing, now: int, spared: Collection[str] = ()) -> Change | None:
    """The one change that is due, or None. Ask again after each, until there is none.

    `spared`: kids that are not to be destroyed, whatever the clock says. Not checked: whether the clock is right.
    """
    for due in (_kept_longer, _brought_forward, _published):
        change = due(keys, timing, now)
        if change is not None:
            return change
    return _destroyed([key for key in keys if key.kid not in spared], timing, now)


def _kept_longer(keys: Sequence[SigningKey], timing: Timing, now: int) -> Change | None:
    """Tokens live longer than they did when this key's removal was planned: other settings, on some replica."""
    keep = timing.lead.keep
    short = (key for key in keys if not key.revoked and key.state(now) is not KeyState.REMOVED)
    for key in short:
        if key.retires_at is not None and key.removes_at is not None and key.removes_at < key.retires_at + keep:
            return Change("key.kept", (replace(key, removes_at=key.retires_at + keep),))
    return None


def _brought_forward(keys: Sequence[SigningKey], timing: Timing, now: int) -> Change | None:
    """A key would sign for longer than it should, because its successor is held, or planned by longer settings."""
    if not timing.rotate_every:
        return None
    for key, heir in pairwise(in_office(keys, now)):
        instant = max(key.activates_at + timing.rotate_every, earliest(heir, now, timing.lead))
        if instant < heir.activates_at:
            moved = replace(heir, activates_at=instant)
            return Change("key.scheduled", relinked(keys, now, timing.lead, moved))
    return None


def _published(keys: Sequence[SigningKey], timing: Timing, now: int) -> Change | None:
    """The youngest key in office takes over within the lead, or did: its successor has to be published now."""
    if not timing.rotate_every or len(published_keys(keys, now)) >= MAX_PUBLISHED:
        return None
    office = [key for key in in_office(keys, now) if not key.held]
    if not office:
        return Change("key.published", fresh_at=now - timing.clock_skew)
    soon = now + timing.lead.publish
    if office[-1].activates_at >= soon:
        return None
    return Change("key.published", fresh_at=max(soon, office[-1].activates_at + timing.rotate_every))


def _destroyed(keys: Sequence[SigningKey], timing: Timing, now: int) -> Change | None:
    """No clock of any replica has let this key sign for a while: its private half is of use to a thief alone."""
    for key in keys:
        wait = 2 * timing.clock_skew + timing.grace
        if key.sealed and key.retires_at is not None and now >= key.retires_at + wait:
            return Change("key.destroyed", (replace(key, sealed=b""),), destroy=key)
    return None
