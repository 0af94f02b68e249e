"""What happens within one transaction on SQLite."""

import sqlite3
from dataclasses import dataclass

from groat.server.store import Rows
from groat.server.store.changes import Value
from groat.server.store.conflicts import Collision
from groat.server.store.registry_sql import Statement


@dataclass(frozen=True, slots=True)
class SqliteTransaction:
    """On a connection that has the file's write lock.

    Nothing in here waits, though its form says that it may: on the connection that everybody reads by, another
    coroutine would find what is not committed yet.
    """

    connection: sqlite3.Connection

    async def rows(self, statement: Statement, *values: Value) -> list[sqlite3.Row]:
        cursor = self.connection.execute(statement.sqlite, values)
        cursor.row_factory = sqlite3.Row
        return cursor.fetchall()

    async def change(self, statement: Statement, *values: Value) -> None:
        try:
            self.connection.execute(statement.sqlite, values)
        except sqlite3.IntegrityError as error:
            raise Collision(str(error)) from None

    async def take_time(self) -> None:
        """Who has the lock has it for as long as it takes."""

    async def insert(self, table: str, rows: Rows) -> None:
        columns = tuple(rows[0])
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        try:
            self.connection.executemany(statement, [tuple(row.values()) for row in rows])
        except sqlite3.IntegrityError as error:
            raise Collision(str(error)) from None
