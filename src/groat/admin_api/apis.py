"""APIs, as the admin API has them."""

from collections.abc import Sequence
from typing import Any, Final

from groat.admin_api.documents import ApiPatch, DryRun, NewApi, Outcome, Page, Paged
from groat.admin_api.paging import page_of
from groat.admin_api.rows import Ask, Row, plain
from groat.protocol.unset import UNSET
from groat.server.operations import apis
from groat.server.operations.losses import Loss
from groat.server.store.records import ApiRecord


async def _list(ask: Ask) -> Any:
    found = await apis.list_apis(ask.operator)
    return page_of([plain(one) for one in found], "name", ask.query)


async def _show(ask: Ask) -> Any:
    return plain(await apis.find_api(ask.operator, ask.path["name"]))


async def _describe(ask: Ask) -> Any:
    _, document = await apis.describe_api(ask.operator, ask.path["name"])
    return document


async def _add(ask: Ask) -> Any:
    new: NewApi = ask.body
    terms = apis.ApiTerms(new.token_lifetime, new.binding, new.status)
    added = await apis.add_api(ask.operator, new.name, new.audience, new.scopes, terms)
    return plain(added)


async def _wish(ask: Ask) -> apis.ApiWish:
    """`scopes` are all that are wanted: what is missing of those that are there goes."""
    given, before = ask.members, await apis.find_api(ask.operator, ask.path["name"])
    scopes = given.get("scopes", before.scopes)
    return apis.ApiWish(
        audience=given.get("audience"),
        add_scopes=[one for one in scopes if one not in before.scopes],
        remove_scopes=[one for one in before.scopes if one not in scopes],
        token_lifetime=given.get("token_lifetime", UNSET),
        binding=given.get("binding", UNSET),
        status=given.get("status", UNSET),
    )


async def _update(ask: Ask) -> Any:
    return plain(await apis.update_api(ask.operator, ask.path["name"], await _wish(ask)))


async def _update_hits(ask: Ask) -> Sequence[Loss]:
    return (await apis.plan_api_update(ask.operator, ask.path["name"], await _wish(ask))).losses


async def _remove(ask: Ask) -> Any:
    await apis.remove_api(ask.operator, ask.path["name"])


async def _removal_hits(ask: Ask) -> Sequence[Loss]:
    return (await apis.plan_api_removal(ask.operator, ask.path["name"])).losses


_ONE: Final = "/apis/{name}"
ROWS: Final = (
    Row(method="GET", path="/apis", operation="api.list", answer=_list, gives=Page[ApiRecord], query=Paged),
    Row(
        method="POST", path="/apis", operation="api.add", answer=_add, gives=ApiRecord, takes=NewApi, query=DryRun,
        location="name",
    ),
    Row(method="GET", path=_ONE, operation="api.show", answer=_show, gives=ApiRecord),
    Row(
        method="PATCH", path=_ONE, operation="api.update", answer=_update, gives=Outcome[ApiRecord], takes=ApiPatch,
        query=DryRun, current=_show, losses=_update_hits,
    ),
    Row(
        method="DELETE", path=_ONE, operation="api.remove", answer=_remove, gives=Outcome[ApiRecord], query=DryRun,
        current=_show, losses=_removal_hits,
    ),
    Row(
        method="GET", path=f"{_ONE}/resource-metadata", operation="api.describe", answer=_describe,
        gives=dict[str, Any],
    ),
)  # fmt: skip
