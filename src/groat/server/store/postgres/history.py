"""Noticing that the database went back in time, and refusing what it may have forgotten.

A restored dump, a promoted standby and a recovery to an earlier moment have lost uses that tokens were issued for.
Each leaves a mark: another system, timeline, database or storage file than the registry says it lives in. A copy of the
files that was put back leaves none, but then the last use that this process wrote is missing. Whoever notices raises
the floor: assertions signed before it are refused, since nobody can say whether they were used. Who does not agree with
the database about what time it is raises none, and does not work on it until he does.
Not noticed: files that were put back while no process that used the database afterwards still runs (groat store fence).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from groat.server.store import MAX_SKEW_SECONDS, StoreUnavailable
from groat.server.store.audit_sql import STORE
from groat.server.store.audit_trail import Deed, Effect, append, this_process, written
from groat.server.store.postgres.link import Link, Refused, Row
from groat.server.store.postgres.transaction import PostgresTransaction
from groat.server.store.registry_sql import IN_FORCE, RAISE_SEQ
from groat.server.unavailable import ClocksDiffer

# The timeline of the write-ahead log is current at once after a promotion; that of the last checkpoint is not.
_IDENTITY: Final = """
SELECT (SELECT system_identifier FROM pg_control_system())::text
    || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text AS history
"""
# Also part of every batch: a dump may be restored underneath a connection that stays.
FILENODE: Final = "pg_relation_filenode('used_once'::regclass)::bigint"
_REGISTRY: Final = f"""
SELECT history, filenode, {FILENODE} AS found_filenode, extract(epoch FROM clock_timestamp())::float8 AS now,
    $1::bytea IS NULL OR $2::bigint <= horizon OR EXISTS (SELECT FROM used_once WHERE digest = $1) AS remembers
FROM registry
"""


@dataclass(slots=True)
class Memory:
    """What this process knows of the database's past: the last use that was answered as durable.

    It must be there while the horizon is not past its expiry, which is no question of anybody's clock.
    """

    clock_tolerance: int
    clock: Callable[[], float]
    digest: bytes | None = None
    expires_at: int = 0

    def note(self, digest: bytes, expires_at: int) -> None:
        self.digest, self.expires_at = digest, expires_at


async def settle_history(link: Link, memory: Memory) -> int | None:
    """Compare the past with what is known of it; returns the new floor if it had to be raised. Raises Refused.

    The audit trail says that this process raised it.
    """
    history = await _identity(link)
    row = await _registry(link, memory)
    if _same(row, history):
        return None
    await link.query("BEGIN")
    await link.query("SELECT 1 FROM registry FOR UPDATE")
    row = await _registry(link, memory)
    floor = None
    if not _same(row, history):
        transaction = PostgresTransaction(link)
        before = await transaction.rows(STORE)
        floor = await _adopt(link, row, history, memory)
        if floor:
            deed = Deed(this_process(), "store.went_back", int(row["now"]))
            effect = Effect("store", *(written(dict(rows[0])) for rows in (before, await transaction.rows(STORE))))
            await transaction.change(RAISE_SEQ, floor * 1000)
            (now,) = await transaction.rows(IN_FORCE)
            await append(transaction, deed, [effect], now["version"], now["horizon"])
    await link.query("COMMIT")
    return floor


async def _identity(link: Link) -> str:
    try:
        return str((await link.query(_IDENTITY))[0]["history"])
    except Refused:
        return "unknown"  # some hosted databases do not tell


async def _registry(link: Link, memory: Memory) -> Row:
    rows = await link.query(_REGISTRY, memory.digest, memory.expires_at)
    if not rows:
        raise StoreUnavailable("the database has no registry. Restore it, or run: groat init")
    return rows[0]


def _same(row: Row, history: str) -> bool:
    return bool(row["history"] == history and row["filenode"] == row["found_filenode"] and row["remembers"])


async def _adopt(link: Link, row: Row, history: str, memory: Memory) -> int | None:
    """Write down whose past this is. A database that nobody has used yet has none to lose."""
    new = row["history"] == "" and row["remembers"]
    floor = 0 if new else _floor(row["now"], memory)
    await link.query(
        "UPDATE registry SET history = $1, filenode = $2, floor = greatest(floor, $3), "
        "version = greatest(version + $4, $3)",
        history, row["found_filenode"], floor, int(not new),
    )  # fmt: skip
    return floor or None


def _floor(database_now: float, memory: Memory) -> int:
    """A floor that is too high stays so, and refuses everybody until then: no clock raises it alone."""
    now = memory.clock()
    if abs(now - database_now) > MAX_SKEW_SECONDS:
        raise ClocksDiffer(
            f"the database went back in time, and its clock differs by {abs(now - database_now):.0f} s from this"
            " server's: nobody can say which assertions it may not know. Set the clocks"
        )
    # iat may lie ahead by the tolerance, so that what was used a moment ago may claim to be that much younger.
    return math.ceil(max(database_now, now)) + memory.clock_tolerance
