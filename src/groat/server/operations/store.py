"""What an operator may do with a store as a whole: look at it, back it up, fence it, move it. Faces call these."""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from groat.protocol.errors import ConfigError
from groat.server.operations.clock import check_clock, floor_of_now
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import Operator
from groat.server.store import (
    FORGET_AFTER,
    MAX_SKEW_SECONDS,
    TABLES,
    Condition,
    Rows,
    Store,
    StoreConflict,
    StoreUnavailable,
)
from groat.server.store.sqlite.backup import BackedUp, read_back, write_backup
from groat.server.store.sqlite.store import SqliteStore


@reads("store.look")
async def look_at_store(operator: Operator) -> Condition:
    """How the store is now."""
    return await operator.store.condition()


@writes("store.fence")
async def fence_store(operator: Operator) -> Condition:
    """After a restore: refuse every assertion that was signed up to now, on every server, from its next request on.

    Clients that sign a new assertion for each attempt notice one refusal (503) at most, or a few within the tolerance.
    A floor never goes down: raises Unavailable where the store contradicts this host's clock.
    """
    rows = await operator.store.raise_floor(operator.deed("store.fenced"), await floor_of_now(operator))
    condition = await operator.store.condition()
    operator.tell("store.fenced", {"floor": condition.floor}, rows)
    return condition


@writes("store.take_back")
async def take_back_horizon(operator: Operator) -> Condition:
    """After a clock that was ahead had its way: let the store believe this host's clock, and fence it.

    Raises ConfigError where the store has seen no later time, Unavailable where its own clock says another one.
    """
    condition = await operator.store.condition()
    offset = condition.clock_offset or 0.0
    if abs(offset) > MAX_SKEW_SECONDS:
        await check_clock(operator.store, operator.clock)
    now = operator.clock()
    if condition.horizon < now:
        raise ConfigError("the store has seen no later time than this host's clock says; nothing was done")
    floor = math.ceil(now + max(offset, 0.0)) + operator.policy.clock_tolerance
    rows = await operator.store.lower_horizon(operator.deed("store.fenced"), int(now) - FORGET_AFTER, floor)
    condition = await operator.store.condition()
    operator.tell("store.fenced", {"floor": condition.floor, "horizon": condition.horizon}, rows)
    return condition


@writes("store.reopen")
async def reopen_store(operator: Operator) -> Condition:
    """Take up a store again that was closed for a copy which then came to nothing; fences it as well.

    Not checked: whether the copy is in use. Two stores in use at once accept each assertion twice.
    """
    deed = operator.deed("store.reopened")
    await operator.store.raise_floor(deed, await floor_of_now(operator))
    rows = await operator.store.shut(deed, None)
    condition = await operator.store.condition()
    operator.tell("store.reopened", {"floor": condition.floor}, rows)
    return condition


@writes("store.backup")
async def backup_store(operator: Operator, target: Path) -> BackedUp:
    """Write a consistent copy of a SQLite store to a new file, also while servers use it. Raises as `write_backup`."""
    done = write_backup(_sqlite(operator).path, target, operator.now)
    operator.audit.operated("store.backed_up", {"file": done.file, "registry_version": done.registry_version})
    return done


@writes("store.restore")
async def restore_store(operator: Operator, backup: Path) -> Condition:
    """Replace what the operator's SQLite store holds by a backup, and fence it: I1 holds though uses were forgotten.

    Servers may run; they see it at their next request. Raises as `read_back` does.
    """
    await check_clock(operator.store, operator.clock)
    tolerance = operator.policy.clock_tolerance
    deed = operator.deed("store.restored")
    rows = await read_back(_sqlite(operator).path, backup, lambda: math.ceil(operator.clock()) + tolerance, deed)
    condition = await operator.store.condition()
    operator.tell("store.restored", {"file": str(backup), "floor": condition.floor}, rows)
    return condition


def _sqlite(operator: Operator) -> SqliteStore:
    if not isinstance(operator.store, SqliteStore):
        raise ConfigError("only a SQLite store is one file; PostgreSQL has pg_dump and pg_restore")
    return operator.store


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: rows by table."""

    rows: dict[str, int]


@writes("store.copy")
async def copy_store(operator: Operator, target: Store) -> Copied:
    """Move everything to an empty store, used values included, so that no assertion is accepted by both.

    The operator's store is closed first and stays closed: its servers answer 503 from then on. Raises StoreConflict
    when the target is not empty (nothing is closed then), StoreUnavailable when either cannot answer.
    """
    source = operator.store
    for table in TABLES:
        async for _ in target.read_all(table):
            raise StoreConflict(f"the target is not empty: it has {table}")
    deed = operator.deed("store.copied")
    await source.shut(deed, deed.at)
    condition = await source.condition()
    counts = dict.fromkeys(TABLES, 0)
    try:
        rows = await target.fill(
            deed, _contents(source, counts), condition.registry_version, condition.floor, condition.horizon
        )
    except (StoreUnavailable, StoreConflict) as error:
        raise type(error)(f"{error}. The source stays closed: copy again, or take it up: groat store reopen") from None
    operator.tell("store.copied", {"rows": counts}, rows)
    return Copied(counts)


async def _contents(source: Store, counts: dict[str, int]) -> AsyncIterator[tuple[str, Rows]]:
    for table in TABLES:
        async for rows in source.read_all(table):
            counts[table] += len(rows)
            yield table, rows
