"""What an operator may do with the public keys of clients; `operations` lists these with the rest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from groat.keys.client_keys import KeyLife, Verdict, removal_verdict
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey
from groat.protocol.key_limits import UNLIMITED, KeyLimits, LimitsChange
from groat.protocol.models import Policy
from groat.server.operations.losses import Loss, losses_of_client_key, needs_no_key_here
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import NotRegistered, Operator, again_if_moved
from groat.server.store.changes import AddClientKey, LimitClientKey, RemoveClientKey
from groat.server.store.records import ClientKeyRecord, ClientRecord

MAX_OWN_KEYS: Final = 10  # of one client: what a stolen key can add is bounded


def key_life(record: ClientKeyRecord) -> KeyLife:
    """What the rules about a key's life need to know of it."""
    return KeyLife(record.kid, record.created_at, record.limits, record.last_used_at)


def describe_client_keys(
    records: Sequence[ClientKeyRecord], now: float, idle: int, warning: int
) -> list[dict[str, Any]]:
    """All keys of one client with their states and the verdicts on their removal, as people and programs see them."""
    lives = [key_life(record) for record in records]
    documents = []
    for record, life in zip(records, lives, strict=True):
        verdict = removal_verdict(life, lives, now, idle)
        state = {"state": life.state(now, warning), "safe_to_remove": verdict.safe, "why": verdict.why}
        documents.append(asdict(record) | state)
    return documents


def check_algorithms(policy: Policy, keys: Sequence[PublicKey]) -> None:
    """Raises ConfigError for a key whose algorithm is outside the profile."""
    for key in keys:
        if key.algorithm not in policy.algorithms:
            raise ConfigError(f"key {key.kid} is for {key.algorithm}, which profile {policy.profile} refuses")


def key_records(
    policy: Policy, client_id: str, keys: Sequence[PublicKey], now: int, limits: KeyLimits = UNLIMITED,
    *, ended: bool = False,
) -> tuple[ClientKeyRecord, ...]:  # fmt: skip
    """New records of these keys. Raises ConfigError for an algorithm outside the profile, or an end that is past.

    `ended`: that one may be past, because these keys were registered somewhere before.
    """
    check_algorithms(policy, keys)
    if limits.expires_at is not None and limits.expires_at <= now and not ended:
        raise ConfigError("the key would have expired already")
    return tuple(
        ClientKeyRecord(key.kid, client_id, key.thumbprint, key.algorithm, dict(key.jwk), now,
                        limits.not_before, limits.expires_at)
        for key in keys
    )  # fmt: skip


