"""Clients and the rules that make workloads clients, as the admin API has them."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import UNSET

from groat.admin_api.client_keys import keys_of
from groat.admin_api.documents import (
    OFFERED,
    ClientDocument,
    ClientPatch,
    DryRun,
    Invitation,
    JoinCode,
    ListedClientDocument,
    NewClient,
    NewRule,
    Outcome,
    Page,
    Paged,
    RuleDocument,
    WhichClients,
)
from groat.admin_api.paging import cursor_of, last_name, page_of
from groat.admin_api.rows import Ask, Row, plain
from groat.protocol.client_settings import DEFAULTS, ClientSettings, Kind, SettingsChange
from groat.protocol.errors import ConfigError
from groat.protocol.federation.claim_paths import parse_path
from groat.protocol.federation.conditions import Condition
from groat.protocol.key_limits import KeyLimits
from groat.protocol.pairs import Amendment
from groat.server.operations import client_lists, clients, trust_rules
from groat.server.operations.losses import Loss


async def _list(ask: Ask) -> Any:
    query: WhichClients = ask.query
    name, mark, value = query.label.partition("=")
    if query.label and not (name and mark and value):
        raise ConfigError("label must be NAME=VALUE")
    labels = {name: value} if query.label else {}
    unused = None if query.unused is UNSET else query.unused
    wanted = client_lists.ClientFilter(query.api, labels, query.disabled, unused)
    part = await client_lists.list_some_clients(ask.operator, wanted, last_name(query), query.limit)
    items = [plain(one.document()) for one in part.found]
    return {"items": items, "next": None if part.last is None else cursor_of(part.last)}


async def _show(ask: Ask) -> Any:
    return plain((await clients.find_client(ask.operator, ask.path["client_id"])).document())


async def _add(ask: Ask) -> Any:
    new = ask.body
    settings = ClientSettings(**{name: getattr(new, name) for name in OFFERED})
    if bool(new.keys) + bool(new.no_key) + (settings.jwks_uri is not None) != 1:
        raise ConfigError("give one of keys, no_key and jwks_uri")
    limits = KeyLimits(new.not_before, new.expires_at)
    if not new.keys and limits != KeyLimits():
        raise ConfigError("keys that are not registered here have no limits here")
    keys = None if new.no_key else keys_of(new.keys)
    record = await clients.add_client(ask.operator, new.client_id, new.allow, keys, settings, limits=limits)
    return plain(record.document())


def _change(ask: Ask) -> tuple[dict[str, Sequence[str]], SettingsChange]:
    """null takes a setting back to its default, an API away, and a claim or label (RFC 7396)."""
    members = ask.members
    allow = {api: scopes or () for api, scopes in (members.pop("allow", None) or {}).items()}
    return allow, SettingsChange.of({name: _meant(name, value) for name, value in members.items()})


def _meant(name: str, value: Any) -> Any:
    if value is None:
        return getattr(DEFAULTS, name)
    if OFFERED[name].kind is Kind.PAIRS:
        if "" in value.values():
            raise ConfigError(f"{name}: a value is empty; null takes a name away")
        return Amendment({one: text or "" for one, text in value.items()})
    return value


async def _update(ask: Ask) -> Any:
    record = await clients.update_client(ask.operator, ask.path["client_id"], *_change(ask))
    return plain(record.document())


async def _update_hits(ask: Ask) -> Sequence[Loss]:
    return (await clients.plan_client_update(ask.operator, ask.path["client_id"], *_change(ask))).losses


async def _enable(ask: Ask) -> Any:
    record = await clients.enable_client(ask.operator, ask.path["client_id"], enabled=True)
    return plain(record.document())


async def _disable(ask: Ask) -> Any:
    record = await clients.enable_client(ask.operator, ask.path["client_id"], enabled=False)
    return plain(record.document())


async def _disabling_hits(ask: Ask) -> Sequence[Loss]:
    return (await clients.plan_client_end(ask.operator, ask.path["client_id"], for_good=False)).losses


async def _remove(ask: Ask) -> Any:
    await clients.remove_client(ask.operator, ask.path["client_id"])


async def _removal_hits(ask: Ask) -> Sequence[Loss]:
    return (await clients.plan_client_end(ask.operator, ask.path["client_id"], for_good=True)).losses


async def _invite(ask: Ask) -> Any:
    client_id, seconds = ask.path["client_id"], ask.body.valid_seconds
    code = await clients.invite_client(ask.operator, ask.desk.invitations, client_id, seconds, {})
    return {"client_id": client_id, "code": code, "valid_seconds": seconds}


# Rules


async def _list_rules(ask: Ask) -> Any:
    found = await trust_rules.list_rules(ask.operator, ask.path["client_id"])
    return page_of([plain(one.document()) for one in found], "rule", ask.query)


async def _show_rule(ask: Ask) -> Any:
    plan = await trust_rules.plan_rule_removal(ask.operator, ask.path["client_id"], ask.path["rule"])
    return plain(plan.record.document())


async def _add_rule(ask: Ask) -> Any:
    new: NewRule = ask.body
    record = await trust_rules.add_rule(
        ask.operator, ask.path["client_id"], new.trust, [Condition.parse(one) for one in new.match],
        [parse_path(one) for one in new.copy], frozenset(new.allow),
    )  # fmt: skip
    return plain(record.document())


async def _remove_rule(ask: Ask) -> Any:
    await trust_rules.remove_rule(ask.operator, ask.path["client_id"], ask.path["rule"])


async def _rule_hits(ask: Ask) -> Sequence[Loss]:
    return (await trust_rules.plan_rule_removal(ask.operator, ask.path["client_id"], ask.path["rule"])).losses


_ONE: Final = "/clients/{client_id}"
_RULE: Final = f"{_ONE}/trusts/{{rule}}"
_OUTCOME: Final = Outcome[ClientDocument]  # type: ignore[valid-type]
ROWS: Final = (
    Row(
        method="GET", path="/clients", operation="client.list", answer=_list,
        gives=Page[ListedClientDocument], query=WhichClients,  # type: ignore[valid-type]
    ),
    Row(
        method="POST", path="/clients", operation="client.add", answer=_add, gives=ClientDocument, takes=NewClient,
        query=DryRun, location="client_id",
    ),
    Row(method="GET", path=_ONE, operation="client.show", answer=_show, gives=ClientDocument),
    Row(
        method="PATCH", path=_ONE, operation="client.update", answer=_update, gives=_OUTCOME, takes=ClientPatch,
        query=DryRun, current=_show, losses=_update_hits,
    ),
    Row(
        method="DELETE", path=_ONE, operation="client.remove", answer=_remove, gives=_OUTCOME, query=DryRun,
        current=_show, losses=_removal_hits,
    ),
    Row(
        method="POST", path=f"{_ONE}/enable", operation="client.enable", answer=_enable, gives=_OUTCOME,
        query=DryRun, current=_show,
    ),
    Row(
        method="POST", path=f"{_ONE}/disable", operation="client.enable", answer=_disable, gives=_OUTCOME,
        query=DryRun, current=_show, losses=_disabling_hits,
    ),
    Row(
        method="POST", path=f"{_ONE}/invitations", operation="client.invite", answer=_invite, gives=JoinCode,
        takes=Invitation,
    ),
    Row(
        method="GET", path=f"{_ONE}/trusts", operation="rule.list", answer=_list_rules, gives=Page[RuleDocument],
        query=Paged,
    ),
    Row(
        method="POST", path=f"{_ONE}/trusts", operation="rule.add", answer=_add_rule, gives=RuleDocument,
        takes=NewRule, query=DryRun, location="rule",
    ),
    Row(method="GET", path=_RULE, operation="rule.list", answer=_show_rule, gives=RuleDocument),
    Row(
        method="DELETE", path=_RULE, operation="rule.remove", answer=_remove_rule, gives=Outcome[RuleDocument],
        query=DryRun, current=_show_rule, losses=_rule_hits,
    ),
)  # fmt: skip
