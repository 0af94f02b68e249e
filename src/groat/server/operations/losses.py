"""Who is hit by a change, and what each client loses by it: pure functions of what is registered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from groat.keys.client_keys import LAST_USE_RESOLUTION, KeyLife, span
from groat.protocol.binding import Binding
from groat.protocol.errors import ConfigError
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord

# How often the use of a client is noted, whatever it proved itself by: NOTE_CLIENTS in store/registry_sql.py.
CLIENT_USE_RESOLUTION: Final = 3600
# What a demand asks of a client, in words.
_PROVEN: Final = {
    Binding.DPOP: "a key (DPoP)",
    Binding.MTLS: "a certificate",
    Binding.ANY: "a key (DPoP) or a certificate",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """What one client loses. `permissions`: the APIs of which nothing is left to it; `why`: the rest, in words."""

    client_id: str
    scopes: tuple[str, ...] = ()
    default_scopes: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        parts = (
            f"loses {' '.join(self.scopes)}" if self.scopes else "",
            f"default scopes {' '.join(self.default_scopes)}" if self.default_scopes else "",
            f"nothing of {' '.join(self.permissions)} is left to it" if self.permissions else "",
            self.why,
        )
        return f"{self.client_id}: {'; '.join(part for part in parts if part)}"


def loss_between(before: ClientRecord, after: ClientRecord, why: str = "") -> Loss:
    """What a client has before and not after; `why` goes along as it is."""
    gone = {api: [s for s in scopes if s not in after.allow.get(api, ())] for api, scopes in before.allow.items()}
    return Loss(
        before.client_id,
        tuple(dict.fromkeys(scope for scopes in gone.values() for scope in scopes)),
        tuple(scope for scope in before.settings.default_scopes if scope not in after.settings.default_scopes),
        tuple(api for api in before.allow if not after.allow.get(api) and (gone[api] or api not in after.allow)),
        why,
    )


def everything_of(client: ClientRecord, why: str) -> Loss:
    """A client that gets no token any more."""
    return loss_between(client, _with_grants(client, {}), why)


def needs_no_key_here(client: ClientRecord) -> bool:
    """Whether it may come without a registered key. Not checked: what it publishes, and dates of certificates."""
    settings = client.settings
    return bool(settings.jwks_uri is not None or settings.certificates or settings.certificate_ca)


def has_proof(client: ClientRecord, keys: Iterable[ClientKeyRecord]) -> bool:
    """Whether it may have a key or certificate that its settings let count. Not checked: limits of keys."""
    return needs_no_key_here(client) or any(client.settings.signing_alg in (None, key.algorithm) for key in keys)


def without_scopes(clients: Iterable[ClientRecord], api: ApiRecord, gone: set[str]) -> list[ClientRecord]:
    """The clients that lose a grant or default with these scopes: a later scope of that name is granted to nobody."""
    affected = []
    for client in clients if gone else ():
        if gone.isdisjoint(client.allow.get(api.name, ())):
            continue
        left = {**client.allow, api.name: tuple(scope for scope in client.allow[api.name] if scope not in gone)}
        affected.append(_with_grants(client, left))
    return affected


def without_api(clients: Iterable[ClientRecord], api: ApiRecord) -> list[ClientRecord]:
    """The clients that were granted anything of an API, without that."""
    return [
        _with_grants(client, {name: scopes for name, scopes in client.allow.items() if name != api.name})
        for client in clients
        if api.name in client.allow
    ]


def _with_grants(client: ClientRecord, left: dict[str, tuple[str, ...]]) -> ClientRecord:
    allow = {name: scopes for name, scopes in left.items() if scopes}
    still = {scope for scopes in allow.values() for scope in scopes}
    defaults = tuple(scope for scope in client.settings.default_scopes if scope in still)
    return replace(client, allow=allow, settings=replace(client.settings, default_scopes=defaults))


def losses_of_api(
    before: ApiRecord,
    after: ApiRecord | None,
    clients: Sequence[ClientRecord],
    changed: Sequence[ClientRecord],
    demanded: Binding = Binding.NONE,
) -> tuple[Loss, ...]:
    """Whom the change of an API hits (None: it goes): `changed` are those of `clients` that lose a grant by it.

    Another audience hits everybody who has a grant: tokens are asked for, and accepted, by that name. `demanded`: what
    the profile wants of all tokens.
    """
    left = {client.client_id: client for client in changed}
    found = []
    for client in clients:
        why = _demands(before, after, client, demanded) if after and before.name in client.allow else ""
        if client.client_id in left or why:
            found.append(loss_between(client, left.get(client.client_id, client), why))
    return tuple(found)


def _demands(before: ApiRecord, after: ApiRecord, client: ClientRecord, demanded: Binding) -> str:
    """What a client that keeps its grant must do in another way from then on; empty for nothing."""
    parts = []
    if after.audience != before.audience:
        parts.append(f"must ask for {after.audience} from then on, no more for {before.audience}")
    if not any(known.implies(after.binding) for known in (before.binding, client.settings.binding, demanded)):
        parts.append(f"must prove {_PROVEN[after.binding]} for each token of {after.name}")
    return "; ".join(parts)


def losses_of_client_key(client: ClientRecord, key: KeyLife, others: Sequence[KeyLife], now: float) -> tuple[Loss, ...]:
    """Whom the removal of a client's key hits: the client whose last proof it is, and the host that uses it."""
    if not key.valid(now):
        return ()
    if not needs_no_key_here(client) and not any(other.valid(now) for other in others):
        return (everything_of(client, "it has no other valid key"),)
    used = key.last_used_at
    return () if used is None else (Loss(client.client_id, why=f"it used this key {span(now - used)} ago"),)


