"""The signing keys' part of what an operator may do; part of the one list in `operations`.

Each operation writes under the registry version that it had read, so that of two at once one starts over. Raises
ConfigError for what cannot be right, StoreUnavailable when the store cannot answer.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from groat.keys.custody import Custody, KeyLost
from groat.keys.ring.keyring import KeyState, Lead, SigningKey
from groat.keys.ring.plans import (
    emergency_key,
    plan_activation,
    plan_preparation,
    plan_promotion,
    plan_revocation,
    plan_rotation,
    plan_taint,
    plan_withdrawal,
)
from groat.keys.ring.schedule import Change, Timing, next_step
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.server.operations.losses import Loss, losses_of_signing_key
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import Operator, again_if_moved
from groat.server.store import RegistryMoved, Store, StoreClosed, StoreConflict, StoreUnavailable
from groat.server.store.changes import SaveSigningKey
from groat.server.store.trusted_time import TrustedTime
from groat.server.unavailable import Unavailable

Keys = tuple[SigningKey, ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """What every operation on the signing keys works with: whose they are, who keeps them, how new ones are made.

    `lead`: how far ahead things must happen; the schedule has one of its own.
    """

    operator: Operator
    custody: Custody
    algorithm: str
    lead: Lead = field(default_factory=Lead)


def describe_signing_key(record: SigningKey, now: float) -> dict[str, Any]:
    """A key for people and programs: its public half, and what follows from its instants at this moment."""
    return {
        "kid": record.kid,
        "algorithm": record.public.algorithm,
        "state": record.state(now).value,
        "created_at": record.created_at,
        # A held key has an instant that never comes, which would be read as a date.
        "activates_at": None if record.held else record.activates_at,
        "retires_at": record.retires_at,
        "removes_at": record.removes_at,
        "jwk": dict(record.public.jwk),
    }


@reads("key.list")
async def list_signing_keys(operator: Operator) -> Keys:
    """All signing keys, oldest first."""
    return await operator.store.signing_keys()


@writes("key.first")
@again_if_moved
async def first_signing_key(ring: Ring) -> SigningKey:
    """Make the first signing key. Raises StoreConflict where there is one, or another process makes it (K09)."""
    operator, now = ring.operator, ring.operator.now
    seen = await operator.store.registry_version()
    if await operator.store.signing_keys():
        raise StoreConflict("there is a signing key already")
    (first,) = plan_rotation((), await _fresh_key(ring, now), now, ring.lead)
    facts = {"kid": first.kid, "activates_at": first.activates_at}
    await operator.change(seen, [SaveSigningKey(first)], "key.rotated", facts)
    return first


@writes("key.rotate")
@again_if_moved
async def rotate_signing_key(ring: Ring) -> Keys:
    """Let the next key take over once every verifier can know it; make it where none is published (KEY-19, KEY-20)."""
    operator, now = ring.operator, ring.operator.now
    seen, keys = await _read(ring)
    changed = await _handed_over(ring, keys, now)
    facts = {"kid": changed[0].kid, "activates_at": changed[0].activates_at}
    await operator.change(seen, [*map(SaveSigningKey, changed)], "key.rotated", facts)
    return changed


@writes("key.prepare")
@again_if_moved
async def prepare_signing_key(ring: Ring) -> Keys:
    """Publish a further key that waits until an operator, or the schedule, lets it sign."""
    operator, now = ring.operator, ring.operator.now
    seen, _ = await _read(ring)
    changed = plan_preparation(await _fresh_key(ring, now))
    facts = {"kid": changed[0].kid}
    await operator.change(seen, [*map(SaveSigningKey, changed)], "key.prepared", facts)
    return changed


@writes("key.activate")
@again_if_moved
async def activate_signing_key(ring: Ring, kid: str, *, at_once: bool = False) -> Keys:
    """Let this pending key take over, as early as is safe or `at_once`."""
    operator, now = ring.operator, ring.operator.now
    seen, keys = await _read(ring)
    changed = plan_activation(keys, kid, now, ring.lead, at_once=at_once)
    facts = {"kid": kid, "activates_at": changed[0].activates_at}
    await operator.change(seen, [*map(SaveSigningKey, changed)], "key.activated", facts)
    return changed


@writes("key.retire")
@again_if_moved
async def retire_signing_key(ring: Ring, kid: str, *, at_once: bool = False) -> Keys:
    """End a key's service: the active one hands over as in a rotation, a pending one is withdrawn.

    `at_once` taints the active key: it signs nothing from now on, and what it signed stays good (compare `revoke`).
    """
    operator, now = ring.operator, ring.operator.now
    seen, keys = await _read(ring)
    if at_once:
        changed, needs_key = plan_taint(keys, kid, now, ring.lead)
        changed += await _in_its_place(ring, now) if needs_key else ()
        facts = {"kid": kid}
        await operator.change(seen, [*map(SaveSigningKey, changed)], "key.tainted", facts)
        return changed
    key = next((key for key in keys if key.kid == kid), None)
    state = None if key is None else key.state(now)
    if state is KeyState.ACTIVE:
        changed = await _handed_over(ring, keys, now)
    elif state is KeyState.PENDING and await operator.store.names_key(kid):
        raise ConfigError(f"key {kid} signs in place of a lost one: groat key activate {kid}, or revoke it")
    else:
        changed = plan_withdrawal(keys, kid, now, ring.lead)
    facts = {"kid": kid}
    await operator.change(seen, [*map(SaveSigningKey, changed)], "key.retired", facts)
    return changed


@dataclass(frozen=True, slots=True)
class KeyEnd:
    """What a signing key is now (None: there is none of that kid), and whom its revocation would hit."""

    state: KeyState | None
    losses: tuple[Loss, ...] = ()


async def plan_signing_key_end(operator: Operator, kid: str) -> KeyEnd:
    """Whom `revoke_signing_key` would hit: who holds a token that the key signed. Changes nothing."""
    now = operator.now
    key = next((key for key in await operator.store.signing_keys() if key.kid == kid), None)
    if key is None:
        return KeyEnd(None)
    state = key.state(now)
    if state not in (KeyState.ACTIVE, KeyState.RETIRING):
        return KeyEnd(state)
    clients = await operator.store.list_clients()
    keys = [one for client in clients for one in await operator.store.client_keys(client.client_id)]
    since = max(key.activates_at, now - operator.policy.token_lifetime)
    return KeyEnd(state, losses_of_signing_key(clients, keys, await operator.store.unused_since(), since))


@writes("key.revoke", plan=plan_signing_key_end)
@again_if_moved
async def revoke_signing_key(ring: Ring, kid: str) -> Keys:
    """Take a stolen key out of signing and the JWKS at once; another signs from the same moment (KEY-21)."""
    operator, now = ring.operator, ring.operator.now
    seen, keys = await _read(ring)
    changed, needs_key = plan_revocation(keys, kid, now, ring.lead)
    changed += await _in_its_place(ring, now) if needs_key else ()
    facts = {"kid": kid}
    await operator.change(seen, [*map(SaveSigningKey, changed)], "key.revoked", facts)
    return changed


async def _handed_over(ring: Ring, keys: Keys, now: int) -> Keys:
    """What changes where the next key takes over: one that is published already, or else one that is made."""
    return plan_promotion(keys, now, ring.lead) or plan_rotation(keys, await _fresh_key(ring, now), now, ring.lead)


async def _in_its_place(ring: Ring, now: int) -> Keys:
    """A key that signs from this moment on, though not every verifier can know it yet: the one before must not."""
    return (emergency_key(await _fresh_key(ring, now), now, ring.lead),)


@writes("key.reseal")
@again_if_moved
async def reseal_signing_keys(ring: Ring) -> Keys:
    """Seal every private key anew under the key-encryption key in force; returns those that another one had sealed."""
    operator = ring.operator
    seen, keys = await _read(ring)
    anew = [(key, await ring.custody.reseal(key.public, key.sealed)) for key in keys if key.sealed]
    changed = tuple(replace(key, sealed=sealed) for key, sealed in anew if sealed is not None)
    if changed:
        facts = {"keys": [key.kid for key in changed]}
        await operator.change(seen, [*map(SaveSigningKey, changed)], "key.resealed", facts)
    return changed


async def apply_next_step(ring: Ring, timing: Timing, time: TrustedTime, spared: set[str]) -> Change | None:
    """Do the one thing that the schedule says is due, if anything is; `spared` gets the kids that are in use.

    Raises Unavailable while the time is in doubt, RegistryMoved when another process was first.
    """
    operator, now = ring.operator, await trusted_now(ring.operator.store, time)
    seen = await operator.store.registry_version()
    keys = await operator.store.signing_keys()
    change = next_step(keys, timing, now, spared)
    while change is not None and change.destroy is not None and await _may_be_named(operator.store, change.destroy.kid):
        spared.add(change.destroy.kid)
        change = next_step(keys, timing, now, spared)
    if change is None:
        return None
    if change.fresh_at is not None:
        change = change.with_fresh(keys, await _fresh_key(ring, now), now, timing.lead)
    if change.destroy is not None:
        await _destroy(ring, change.destroy, seen, time)
    first = change.keys[0]
    facts = {"kid": first.kid, "activates_at": first.activates_at}
    await operator.change(seen, [*map(SaveSigningKey, change.keys)], change.event, facts)
    return change


async def _may_be_named(store: Store, kid: str) -> bool:
    """Whether a use names the key, or there are too many to know in time: to look again at once would not help."""
    try:
        return await store.names_key(kid)
    except StoreUnavailable:
        return True


async def trusted_now(store: Store, time: TrustedTime) -> int:
    """The time, for what nobody can take back. Raises Unavailable while it is in doubt, or the store is closed."""
    condition = await store.condition()
    if condition.closed_at is not None:
        raise StoreClosed
    reading = time.judge(condition)
    if reading.doubt is not None:
        raise Unavailable("clock_in_doubt", f"no key is changed or destroyed: {reading.doubt}")
    return reading.now


async def _destroy(ring: Ring, key: SigningKey, seen: int, time: TrustedTime) -> None:
    """The private half, for ever. First, and again after a crash: the note that it is gone must never be wrong."""
    await trusted_now(ring.operator.store, time)  # to look for uses may have taken a minute
    if await ring.operator.store.registry_version() != seen:
        raise RegistryMoved("the registry was changed meanwhile; nothing was destroyed")
    await ring.custody.destroy(key.public, key.sealed)


async def _read(ring: Ring) -> tuple[int, Keys]:
    """The keys and the version they were read under; the wrong key-encryption key must show now, not in a month."""
    seen = await ring.operator.store.registry_version()
    keys = await ring.operator.store.signing_keys()
    await check_custody(ring.custody, keys)
    return seen, keys


async def check_custody(custody: Custody, keys: Sequence[SigningKey]) -> None:
    """Raises ConfigError where a private key cannot be used; one that is lost must not stand in the way of help."""
    for key in keys:
        with contextlib.suppress(KeyLost):
            await custody.signer(key.public, key.sealed)


async def _fresh_key(ring: Ring, now: int) -> SigningKey:
    policy = ring.operator.policy
    if ALGORITHM_NAMES[ring.algorithm].name not in policy.algorithms:
        raise ConfigError(f"{ring.algorithm} is outside profile {policy.profile}")
    public, sealed = await ring.custody.generate(ring.algorithm)
    return SigningKey(public, now, now, sealed=sealed)
