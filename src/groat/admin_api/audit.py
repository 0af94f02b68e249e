"""The audit trail, as the admin API has it."""

from typing import Any, Final

from groat.admin_api.documents import AuditDocument, Page, WhichRows
from groat.admin_api.paging import cursor_of, last_name
from groat.admin_api.rows import Ask, Row
from groat.protocol.admin_refusals import AdminMalformed
from groat.server.operations.audit import AuditFilter, audit_document, list_some_audit

MAX_DIGITS: Final = 18  # of a number of a row


async def _list(ask: Ask) -> Any:
    """The newest first."""
    query: WhichRows = ask.query
    last = last_name(query)
    if last and not (last.isascii() and last.isdigit() and len(last) <= MAX_DIGITS):
        raise AdminMalformed("admin_query", "cursor is none that was given out")
    chosen = AuditFilter(query.since, query.actor, query.object)
    part = await list_some_audit(ask.operator, chosen, query.limit, int(last) if last else None)
    items = [audit_document(row) for row in part.rows]
    return {"items": items, "next": None if part.last is None else cursor_of(str(part.last))}


ROWS: Final = (
    Row(
        method="GET", path="/audit", operation="audit.list", answer=_list, gives=Page[AuditDocument], query=WhichRows,
    ),
)  # fmt: skip
