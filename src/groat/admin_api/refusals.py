"""The last refusals, as the admin API has them."""

from typing import Any, Final

from groat.admin_api.documents import Recent, RecentRefusals
from groat.admin_api.rows import Ask, Row, plain
from groat.server.operations import refusals
from groat.server.operations.refusals import Explanation


async def _list(ask: Ask) -> Any:
    query: Recent = ask.query
    found = await refusals.list_refusals(ask.desk.refusals, query.limit, query.client, query.since)
    return {"items": found}


async def _show(ask: Ask) -> Any:
    return plain(await refusals.find_refusal(ask.desk.refusals, ask.path["request_id"]))


ROWS: Final = (
    Row(method="GET", path="/refusals", operation="refusal.list", answer=_list, gives=RecentRefusals, query=Recent),
    Row(
        method="GET", path="/refusals/{request_id}", operation="refusal.show", answer=_show, gives=Explanation,
    ),
)  # fmt: skip
