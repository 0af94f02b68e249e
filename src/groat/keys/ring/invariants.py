"""Is this ring safe? Asked of the instants alone, without knowing how they came about, so that it can judge the plans.

A verifier may work with a key set that a shared cache held for `jwks_max_age` and that it kept for `verifier_cache`.
With such a set it must know every key that signs, and every set that it may fetch must have the key of every token that
has not expired by its own clock. Not checked: what operators do after `now`; whether the private keys can be used.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from groat.keys.ring.keyring import SigningKey, active_key, next_change, published_keys
from groat.keys.ring.schedule import MAX_PUBLISHED, Timing


@dataclass(frozen=True, slots=True)
class Fault:
    """One promise that the ring will break. `since`, `until`: epoch seconds; None means for ever."""

    rule: str
    kid: str
    since: int
    until: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


def ring_faults(keys: Sequence[SigningKey], timing: Timing, now: int) -> tuple[Fault, ...]:
    """Every promise that this ring breaks from `now` on if nobody touches it, in the order of time."""
    found = [
        *_unknown_to_verifiers(keys, timing, now),
        *_lost_tokens(keys, timing, now),
        *_gaps(keys, now),
        *_crowds(keys, now),
        *_overdue(keys, timing, now),
    ]
    return tuple(sorted(found, key=lambda fault: (fault.since, fault.rule)))


def _unknown_to_verifiers(keys: Sequence[SigningKey], timing: Timing, now: int) -> Iterable[Fault]:
    """KEY-19: a key signs while a verifier may still hold a set from before its publication."""
    # Nobody can hold a set that is older than the first key.
    oldest = min((key.created_at for key in keys), default=now)
    for key in keys:
        since, known = max(key.activates_at, now), key.created_at + timing.lead.publish
        ends = known if key.retires_at is None else min(known, key.retires_at)
        if key.created_at > oldest and since < ends:
            yield Fault(
                "KEY-19",
                key.kid,
                since,
                ends,
                f"key {key.kid} signs from {since}, but a verifier may not know it before {known}",
            )


def _lost_tokens(keys: Sequence[SigningKey], timing: Timing, now: int) -> Iterable[Fault]:
    """KEY-20: a key leaves the JWKS while a token that it signed is valid by somebody's clock."""
    for key in keys:
        if key.retires_at is None or key.removes_at is None or key.revoked:
            continue
        needed = key.retires_at + timing.lead.keep
        if key.removes_at < needed and now < needed and key.retires_at > key.activates_at:
            yield Fault(
                "KEY-20",
                key.kid,
                max(key.removes_at, now),
                needed,
                f"key {key.kid} leaves the JWKS at {key.removes_at}, but tokens of it are valid until {needed}",
            )


def _gaps(keys: Sequence[SigningKey], now: int) -> Iterable[Fault]:
    """KEY-22: an instant without a key to sign with, or with one whose private half is gone."""
    told: set[str] = set()
    for at in _instants(keys, now):
        signer = active_key(keys, at)
        kid = signer.kid if signer is not None else ""
        if kid in told or (signer is not None and signer.sealed):
            continue
        told.add(kid)
        until = min((key.activates_at for key in keys if key.activates_at > at), default=None)
        gone = f"key {kid} is to sign, but its private half is gone: groat key retire {kid} --now lets another one sign"
        what = gone if kid else f"no key signs from {at}"
        yield Fault("KEY-22", kid, at, until, what)


def _crowds(keys: Sequence[SigningKey], now: int) -> Iterable[Fault]:
    """A JWKS with more keys than verifiers read."""
    for at in _instants(keys, now):
        count = len(published_keys(keys, at))
        if count > MAX_PUBLISHED:
            yield Fault("KEY-12", "", at, None, f"the JWKS holds {count} keys; some verifiers read {MAX_PUBLISHED}")
            return


def _overdue(keys: Sequence[SigningKey], timing: Timing, now: int) -> Iterable[Fault]:
    """A key that should have handed over, and has nobody to hand over to: no server runs that would rotate it."""
    signer = active_key(keys, now)
    if not timing.rotate_every or signer is None or signer.retires_at is not None:
        return
    due = signer.activates_at + timing.rotate_every
    if now > due:
        yield Fault("KEY-22", signer.kid, due, None, f"key {signer.kid} has no successor since {due}: is a server up?")


def _instants(keys: Sequence[SigningKey], now: int) -> list[int]:
    """Now, and every later instant at which a key changes its state."""
    found, at = [now], next_change(keys, now)
    while at != float("inf"):
        found.append(int(at))
        at = next_change(keys, at)
    return found
