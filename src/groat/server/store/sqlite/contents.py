"""A SQLite store as a whole: every row out of it, and into an empty one."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Final

from groat.server.store import TABLES, Rows, StoreConflict, StoreUnavailable

PORTION: Final = 1000  # rows that are in memory at a time


def read_all(connection: sqlite3.Connection, table: str) -> Iterator[Rows]:
    """The rows of one of TABLES as they were when the first was read. Raises StoreUnavailable."""
    connection.row_factory = sqlite3.Row
    try:
        cursor = connection.execute(f"SELECT * FROM {_known(table)}")
        while rows := cursor.fetchmany(PORTION):
            yield [dict(row) for row in rows]
    except sqlite3.Error as error:
        raise StoreUnavailable(f"SQLite: {error}") from None


async def fill(connection: sqlite3.Connection, contents: AsyncIterator[tuple[str, Rows]]) -> None:
    """Write these rows, inside of a transaction of the caller's. Raises StoreConflict where there are some already."""
    _refuse_filled(connection)
    async for table, rows in contents:
        columns = tuple(rows[0])
        connection.executemany(
            f"INSERT INTO {_known(table)} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [tuple(row.values()) for row in rows],
        )


def _known(table: str) -> str:
    """The name, if it is one of ours: names are written into SQL as they are, since they cannot be parameters."""
    if table not in TABLES:
        raise StoreConflict(f"no table {table}")
    return table


def _refuse_filled(connection: sqlite3.Connection) -> None:
    for table in TABLES:
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            raise StoreConflict(f"the target is not empty: it has {table}")
