"""What an operator may ask about refusals: which there were, and what each means."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol.reasons import TABLES, VERIFIER, Reason
from groat.server.log.refusals import Refusals
from groat.server.operations.operation import reads
from groat.server.operations.operator import NotRegistered

_OF_APIS: Final = ("verify.", "guard.")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One refusal in words. `expected`: what was wrong with this very request, and what would have been right.

    `at`: epoch seconds, None where nobody wrote it down.
    """

    request_id: str
    at: float | None
    event: str
    status: int | None
    error: str | None
    client: str | None
    source: str | None
    reason: str
    meaning: str
    remedy: str
    expected: str


@reads("refusal.show")
async def find_refusal(memory: Refusals, request_id: str) -> Explanation:
    """Why a request was refused, as far as it is remembered. Raises NotRegistered."""
    found = await asyncio.to_thread(memory.find, request_id)  # reads megabytes of each worker
    if found is None:
        raise NotRegistered(
            f"nothing is remembered of request {request_id}: it was not refused, or that is long ago, or it was one of "
            "many alike. Look into the log: groat explain --log FILE"
        )
    return explain(found)


@reads("refusal.list")
async def list_refusals(memory: Refusals, limit: int, client: str = "", since: float = 0.0) -> list[dict[str, Any]]:
    """The last refusals, oldest first, as the log has them."""
    return await asyncio.to_thread(memory.latest, limit, client, since)


def explain(record: Mapping[str, Any]) -> Explanation:
    """What a line of the log says, in words; of a reason that this version does not know, the word alone."""
    code = str(record.get("reason") or "")
    known = _known(code, str(record.get("event") or ""))
    at = record.get("at")
    return Explanation(
        request_id=str(record.get("request_id") or ""),
        at=float(at) if isinstance(at, (int, float)) else None,
        event=str(record.get("event") or ""),
        status=record.get("status") if isinstance(record.get("status"), int) else None,
        error=_text(record.get("error")),
        client=_text(record.get("client")),
        source=_text(record.get("source")),
        reason=code,
        meaning=known.meaning,
        remedy=known.remedy,
        expected=str(record.get("hint") or ""),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _known(code: str, event: str) -> Reason:
    """The same word may mean something else at an API."""
    tables = [table for table in TABLES.values() if table is not VERIFIER]
    for table in [VERIFIER, *tables] if event.startswith(_OF_APIS) else [*tables, VERIFIER]:
        if code in table:
            return table[code]
    return Reason(code, "This version of groat has no such reason.", "docs/reference/reasons.md has them all.")