def losses_of_rules(
    client: ClientRecord, gone: Sequence[str], *, otherwise: bool, always: bool = False
) -> tuple[Loss, ...]:
    """Whom the removal of rules of one client hits: the client, where nothing lets it in `otherwise`.

    `gone`: their ids. `always`: named in any case, because its rules go with something else.
    """
    rules = f"rule{'s' if len(gone) > 1 else ''} {' '.join(gone)}"
    if not otherwise and client.enabled:
        return (everything_of(client, f"without {rules} it has neither a valid key nor a rule that counts"),)
    return (Loss(client.client_id, why=f"{rules} {'go' if len(gone) > 1 else 'goes'} along"),) if always else ()


def losses_of_signing_key(
    clients: Iterable[ClientRecord], keys: Iterable[ClientKeyRecord], unused_since: Mapping[str, int], since: float
) -> tuple[Loss, ...]:
    """Whom the end of a signing key hits: who asked for a token after `since`, as far as that was noted.

    `unused_since`: as `Store.unused_since`. By it alone are known, to the hour, those who came without a registered
    key: by a certificate, as a workload, by a key that is gone.
    """
    used: dict[str, int] = {}
    for key in keys:
        used[key.client_id] = max(used.get(key.client_id, 0), key.last_used_at or 0)

    def may_hold_some(client: ClientRecord) -> bool:
        by_key, by_any = used.get(client.client_id, 0), unused_since.get(client.client_id, 0)
        otherwise = needs_no_key_here(client) or by_any > by_key
        return by_key >= since - LAST_USE_RESOLUTION or (
            otherwise and by_any > client.created_at and by_any >= since - CLIENT_USE_RESOLUTION
        )

    return tuple(
        Loss(client.client_id, why="the tokens that it has are refused; it must get new ones")
        for client in clients
        if client.settings.jwks_uri is not None or may_hold_some(client)
    )


def refuse_others(agreed: Sequence[Loss] | None, losses: Sequence[Loss]) -> None:
    """Raises ConfigError where other clients are hit than those whom an operator was told of (None: whoever it is)."""
    if agreed is not None and [*map(_what, agreed)] != [*map(_what, losses)]:
        raise ConfigError("meanwhile other clients would be hit; nothing was changed. Run it again to see them")


def _what(loss: Loss) -> Loss:
    # For how long a key was not used changes while somebody thinks about the answer.
    return loss if loss.scopes or loss.permissions else replace(loss, why="")
