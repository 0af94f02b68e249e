"""A copy of a registry in memory, to try changes on: what an operation does to it is remembered.

It is the SQLite store without a file, so that every check and every change means here what it means in a store. It
holds what a store's registry holds (private keys sealed), nothing of what was used, and ends with its process.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from groat.server.store import TABLES, ClientWithKeys, RegistryMoved, Rows, Store, StoreUnavailable
from groat.server.store import registry_sql as sql
from groat.server.store.audit_trail import Deed
from groat.server.store.changes import Change, Value
from groat.server.store.records import ApiKeyRecord, ApiRecord, ClientKeyRecord, ClientRecord, RuleRecord
from groat.server.store.registrations import Registrations, write_all
from groat.server.store.registry_sql import Statement, alike
from groat.server.store.rows import api_key_record, client_key_record, client_record
from groat.server.store.sqlite.contents import read_all
from groat.server.store.sqlite.store import SCHEMA_VERSION, migration
from groat.server.store.sqlite.transaction import SqliteTransaction
from groat.server.store.trust_rows import rule_record

# What is no part of what an operator registers.
_LEFT_OUT: Final = frozenset({"used_once", "audit"})
_ALL_KEYS: Final = alike("SELECT * FROM client_keys ORDER BY client_id, kid")
_ALL_API_KEYS: Final = alike("SELECT * FROM api_keys ORDER BY api, kid")
_ALL_RULES: Final = alike("SELECT * FROM trust_rules ORDER BY client_id, rule_id")


class Draft(Registrations):
    """The registry half of a `Store`. `written`: every change that was made here, in its order."""

    def __init__(self) -> None:
        self.written: list[Change] = []
        self._apis: tuple[ApiRecord, ...] | None = None
        self._clients: tuple[ClientRecord, ...] | None = None
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        for number in range(1, SCHEMA_VERSION + 1):
            for statement in migration(number):
                self._connection.execute(statement)
        self._connection.execute("PRAGMA foreign_keys=ON")

    @classmethod
    async def of(cls, source: Store) -> tuple[Self, int]:
        """A copy, and the version of the registry that it is of. Raises RegistryMoved, StoreUnavailable."""
        version, draft = await source.registry_version(), cls()
        async with draft._transaction() as transaction:
            for table in TABLES:
                async for rows in _rows_of(source, table):
                    await transaction.insert(table, rows)
        # Tables are read one after the other; what is of two moments is of none.
        if await source.registry_version() != version:
            raise RegistryMoved("the registry was changed while it was read. Try again")
        return draft, version

    async def registry_version(self) -> int:
        (row,) = await self._rows(sql.IN_FORCE)
        return int(row["version"])

    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        version = await self.registry_version()
        found = await self._rows(sql.FIND_CLIENT, client_id)
        if not found:
            return version, None
        keys = await self._rows(sql.KEYS_OF, client_id)
        return version, (client_record(found[0]), tuple(map(client_key_record, keys)))

    async def list_apis(self) -> tuple[ApiRecord, ...]:
        """Kept until something changes: each client that is checked asks for them."""
        if self._apis is None:
            self._apis = await super().list_apis()
        return self._apis

    async def list_clients(self) -> tuple[ClientRecord, ...]:
        """Kept as well: each API that is changed asks who has it."""
        if self._clients is None:
            self._clients = await super().list_clients()
        return self._clients

    async def all_keys(self) -> tuple[ClientKeyRecord, ...]:
        """The keys of all clients, by client and kid."""
        return tuple(map(client_key_record, await self._rows(_ALL_KEYS)))

    async def all_api_keys(self) -> tuple[ApiKeyRecord, ...]:
        """The keys of all APIs, by API and kid."""
        return tuple(map(api_key_record, await self._rows(_ALL_API_KEYS)))

    async def all_rules(self) -> tuple[RuleRecord, ...]:
        """The rules of all clients, by client."""
        return tuple(map(rule_record, await self._rows(_ALL_RULES)))

    async def change(self, deed: Deed, seen: int | None, many: Sequence[Change]) -> range:
        """As in `Store`, but for the audit trail: what comes of it in the end is written down when it is done.

        `seen` is the version in force: nobody else changes anything here.
        """
        async with self._transaction() as transaction:
            await write_all(transaction, many, deed.at)
        self.written += many
        return range(0)

    async def read_all(self, table: str) -> AsyncIterator[Rows]:
        """As in `Store`."""
        for rows in read_all(self._connection, table):
            yield rows

    async def _rows(self, statement: Statement, *values: Value) -> list[sqlite3.Row]:
        try:
            return await SqliteTransaction(self._connection).rows(statement, *values)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[SqliteTransaction]:
        self._connection.execute("BEGIN")
        try:
            yield SqliteTransaction(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        self._apis = self._clients = None

    _filling = _shutting = _transaction


async def _rows_of(source: Store, table: str) -> AsyncIterator[Rows]:
    if table not in _LEFT_OUT:
        async for rows in source.read_all(table):
            yield rows
