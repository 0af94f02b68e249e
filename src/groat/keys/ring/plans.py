"""What an operator may do to the ring, as plans: keys in, the keys that are new or changed out. No clock, no store.

Every plan leaves a chain: each key in office retires in the second in which the next one activates. A planned change
takes effect one clock skew from now at the earliest, so that every replica has heard of it by its own clock; an
emergency takes effect one skew ago, so that no replica with a slow clock works on with a stolen key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

from groat.keys.ring.keyring import HELD, KeyState, Lead, SigningKey, active_key, in_office, next_change
from groat.protocol.errors import ConfigError

_UNDER_WAY = (
    "a pending key is already published; it takes over by itself (groat key list). To let it sign now: groat key"
    " activate KID --now"
)


def linked(keys: Iterable[SigningKey], now: int, lead: Lead) -> tuple[SigningKey, ...]:
    """The keys in office, each with the retirement that its successor's activation means."""
    office = in_office(keys, now)
    return tuple(_handing_over(key, heir, now, lead) for key, heir in zip_longest(office, office[1:]))


def _handing_over(key: SigningKey, heir: SigningKey | None, now: int, lead: Lead) -> SigningKey:
    if heir is None or heir.held:
        return replace(key, retires_at=None, removes_at=None)
    if key.retires_at == heir.activates_at:
        return key
    # Until a takeover at once is committed the old key signs, by clocks that may be ahead of this one.
    last_signature = max(heir.activates_at, now + lead.clock_skew)
    return replace(key, retires_at=heir.activates_at, removes_at=last_signature + lead.keep)


def changed_keys(before: Sequence[SigningKey], after: Iterable[SigningKey]) -> tuple[SigningKey, ...]:
    """Those of `after` that are new or differ."""
    return tuple(key for key in after if key not in before)


def relinked(keys: Sequence[SigningKey], now: int, lead: Lead, *moved: SigningKey) -> tuple[SigningKey, ...]:
    """The changes that follow when `moved` (new or with other instants) join the ring; those come first."""
    kids = {key.kid for key in moved}
    after = linked([*(key for key in keys if key.kid not in kids), *moved], now, lead)
    linked_kids = {key.kid: key for key in after}
    first = [linked_kids.get(key.kid, key) for key in moved]
    return changed_keys(keys, [*first, *(key for key in after if key.kid not in kids)])


def earliest(key: SigningKey, now: int, lead: Lead) -> int:
    """The first second in which a published key may sign: every verifier knows it by then (KEY-19)."""
    return max(key.created_at + lead.publish, now + lead.clock_skew)


def plan_rotation(keys: Sequence[SigningKey], fresh: SigningKey, now: int, lead: Lead) -> tuple[SigningKey, ...]:
    """Add `fresh` to the ring: the first key signs at once, each later one when every verifier can know it.

    Raises ConfigError when a successor is already on its way.
    """
    if any(key.state(now) is KeyState.PENDING for key in keys):
        raise ConfigError(_UNDER_WAY)
    if active_key(keys, now) is None:
        return (replace(fresh, activates_at=now),)
    return relinked(keys, now, lead, replace(fresh, activates_at=now + lead.publish))


def plan_promotion(keys: Sequence[SigningKey], now: int, lead: Lead) -> tuple[SigningKey, ...]:
    """Let a pending key take over as early as is safe; empty if there is none. Raises ConfigError if it does already.

    Of several, the one that has been published longest.
    """
    pending = [key for key in keys if key.state(now) is KeyState.PENDING]
    if not pending:
        return ()
    return plan_activation(keys, min(pending, key=lambda key: key.created_at).kid, now, lead)


def plan_activation(
    keys: Sequence[SigningKey], kid: str, now: int, lead: Lead, *, at_once: bool = False
) -> tuple[SigningKey, ...]:
    """Let this pending key take over as early as is safe, or `at_once`, whether verifiers know it or not.

    Raises ConfigError: no such pending key, or it takes over by then anyway.
    """
    key = _find(keys, kid, now)
    if key.state(now) is not KeyState.PENDING:
        raise ConfigError(f"key {kid} is {key.state(now)}, not pending")
    instant = emergency_key(key, now, lead).activates_at if at_once else earliest(key, now, lead)
    if instant >= key.activates_at:
        raise ConfigError(_UNDER_WAY)
    # A key that has just begun to sign would otherwise come after the one that takes over from it.
    younger = [k for k in keys if k.state(now) is KeyState.ACTIVE and k.activates_at > instant]
    return relinked(
        keys, now, lead, replace(key, activates_at=instant), *(replace(k, activates_at=instant - 1) for k in younger)
    )


