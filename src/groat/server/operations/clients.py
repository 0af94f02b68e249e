"""What an operator may do with clients."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from groat.keys.invitation import Invitations
from groat.protocol.client_settings import DEFAULTS, UNCHANGED, ClientSettings, SettingsChange
from groat.protocol.errors import ConfigError, Finding
from groat.protocol.grammar import CLIENT_ID
from groat.protocol.jwk import PublicKey
from groat.protocol.key_limits import UNLIMITED, KeyLimits
from groat.protocol.shell import command
from groat.server.operations.apis import check, checked_scopes
from groat.server.operations.claims import check_claims
from groat.server.operations.client_keys import key_records
from groat.server.operations.losses import Loss, everything_of, has_proof, loss_between
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import NotRegistered, Operator, again_if_moved
from groat.server.store.audit_trail import Effect, written
from groat.server.store.changes import AddClient, AddClientKey, RemoveClient, ReplaceClient, SwitchClient
from groat.server.store.records import ApiRecord, ClientRecord

MAX_INVITATION: Final = 7 * 86400  # seconds


@writes("client.add")
async def add_client(
    operator: Operator,
    client_id: str,
    allow: Mapping[str, Sequence[str]],
    keys: Sequence[PublicKey] | None,
    settings: ClientSettings = DEFAULTS,
    *,
    limits: KeyLimits = UNLIMITED,
) -> ClientRecord:
    """Register a client with its public keys, valid within `limits`; None: it is invited to bring them later."""
    check(
        CLIENT_ID.fullmatch(client_id),
        "client id must be 1 to 128 printable ASCII characters without space, quote or backslash",
    )
    check(keys or keys is None or settings.jwks_uri, "a client needs at least one public key")
    now = operator.now
    record = ClientRecord(client_id, await _allow(operator, allow), now, settings=settings)
    await _check_settings(operator, record)
    records = key_records(operator.policy, client_id, keys or (), now, limits)
    facts = {"client": client_id, "keys": [key.kid for key in keys or ()]}
    await operator.change(None, [AddClient(record), *map(AddClientKey, records)], "client.added", facts)
    return record


@reads("client.show")
async def find_client(operator: Operator, client_id: str) -> ClientRecord:
    """One client. Raises NotRegistered."""
    record = await operator.store.find_client(client_id)
    if record is None:
        raise NotRegistered(f"no client {client_id}. See: groat client list")
    return record


@dataclass(frozen=True, slots=True)
class ClientChange:
    """What becomes of a client (None: it goes), and what it loses."""

    seen: int
    before: ClientRecord
    after: ClientRecord | None
    losses: tuple[Loss, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is different afterwards."""
        return self.before != self.after


async def plan_client_update(
    operator: Operator,
    client_id: str,
    allow: Mapping[str, Sequence[str]] | None = None,
    change: SettingsChange = UNCHANGED,
) -> ClientChange:
    """What `update_client` would do; changes nothing."""
    seen = await operator.store.registry_version()
    before = record = await find_client(operator, client_id)
    if allow:
        merged = {**record.allow, **await _allow(operator, allow)}
        record = replace(record, allow={api: scopes for api, scopes in merged.items() if scopes})
    record = replace(record, settings=change.applied(record.settings))
    await _check_settings(operator, record, before)
    keys = await operator.store.client_keys(client_id)
    if has_proof(before, keys) and not has_proof(record, keys):
        loss = everything_of(record, "none of its keys and certificates counts any more")
    else:
        loss = loss_between(before, record)
    return ClientChange(seen, before, record, (loss,) if loss != Loss(client_id) else ())


@writes("client.update", plan=plan_client_update)
@again_if_moved
async def update_client(
    operator: Operator,
    client_id: str,
    allow: Mapping[str, Sequence[str]] | None = None,
    change: SettingsChange = UNCHANGED,
) -> ClientRecord:
    """Change what a client may ask (`allow` replaces the scopes of the APIs it names) and its settings."""
    plan = await plan_client_update(operator, client_id, allow, change)
    record = plan.after or plan.before
    await operator.change(plan.seen, [ReplaceClient(record)], "client.updated", {"client": client_id})
    return record


