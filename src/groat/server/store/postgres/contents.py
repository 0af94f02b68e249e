"""All that a store on PostgreSQL holds, within one transaction of the caller's."""

from collections.abc import AsyncIterator
from typing import Final

from groat.server.store import Rows
from groat.server.store.postgres.link import Link
from groat.server.store.postgres.transaction import take_time
from groat.server.store.registrations import known_table

PORTION: Final = 1000


async def read_all(link: Link, table: str) -> AsyncIterator[Rows]:
    """Every row of one of TABLES as it is at one moment, in portions. Raises Refused, LinkLost, StoreConflict."""
    await link.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await take_time(link)
    await link.query(f"DECLARE portion NO SCROLL CURSOR FOR SELECT * FROM {known_table(table)}", seconds=60)
    while rows := await link.query(f"FETCH {PORTION} FROM portion", seconds=60):
        yield rows