async def _found(operator: Operator, client_id: str) -> tuple[ClientRecord, tuple[ClientKeyRecord, ...]]:
    _, found = await operator.store.look_up(client_id)
    if found is None:
        raise NotRegistered(f"no client {client_id}. See: groat client list")
    return found


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One key among those of its client."""

    client: ClientRecord
    record: ClientKeyRecord
    others: list[KeyLife]


async def _choose(operator: Operator, client_id: str, kid: str) -> _Chosen:
    client, records = await _found(operator, client_id)
    for record in records:
        if record.kid == kid:
            return _Chosen(client, record, [key_life(other) for other in records if other.kid != kid])
    raise NotRegistered(f"client {client_id} has no key {kid}")


@writes("client_key.add")
async def add_client_keys(
    operator: Operator, client_id: str, keys: Sequence[PublicKey], limits: KeyLimits = UNLIMITED, *, ended: bool = False
) -> tuple[ClientKeyRecord, ...]:
    """Register further public keys, so that the client can change over without a gap. `ended`: as in `key_records`."""
    await _found(operator, client_id)
    records = key_records(operator.policy, client_id, keys, operator.now, limits, ended=ended)
    facts = {"client": client_id, "keys": [key.kid for key in keys], **_shown(limits)}
    await operator.change(None, [*map(AddClientKey, records)], "client.key_added", facts)
    return records


@reads("client_key.list")
async def list_client_keys(operator: Operator, client_id: str) -> tuple[ClientKeyRecord, ...]:
    """The public keys of a client. Raises NotRegistered."""
    return (await _found(operator, client_id))[1]


@reads("client_key.list_all")
async def list_all_client_keys(operator: Operator) -> tuple[ClientKeyRecord, ...]:
    """The public keys of all clients, client by client."""
    clients = await operator.store.list_clients()
    return tuple([key for client in clients for key in await operator.store.client_keys(client.client_id)])


@writes("client_key.enrol")
@again_if_moved
async def enrol_client_key(
    operator: Operator, client_id: str, key: PublicKey, by: str, lifetime: int = 0
) -> ClientKeyRecord:
    """Register a key that the client brought itself, `by` code or endorsement, for `lifetime` seconds (0: for good).

    At the limit the key that expired first makes room, in the same change. Raises ConfigError where none has expired.
    """
    now, seen = operator.now, await operator.store.registry_version()
    oldest = _in_the_way(client_id, await list_client_keys(operator, client_id), now)
    limits = KeyLimits(expires_at=now + lifetime) if lifetime else UNLIMITED
    (record,) = key_records(operator.policy, client_id, (key,), now, limits)
    facts = {"client": client_id, "kid": key.kid, "by": by, **_shown(limits)}
    if oldest is None:  # whatever else changes meanwhile: the client's only right to this is used up already
        await operator.change(None, [AddClientKey(record)], "client.key_enrolled", facts)
    else:
        many = [RemoveClientKey(client_id, oldest), AddClientKey(record)]
        rows = await operator.change(seen, many, "client.key_enrolled", facts)
        operator.tell("client.key_removed", {"client": client_id, "kid": oldest, "hint": "made room"}, rows)
    return record


def _in_the_way(client_id: str, known: Sequence[ClientKeyRecord], now: int) -> str | None:
    """The key that has to go before there can be another one, if any."""
    if len(known) < MAX_OWN_KEYS:
        return None
    expired = [key for key in known if key.expires_at is not None and key.expires_at <= now]
    if not expired:
        raise ConfigError(f"client {client_id} has {len(known)} keys; remove one first")
    return min(expired, key=lambda key: key.expires_at or 0).kid


@writes("client_key.retire")
@again_if_moved
async def retire_client_key(operator: Operator, client_id: str, kid: str, at: int) -> None:
    """Let a key end at this instant, unless it ends sooner anyway; a kid that is not registered is left alone."""
    seen = await operator.store.registry_version()
    _, records = await _found(operator, client_id)
    for record in records:
        if record.kid == kid and (record.expires_at is None or record.expires_at > at):
            # A key whose time has not come yet endorses nothing, so `at` is after its not-before; never trust that.
            begin = None if record.not_before is None or record.not_before >= at else record.not_before
            many, facts = [LimitClientKey(client_id, kid, KeyLimits(begin, at))], {"client": client_id, "kid": kid}
            await operator.change(seen, many, "client.key_limited", facts | {"expires_at": at})


@writes("client_key.update")
@again_if_moved
async def update_client_key(
    operator: Operator, client_id: str, kid: str, change: LimitsChange, *, force: bool = False
) -> ClientKeyRecord:
    """Change from when to when a key counts. Raises ConfigError if that ends the only valid key."""
    now, seen = operator.now, await operator.store.registry_version()
    chosen = await _choose(operator, client_id, kid)
    limits = change.applied(chosen.record.limits)
    changed = replace(chosen.record, not_before=limits.not_before, expires_at=limits.expires_at)
    if not key_life(changed).valid(now) and not force:
        _refuse_last(chosen, now)
    facts = {"client": client_id, "kid": kid, **_shown(limits)}
    await operator.change(seen, [LimitClientKey(client_id, kid, limits)], "client.key_limited", facts)
    return changed


@dataclass(frozen=True, slots=True)
class KeyRemoval:
    """How safe the removal of a client's key is, and whom it would hit."""

    verdict: Verdict
    losses: tuple[Loss, ...]


async def plan_client_key_removal(operator: Operator, client_id: str, kid: str, idle: int = 0) -> KeyRemoval:
    """Whom `remove_client_key` would hit; changes nothing. Raises NotRegistered. `idle`: as in `removal_verdict`."""
    chosen = await _choose(operator, client_id, kid)
    return judge_removal(chosen.client, key_life(chosen.record), chosen.others, operator.now, idle)


def judge_removal(
    client: ClientRecord, key: KeyLife, others: Sequence[KeyLife], now: float, idle: int = 0
) -> KeyRemoval:
    """How safe it is that a client has these keys and no more this one. `idle`: as in `removal_verdict`."""
    verdict = removal_verdict(key, others, now, idle)
    return KeyRemoval(verdict, () if verdict.safe else losses_of_client_key(client, key, others, now))


@writes("client_key.remove", plan=plan_client_key_removal)
@again_if_moved
async def remove_client_key(
    operator: Operator, client_id: str, kid: str, *, force: bool = False, idle: int = 0
) -> Verdict:
    """Remove one public key, with effect on the next request; returns how safe that was. Raises NotRegistered.

    Raises ConfigError for the only valid key of a client, unless `force`. `idle`: as in `removal_verdict`.
    """
    now, seen = operator.now, await operator.store.registry_version()
    chosen = await _choose(operator, client_id, kid)
    if not force:
        _refuse_last(chosen, now)
    verdict = removal_verdict(key_life(chosen.record), chosen.others, now, idle)
    facts = {"client": client_id, "kid": kid}
    await operator.change(seen, [RemoveClientKey(client_id, kid)], "client.key_removed", facts)
    return verdict


def _refuse_last(chosen: _Chosen, now: int) -> None:
    """Not for a client that publishes keys itself as well, or has certificates: this one is not its last proof."""
    replaced = needs_no_key_here(chosen.client) or any(other.valid(now) for other in chosen.others)
    if key_life(chosen.record).valid(now) and not replaced:
        raise ConfigError(
            f"{chosen.record.kid} is the only valid key of client {chosen.client.client_id}: without it the client "
            "gets no token. Add another one first, or say --force"
        )


def _shown(limits: KeyLimits) -> dict[str, Any]:
    instants = {"not_before": limits.not_before, "expires_at": limits.expires_at}
    return {name: instant for name, instant in instants.items() if instant is not None}
