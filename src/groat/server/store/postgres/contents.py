"""All that a store on PostgreSQL holds, out and in, each within one transaction of the caller's."""

import json
from collections.abc import AsyncIterator
from typing import Final

from groat.server.store import TABLES, Rows, StoreConflict
from groat.server.store.postgres.link import Link

PORTION: Final = 1000


async def read_all(link: Link, table: str) -> AsyncIterator[Rows]:
    """Every row of one of TABLES as it is at one moment, in portions. Raises Refused, LinkLost, StoreConflict."""
    await link.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await take_time(link)
    await link.query(f"DECLARE portion NO SCROLL CURSOR FOR SELECT * FROM {_known(table)}", seconds=60)
    while rows := await link.query(f"FETCH {PORTION} FROM portion", seconds=60):
        yield rows


async def fill(link: Link, contents: AsyncIterator[tuple[str, Rows]]) -> None:
    """Take rows over. Raises StoreConflict unless there are none yet, Refused, LinkLost."""
    await link.query("LOCK TABLE registry, used_once IN SHARE ROW EXCLUSIVE MODE")
    await take_time(link)
    for table in TABLES:
        if await link.query(f"SELECT 1 FROM {table} LIMIT 1"):
            raise StoreConflict(f"the target is not empty: it has {table}")
    async for table, rows in contents:
        await link.query(
            f"INSERT INTO {_known(table)} SELECT * FROM json_populate_recordset(NULL::{_known(table)}, $1)",
            json.dumps(rows, default=_hexadecimal), seconds=60,
        )  # fmt: skip


async def take_time(link: Link) -> None:
    """For the rest of the transaction: a portion may take a minute, here or at the other end of a copy."""
    await link.query("SET LOCAL statement_timeout = '60s'")
    await link.query("SET LOCAL idle_in_transaction_session_timeout = '60s'")


def _known(table: str) -> str:
    if table not in TABLES:
        raise StoreConflict(f"no table {table}")
    return table


def _hexadecimal(value: bytes) -> str:
    return f"\\x{value.hex()}"
