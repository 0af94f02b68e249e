"""What happens within one transaction on PostgreSQL, and how much time such a one may take."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from groat.server.store import Rows
from groat.server.store.changes import Value
from groat.server.store.conflicts import Collision
from groat.server.store.postgres.link import Link, Refused, Row
from groat.server.store.registry_sql import Statement

_COLLISIONS: Final = ("23505", "23503")  # unique violation, foreign key violation


@dataclass(frozen=True, slots=True)
class PostgresTransaction:
    """On a connection where BEGIN was said. After an error it takes nothing but ROLLBACK."""

    link: Link

    async def rows(self, statement: Statement, *values: Value) -> list[Row]:
        return await self.link.query(statement.postgres, *values)

    async def change(self, statement: Statement, *values: Value) -> None:
        with _collisions():
            await self.link.query(statement.postgres, *values)

    async def take_time(self) -> None:
        await take_time(self.link)

    async def insert(self, table: str, rows: Rows) -> None:
        with _collisions():
            await self.link.query(
                f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1)",
                json.dumps(rows, default=_hexadecimal), seconds=60,
            )  # fmt: skip


@contextmanager
def _collisions() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        if error.sqlstate in _COLLISIONS:
            raise Collision(str(error)) from None
        raise


async def keep_others_out(link: Link) -> None:
    """From changes and uses alike, until the end of the transaction; who only reads goes on."""
    await link.query("LOCK TABLE registry, used_once IN SHARE ROW EXCLUSIVE MODE")
    await take_time(link)


async def take_time(link: Link) -> None:
    """For the rest of the transaction: a portion may take a minute, here or at the other end of a copy."""
    await link.query("SET LOCAL statement_timeout = '60s'")
    await link.query("SET LOCAL idle_in_transaction_session_timeout = '60s'")


def _hexadecimal(value: bytes) -> str:
    return f"\\x{value.hex()}"
