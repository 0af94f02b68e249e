"""What an operator may ask the audit trail, and how its oldest rows go."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from groat.server.operations.operation import reads
from groat.server.operations.operator import Operator
from groat.server.operations.signing_keys import trusted_now
from groat.server.store.audit_chain import FORGOTTEN, Chain
from groat.server.store.audit_trail import AuditRow
from groat.server.store.trusted_time import TrustedTime

PORTION: Final = 500  # rows that are in memory at a time
MAX_PORTIONS: Final = 4  # of one part that somebody asks a server for
DAY: Final = 86400  # seconds


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows are meant: all that is set must be so. `since`: epoch seconds.

    `actor`: all of its words, one of them, or what one of them names: `user:ann uid:1000`, `user:ann` or `ann`.
    """

    since: int = 0
    actor: str = ""
    object: str = ""

    def admits(self, row: AuditRow) -> bool:
        """Whether this is one of them."""
        if row.at < self.since or self.object not in ("", row.object):
            return False
        words = row.actor.split(" ")
        return self.actor in ("", row.actor, *words, *(word.partition(":")[2] for word in words))


EVERY_ROW: Final = AuditFilter()


def audit_document(row: AuditRow) -> dict[str, Any]:
    """A row as programs are shown it: what became of the object as JSON, or as text where it is damaged."""
    return asdict(row) | {"before": _parsed(row.before), "after": _parsed(row.after)}


def _parsed(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


@reads("audit.list")
async def list_audit(
    operator: Operator, chosen: AuditFilter = EVERY_ROW, limit: int = 50, before: int | None = None
) -> tuple[AuditRow, ...]:
    """Rows of the audit trail, the newest first, so many at most; `before`: only those with a smaller number."""
    found: list[AuditRow] = []
    while len(found) < limit and (rows := await operator.store.audit_rows(limit=PORTION, before=before)):
        found += filter(chosen.admits, rows)
        before = rows[-1].seq
    return tuple(found[:limit])


@dataclass(frozen=True, slots=True)
class AuditPart:
    """A part of the trail. `last`: the number before which the next one goes on, None at the end."""

    rows: tuple[AuditRow, ...]
    last: int | None


async def list_some_audit(operator: Operator, chosen: AuditFilter, limit: int, before: int | None) -> AuditPart:
    """As `list_audit`, but it looks at so many PORTIONs at most and then says how to go on."""
    found: list[AuditRow] = []
    for _ in range(MAX_PORTIONS):
        rows = await operator.store.audit_rows(limit=PORTION, before=before)
        for row in rows:
            before = row.seq
            if chosen.admits(row):
                found.append(row)
            if len(found) == limit:
                return AuditPart(tuple(found), before)
        if len(rows) < PORTION:
            return AuditPart(tuple(found), None)
    return AuditPart(tuple(found), before)


@reads("audit.export")
async def export_audit(operator: Operator, chosen: AuditFilter, tell: Callable[[AuditRow], None]) -> int:
    """Tell of all these rows, the oldest first; returns how many there were."""
    seq = count = 0
    while rows := await operator.store.audit_rows_after(seq, PORTION):
        for row in filter(chosen.admits, rows):
            tell(row)
            count += 1
        seq = rows[-1].seq
    return count


@dataclass(frozen=True, slots=True)
class Verified:
    """What is wrong with the trail, if anything, and its head: the hash of its newest row, to be kept elsewhere."""

    rows: int
    first: int
    last: int
    head: str
    faults: tuple[str, ...]


@reads("audit.verify")
async def verify_audit(operator: Operator, head: str | None = None) -> Verified:
    """Whether every row is there and as it was written; `head`: a hash that was the trail's head at some time."""
    chain, seq = Chain(head), 0
    while rows := await operator.store.audit_rows_after(seq, PORTION):
        chain.take(rows)
        seq = rows[-1].seq
    chain.finish()
    first, last = chain.first, chain.last
    return Verified(
        chain.rows, first.seq if first else 0, last.seq if last else 0, last.hash if last else "", tuple(chain.faults)
    )


async def forget_audit(operator: Operator, keep: int, time: TrustedTime) -> int:
    """Let the oldest rows go that are older than `keep` seconds; returns how many. Raises Unavailable.

    Not before one of them is a day older than that, so that the rows about this stay few. Nothing goes while the time
    is in doubt.
    """
    oldest = await operator.store.audit_rows_after(0, 1)
    if not oldest or oldest[0].at >= operator.now - keep - DAY:
        return 0  # by a clock that may be wrong, but then nothing happens
    cutoff = await trusted_now(operator.store, time) - keep
    if oldest[0].at >= cutoff - DAY:
        return 0
    gone, rows = await operator.store.forget_audit(operator.deed(FORGOTTEN), cutoff)
    if rows:
        operator.tell(FORGOTTEN, {"rows": gone}, rows)
    return gone
