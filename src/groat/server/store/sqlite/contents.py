"""Every row out of a SQLite store, in portions."""

import sqlite3
from collections.abc import Iterator
from typing import Final

from groat.server.store import Rows, StoreUnavailable
from groat.server.store.registrations import known_table

PORTION: Final = 1000  # rows that are in memory at a time


def read_all(connection: sqlite3.Connection, table: str) -> Iterator[Rows]:
    """The rows of one of TABLES as they were when the first was read. Raises StoreUnavailable."""
    connection.row_factory = sqlite3.Row
    try:
        cursor = connection.execute(f"SELECT * FROM {known_table(table)}")
        while rows := cursor.fetchmany(PORTION):
            yield [dict(row) for row in rows]
    except sqlite3.Error as error:
        raise StoreUnavailable(f"SQLite: {error}") from None
