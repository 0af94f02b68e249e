"""The signing keys' part of what an operator may do; part of the one list in `operations`.

Each operation writes under the registry version that it had read, so that of two at once one starts over. Raises
ConfigError for what cannot be right, StoreUnavailable when the store cannot answer.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from groat.server.operations.operator import Operator, again_if_moved
from groat.server.store import RegistryMoved, Store, StoreClosed, StoreConflict, StoreUnavailable
from groat.server.store.changes import SaveSigningKey
from groat.server.store.trusted_time import TrustedTime
from groat.server.unavailable import Unavailable

Keys = tuple[SigningKey, ...]


async def list_signing_keys(operator: Operator) -> Keys:
    """All signing keys, oldest first."""
    return await operator.store.signing_keys()


@again_if_moved
async def first_signing_key(operator: Operator, custody: Custody, algorithm: str) -> SigningKey:
    """Make the first signing key. Raises StoreConflict where there is one, or another process makes it (K09)."""
    seen = await operator.store.registry_version()
    if await operator.store.signing_keys():
        raise StoreConflict("there is a signing key already")
    (first,) = plan_rotation((), await _fresh_key(operator, custody, algorithm), operator.now, Lead())
    await operator.store.change(seen, [SaveSigningKey(first)])
    operator.audit.operated("key.rotated", {"kid": first.kid, "activates_at": first.activates_at})
    return first


@again_if_moved
async def rotate_signing_key(operator: Operator, custody: Custody, algorithm: str, lead: Lead) -> Keys:
    """Let the next key take over once every verifier can know it; make it where none is published (KEY-19, KEY-20)."""
    seen, keys = await _ring(operator, custody)
    changed = plan_promotion(keys, operator.now, lead)
    if not changed:
        changed = plan_rotation(keys, await _fresh_key(operator, custody, algorithm), operator.now, lead)
    await operator.store.change(seen, [*map(SaveSigningKey, changed)])
    operator.audit.operated("key.rotated", {"kid": changed[0].kid, "activates_at": changed[0].activates_at})
    return changed


@again_if_moved
async def prepare_signing_key(operator: Operator, custody: Custody, algorithm: str) -> Keys:
    """Publish a further key that waits until an operator, or the schedule, lets it sign."""
    seen, _ = await _ring(operator, custody)
    changed = plan_preparation(await _fresh_key(operator, custody, algorithm))
    await operator.store.change(seen, [*map(SaveSigningKey, changed)])
    operator.audit.operated("key.prepared", {"kid": changed[0].kid})
    return changed


@again_if_moved
async def activate_signing_key(
    operator: Operator, custody: Custody, kid: str, lead: Lead, *, at_once: bool = False
) -> Keys:
    """Let this pending key take over, as early as is safe or `at_once`."""
    seen, keys = await _ring(operator, custody)
    changed = plan_activation(keys, kid, operator.now, lead, at_once=at_once)
    await operator.store.change(seen, [*map(SaveSigningKey, changed)])
    operator.audit.operated("key.activated", {"kid": kid, "activates_at": changed[0].activates_at})
    return changed


@again_if_moved
async def retire_signing_key(
    operator: Operator, custody: Custody, kid: str, algorithm: str, lead: Lead, *, at_once: bool = False
) -> Keys:
    """End a key's service: the active one hands over as in a rotation, a pending one is withdrawn.

    `at_once` taints the active key: it signs nothing from now on, and what it signed stays good (compare `revoke`).
    """
    seen, keys = await _ring(operator, custody)
    if at_once:
        changed, needs_key = plan_taint(keys, kid, operator.now, lead)
        changed += await _in_its_place(operator, custody, algorithm, lead) if needs_key else ()
        await operator.store.change(seen, [*map(SaveSigningKey, changed)])
        operator.audit.operated("key.tainted", {"kid": kid})
        return changed
    key = next((key for key in keys if key.kid == kid), None)
    if key is not None and key.state(operator.now) == "active":
        changed = plan_promotion(keys, operator.now, lead)
        if not changed:
            changed = plan_rotation(keys, await _fresh_key(operator, custody, algorithm), operator.now, lead)
    elif key is not None and key.state(operator.now) == "pending" and await operator.store.names_key(kid):
        raise ConfigError(f"key {kid} signs in place of a lost one: groat key activate {kid}, or revoke it")
    else:
        changed = plan_withdrawal(keys, kid, operator.now, lead)
    await operator.store.change(seen, [*map(SaveSigningKey, changed)])
    operator.audit.operated("key.retired", {"kid": kid})
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
    return KeyEnd(state, losses_of_signing_key(clients, keys, since))


@again_if_moved
async def revoke_signing_key(
    operator: Operator, custody: Custody, kid: str, algorithm: str, lead: Lead | None = None
) -> Keys:
    """Take a stolen key out of signing and the JWKS at once; another signs from the same moment (KEY-21)."""
    lead = lead or Lead()
    seen, keys = await _ring(operator, custody)
    changed, needs_key = plan_revocation(keys, kid, operator.now, lead)
    changed += await _in_its_place(operator, custody, algorithm, lead) if needs_key else ()
    await operator.store.change(seen, [*map(SaveSigningKey, changed)])
    operator.audit.operated("key.revoked", {"kid": kid})
    return changed


async def _in_its_place(operator: Operator, custody: Custody, algorithm: str, lead: Lead) -> Keys:
    """A key that signs from this moment on, though not every verifier can know it yet: the one before must not."""
    return (emergency_key(await _fresh_key(operator, custody, algorithm), operator.now, lead),)


@again_if_moved
async def reseal_signing_keys(operator: Operator, custody: Custody) -> Keys:
    """Seal every private key anew under the key-encryption key in force; returns those that another one had sealed."""
    seen, keys = await _ring(operator, custody)
    anew = [(key, await custody.reseal(key.public, key.sealed)) for key in keys if key.sealed]
    changed = tuple(replace(key, sealed=sealed) for key, sealed in anew if sealed is not None)
    if changed:
        await operator.store.change(seen, [*map(SaveSigningKey, changed)])
        operator.audit.operated("key.resealed", {"keys": [key.kid for key in changed]})
    return changed


async def apply_next_step(
    operator: Operator, custody: Custody, algorithm: str, timing: Timing, time: TrustedTime, spared: set[str]
) -> Change | None:
    """Do the one thing that the schedule says is due, if anything is; `spared` gets the kids that are in use.

    Raises Unavailable while the time is in doubt, RegistryMoved when another process was first.
    """
    now = await trusted_now(operator.store, time)
    seen = await operator.store.registry_version()
    keys = await operator.store.signing_keys()
    change = next_step(keys, timing, now, spared)
    while change is not None and change.destroy is not None and await _may_be_named(operator.store, change.destroy.kid):
        spared.add(change.destroy.kid)
        change = next_step(keys, timing, now, spared)
    if change is None:
        return None
    if change.fresh_at is not None:
        change = change.with_fresh(keys, await _fresh_key(operator, custody, algorithm, now), now, timing.lead)
    if change.destroy is not None:
        await _destroy(operator, custody, change.destroy, seen, time)
    await operator.store.change(seen, [*map(SaveSigningKey, change.keys)])
    first = change.keys[0]
    operator.audit.operated(change.event, {"kid": first.kid, "activates_at": first.activates_at})
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


async def _destroy(operator: Operator, custody: Custody, key: SigningKey, seen: int, time: TrustedTime) -> None:
    """The private half, for ever. First, and again after a crash: the note that it is gone must never be wrong."""
    await trusted_now(operator.store, time)  # to look for uses may have taken a minute
    if await operator.store.registry_version() != seen:
        raise RegistryMoved("the registry was changed meanwhile; nothing was destroyed")
    await custody.destroy(key.public, key.sealed)


async def _ring(operator: Operator, custody: Custody) -> tuple[int, Keys]:
    """The keys and the version they were read under; the wrong key-encryption key must show now, not in a month."""
    seen = await operator.store.registry_version()
    keys = await operator.store.signing_keys()
    await check_custody(custody, keys)
    return seen, keys


async def check_custody(custody: Custody, keys: Sequence[SigningKey]) -> None:
    """Raises ConfigError where a private key cannot be used; one that is lost must not stand in the way of help."""
    for key in keys:
        with contextlib.suppress(KeyLost):
            await custody.signer(key.public, key.sealed)


async def _fresh_key(operator: Operator, custody: Custody, algorithm: str, now: int | None = None) -> SigningKey:
    if ALGORITHM_NAMES[algorithm].name not in operator.policy.algorithms:
        raise ConfigError(f"{algorithm} is outside profile {operator.policy.profile}")
    public, sealed = await custody.generate(algorithm)
    now = operator.now if now is None else now
    return SigningKey(public, now, now, sealed=sealed)