async def plan_client_end(operator: Operator, client_id: str, *, for_good: bool) -> ClientChange:
    """What `remove_client`, or else switching it off, would do; changes nothing."""
    seen = await operator.store.registry_version()
    before = await find_client(operator, client_id)
    why = "for good" if for_good else f"until it is enabled again: {command('client enable', client_id)}"
    losses = (everything_of(before, f"it gets no token, {why}"),) if before.enabled else ()
    return ClientChange(seen, before, None if for_good else replace(before, enabled=False), losses)


@writes("client.enable", plan=plan_client_end)
async def enable_client(operator: Operator, client_id: str, *, enabled: bool) -> ClientRecord:
    """Switch a client on or off, with effect on the next request."""
    record = replace(await find_client(operator, client_id), enabled=enabled)
    operation = "client.enabled" if enabled else "client.disabled"
    await operator.change(None, [SwitchClient(client_id, enabled, operator.now)], operation, {"client": client_id})
    return record


@writes("client.remove", plan=plan_client_end)
async def remove_client(operator: Operator, client_id: str) -> None:
    """Remove a client and its keys; the id is never given to another one."""
    await find_client(operator, client_id)
    await operator.change(None, [RemoveClient(client_id, operator.now)], "client.removed", {"client": client_id})


@writes("client.invite")
async def invite_client(
    operator: Operator, invitations: Invitations, client_id: str, lifetime: int, allow: Mapping[str, Sequence[str]]
) -> str:
    """A join code with which a host registers a key for this client, once; `allow` registers the client first."""
    check(60 <= lifetime <= MAX_INVITATION, f"a join code is valid for 1m to {MAX_INVITATION // 86400}d")
    if allow:
        await add_client(operator, client_id, allow, None)
    else:
        await find_client(operator, client_id)
    now = operator.now
    # The store keeps nothing of a code; but a right was given away, and the trail says by whom.
    given = Effect(f"client/{client_id}", None, written({"invitation": {"expires_at": now + lifetime}}))
    rows = await operator.store.record(operator.deed("client.invited"), given)
    operator.tell("client.invited", {"client": client_id, "expires_at": now + lifetime}, rows)
    return invitations.make(client_id, now, now + lifetime)


async def _allow(operator: Operator, allow: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    apis = {api.name: api for api in await operator.store.list_apis()}
    faults = [Finding(fault, setting=f"allow.{name}") for name, scopes in allow.items()
              if (fault := _allow_fault(apis, name, scopes))]  # fmt: skip
    if faults:
        raise ConfigError(*faults)
    return {name: checked_scopes(scopes) for name, scopes in allow.items()}


def _allow_fault(apis: Mapping[str, ApiRecord], name: str, scopes: Sequence[str]) -> str:
    if name not in apis:
        return f"no API {name}{meant(name, apis)}; registered: {', '.join(apis) or 'none'}"
    known = apis[name].scopes
    unknown = sorted(set(scopes) - set(known))
    close = meant(unknown[0], known) if unknown else ""
    return f"API {name} has no scope {', '.join(unknown)}{close}; it has: {' '.join(known)}" if unknown else ""


def meant(name: str, known: Iterable[str]) -> str:
    """For an error about a name that is none: the one that is close, if any."""
    close = difflib.get_close_matches(name, [*known], 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


async def _check_settings(operator: Operator, record: ClientRecord, before: ClientRecord | None = None) -> None:
    """What the settings alone cannot know: what else the client has, and what the policy allows."""
    settings = record.settings
    granted = {scope for scopes in record.allow.values() for scope in scopes}
    missing = sorted(set(settings.default_scopes) - granted)
    _check(not missing, f"default scope {', '.join(missing)} is not among the allowed ones", "default_scopes")
    pinned = settings.signing_alg
    _check(pinned is None or pinned in operator.policy.algorithms, f"unknown algorithm {pinned}", "signing_alg")
    if settings.claims:
        check_claims(operator.policy, await operator.store.list_apis(), record, before)


def _check(condition: object, message: str, setting: str) -> None:
    """Raises ConfigError unless it holds; it says which setting it is about."""
    if not condition:
        raise ConfigError(Finding(message, setting=setting))
