"""Trusted issuers, as the admin API has them."""

from collections.abc import Sequence
from typing import Any, Final

from groat.admin_api.documents import (
    DryRun,
    NewTrust,
    Outcome,
    Page,
    Paged,
    TokenToTest,
    TrustDocument,
    TrustMembers,
)
from groat.admin_api.paging import page_of
from groat.admin_api.rows import Ask, Row, plain
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError
from groat.protocol.federation.trust import KeySource, SourceKind
from groat.protocol.unset import UNSET, Unset
from groat.server.operations import trusts
from groat.server.operations.losses import Loss


def _source(members: dict[str, Any]) -> KeySource | Unset:
    """Where the keys are: files of the server are for its own operators to name, not for whoever has a token."""
    given = {name: members.pop(name) for name in ("jwks", "jwks_uri", "discovery") if name in members}
    if not given:
        return UNSET
    if len(given) > 1 or given.get("discovery") is False:
        raise ConfigError("give one of jwks, jwks_uri and discovery (true)")
    ((name, value),) = given.items()
    at = strict_json.dumps(value).decode() if name == "jwks" else "" if name == "discovery" else value
    return KeySource(SourceKind(name), at)


def _change(ask: Ask) -> trusts.TrustChange:
    members = {name: value for name, value in ask.members.items() if name not in ("name", "issuer", "preset")}
    source = _source(members)
    for name in ("algorithms", "audiences"):
        if name in members:
            members[name] = tuple(dict.fromkeys(members[name]))
    if "uses" in members:
        members["uses"] = frozenset(members["uses"])
    return trusts.TrustChange(source=source, **members)


async def _list(ask: Ask) -> Any:
    found = await trusts.list_trusts(ask.operator)
    return page_of([plain(one.document()) for one in found], "name", ask.query)


async def _show(ask: Ask) -> Any:
    return plain((await trusts.find_trust(ask.operator, ask.path["name"])).document())


async def _add(ask: Ask) -> Any:
    new: NewTrust = ask.body
    return plain((await trusts.add_trust(ask.operator, new.name, new.issuer, new.preset, _change(ask))).document())


async def _update(ask: Ask) -> Any:
    return plain((await trusts.update_trust(ask.operator, ask.path["name"], _change(ask))).document())


async def _enable(ask: Ask) -> Any:
    return plain((await trusts.enable_trust(ask.operator, ask.path["name"], enabled=True)).document())


async def _disable(ask: Ask) -> Any:
    return plain((await trusts.enable_trust(ask.operator, ask.path["name"], enabled=False)).document())


async def _stop_hits(ask: Ask) -> Sequence[Loss]:
    return (await trusts.plan_trust_stop(ask.operator, ask.path["name"])).losses


async def _remove(ask: Ask) -> Any:
    await trusts.remove_trust(ask.operator, ask.path["name"])


async def _removal_hits(ask: Ask) -> Sequence[Loss]:
    return (await trusts.plan_trust_removal(ask.operator, ask.path["name"])).losses


async def _test(ask: Ask) -> Any:
    """By copied keys; where they are elsewhere the signature is not looked at, and the answer says so."""
    name = ask.path["name"]
    source = (await trusts.find_trust(ask.operator, name)).trust
    keys = trusts.keys_in(source.source.at, source) if source.source.kind is SourceKind.COPIED else None
    return await trusts.explain_token(ask.operator, name, ask.body.token, keys, ask.body.client_id)


_ONE: Final = "/trusts/{name}"
_OUTCOME: Final = Outcome[TrustDocument]
ROWS: Final = (
    Row(method="GET", path="/trusts", operation="trust.list", answer=_list, gives=Page[TrustDocument], query=Paged),
    Row(
        method="POST", path="/trusts", operation="trust.add", answer=_add, gives=TrustDocument, takes=NewTrust,
        query=DryRun, location="name",
    ),
    Row(method="GET", path=_ONE, operation="trust.show", answer=_show, gives=TrustDocument),
    Row(
        method="PATCH", path=_ONE, operation="trust.update", answer=_update, gives=_OUTCOME, takes=TrustMembers,
        query=DryRun, current=_show,
    ),
    Row(
        method="DELETE", path=_ONE, operation="trust.remove", answer=_remove, gives=_OUTCOME, query=DryRun,
        current=_show, losses=_removal_hits,
    ),
    Row(
        method="POST", path=f"{_ONE}/enable", operation="trust.enable", answer=_enable, gives=_OUTCOME,
        query=DryRun, current=_show,
    ),
    Row(
        method="POST", path=f"{_ONE}/disable", operation="trust.enable", answer=_disable, gives=_OUTCOME,
        query=DryRun, current=_show, losses=_stop_hits,
    ),
    Row(
        method="POST", path=f"{_ONE}/test", operation="trust.test", answer=_test, gives=dict[str, Any],
        takes=TokenToTest,
    ),
)  # fmt: skip