def plan_preparation(fresh: SigningKey) -> tuple[SigningKey, ...]:
    """Publish a key and let it wait: it signs when an operator or the schedule says so."""
    return (replace(fresh, activates_at=HELD),)


def plan_withdrawal(keys: Sequence[SigningKey], kid: str, now: int, lead: Lead) -> tuple[SigningKey, ...]:
    """Take a pending key back before it has signed anything. Raises ConfigError where it may have."""
    key = _find(keys, kid, now)
    if key.activates_at <= now + lead.clock_skew:
        raise ConfigError(f"key {kid} signs, or is about to; revoke it, or rotate")
    return relinked(keys, now, lead, replace(key, retires_at=now - lead.clock_skew, removes_at=now - lead.clock_skew))


def plan_taint(keys: Sequence[SigningKey], kid: str, now: int, lead: Lead) -> tuple[tuple[SigningKey, ...], bool]:
    """Stop signing with the active key at once; tokens that it signed stay good. Returns as `plan_revocation` does."""
    key = _find(keys, kid, now)
    if key.state(now) is not KeyState.ACTIVE:
        raise ConfigError(f"key {kid} is {key.state(now)}, not active")
    return _taken_out(keys, key, now, lead, removes_at=now + lead.clock_skew + lead.keep)


def plan_revocation(
    keys: Sequence[SigningKey], kid: str, now: int, lead: Lead | None = None
) -> tuple[tuple[SigningKey, ...], bool]:
    """Take a key out at once, in an emergency: it neither signs nor is published any more (KEY-21).

    Returns the changed keys and whether the ring needs a new key to sign with. A pending successor is promoted
    early: an unpublished gap is the lesser evil against a stolen key. Raises ConfigError for an unknown kid.
    """
    lead = lead or Lead()
    return _taken_out(keys, _find(keys, kid, now), now, lead, removes_at=now - lead.clock_skew)


def _taken_out(
    keys: Sequence[SigningKey], key: SigningKey, now: int, lead: Lead, removes_at: int
) -> tuple[tuple[SigningKey, ...], bool]:
    gone = replace(key, retires_at=now - lead.clock_skew, removes_at=removes_at)
    rest = tuple(other for other in keys if other.kid != key.kid)
    changed = relinked(keys, now, lead, gone)
    if _signs_by_every_clock(_after(rest, changed), now, lead.clock_skew):
        return changed, False
    heirs = in_office(rest, now)
    if not heirs:
        return (gone,), True
    # The one that signs by this clock, else the one that most verifiers know already.
    heir = active_key(rest, now) or min(heirs, key=lambda other: other.created_at)
    return relinked(keys, now, lead, gone, emergency_key(heir, now, lead)), False


def _after(keys: Iterable[SigningKey], changed: Iterable[SigningKey]) -> tuple[SigningKey, ...]:
    return tuple(({key.kid: key for key in keys} | {key.kid: key for key in changed}).values())


def _signs_by_every_clock(keys: Sequence[SigningKey], now: int, clock_skew: int) -> bool:
    """Whether every replica, be its clock slow or fast, has a key to sign with now."""
    at: float = now - clock_skew
    while at <= now + clock_skew:
        if active_key(keys, at) is None:
            return False
        at = next_change(keys, at)
    return True


def emergency_key(key: SigningKey, now: int, lead: Lead) -> SigningKey:
    """The key, signing at once by every clock, whether verifiers know it or not."""
    return replace(key, activates_at=now - lead.clock_skew)


def _find(keys: Sequence[SigningKey], kid: str, now: int) -> SigningKey:
    found = next((key for key in keys if key.kid == kid), None)
    if found is None or found.state(now) is KeyState.REMOVED:
        raise ConfigError(f"no published key has kid {kid}")
    return found
