"""The store on SQLite: WAL, synchronous=FULL, one writer per process, any number of processes on one machine.

Reads run in the caller's thread: a point lookup takes some ten microseconds, a thread hop costs more.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

from groat.protocol.models import OneTimeValue
from groat.protocol.revocation import RevokedToken
from groat.server.store import (
    PURGE_CHUNK,
    ClientWithKeys,
    Condition,
    Issuance,
    KeyUse,
    Notify,
    Owned,
    Receipt,
    Rows,
    StoreClosed,
    StoreUnavailable,
    silent,
)
from groat.server.store import registry_sql as sql
from groat.server.store.changes import Value
from groat.server.store.group_commit import GroupCommit, Limits
from groat.server.store.records import Lease, LeaseWish
from groat.server.store.registrations import Registrations
from groat.server.store.registry_sql import Statement
from groat.server.store.rows import client_key_record, client_record, replica_name
from groat.server.store.sqlite.contents import read_all
from groat.server.store.sqlite.faults import spoils_connection
from groat.server.store.sqlite.file import SameFiles, check_there, connect, rights_fault
from groat.server.store.sqlite.sidecars import give_rights_back
from groat.server.store.sqlite.transaction import SqliteTransaction
from groat.server.store.sqlite.writer import FORGET, SqliteWriter, take_back, take_lease
from groat.server.turns import Turns

LIMITS: Final = Limits(queue_seconds=1.0, total_seconds=2.0)
SCHEMA_VERSION: Final = 4


def migration(number: int) -> list[str]:
    """The statements of a numbered file, one by one: executescript commits what is open before it begins."""
    script = resources.files("groat.server.store").joinpath(f"migrations/sqlite-{number:04}.sql")
    return script.read_text().split(";\n")


class SqliteStore(Registrations):
    """A Store in one file. Raises StoreUnavailable where SQLite cannot answer; see `Store` for the methods.

    There are two connections. What an operator changes goes through the one that is read from, in the caller's thread.
    What every request writes goes through the writer's, in a thread of its own, so that no loop waits for the disk.
    SQLite's write lock stands between them, and between processes.
    """

    def __init__(self, path: Path, retention: int = 0, notify: Notify = silent) -> None:
        """`retention`: how many seconds the record of an issuance stays, at least.

        `upgraded`: whether this one brought an older schema up to date.
        """
        self.path = path
        self.upgraded = False
        self._files = SameFiles(path)
        self._reader = self._connect()
        self._writer = SqliteWriter(self._connect, self._read_state, self._files, replica_name(), retention, notify)
        self._front = GroupCommit(self._writer, LIMITS)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the file (mode 0600) and bring its schema up to date; safe to repeat."""
        try:
            # SQLite would make it by the umask, and the keys in it may be read by others for a moment.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreUnavailable(f"cannot make {path}: {error.strerror}") from None
        store = cls(path)
        store.upgraded = store._migrate()
        return store

    @classmethod
    def open(cls, path: Path, retention: int = 0, notify: Notify = silent) -> Self:
        """Open an existing store. Raises StoreUnavailable: no such file, or another schema version.

        The schema is not brought up to date here: servers of the version before may still run on the file.
        """
        check_there(path)
        give_rights_back(path)
        store = cls(path, retention, notify)
        version = store._schema_version()
        if version != SCHEMA_VERSION:
            raise StoreUnavailable(f"{path} has schema {version}, this version needs {SCHEMA_VERSION}: groat init")
        store._files.know_log()
        return store

    def _connect(self) -> sqlite3.Connection:
        """To the very file of the start: one that was put in its place remembers other uses."""
        connection = connect(self.path)
        self._files.check()
        return connection

    def _schema_version(self) -> int:
        return int(self._one("PRAGMA user_version")[0])

    def _migrate(self) -> bool:
        """Run the numbered SQL files that are missing, each in its transaction, under the write lock.

        Returns whether there was an older schema.
        """
        with self._locked() as connection:
            # Asked inside of the transaction, because several processes may start at once.
            current = int(connection.execute("PRAGMA user_version").fetchone()[0])
            for number in range(current + 1, SCHEMA_VERSION + 1):
                for statement in migration(number):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={number}")
        return 0 < current < SCHEMA_VERSION

    # Single use

    def wait_for(self, turns: Turns) -> None:
        """Let a batch wait for the requests that are between two phases there, on their way to `use_once`."""
        self._front.turns = turns

    def use_once(
        self,
        once: OneTimeValue,
        issuance: Issuance | None,
        proof: OneTimeValue | None = None,
        owned: Owned | None = None,
    ) -> Coroutine[Any, Any, Receipt]:
        return self._front.use_once(once, issuance, proof, owned)

    async def raise_horizon(self, horizon: int) -> None:
        self._front.started()
        await self._writer.run(lambda connection: connection.execute(sql.RAISE_HORIZON.sqlite, (horizon,)).rowcount)

    async def forget_expired(self) -> int:
        self._front.started()
        for ended in (sql.FORGET_REVOKED.sqlite, sql.FORGET_LISTS.sqlite):
            await self._writer.run(lambda connection, ended=ended: connection.execute(ended).rowcount)  # type: ignore[misc]
        return await self._writer.run(lambda connection: connection.execute(FORGET, (PURGE_CHUNK,)).rowcount)

    async def revoke_token(self, token: RevokedToken) -> None:
        self._front.started()
        if not await self._writer.run(partial(take_back, token)):
            raise StoreClosed

    async def lease(self, wish: LeaseWish) -> Lease:
        self._front.started()
        found: list[Lease] = []

        def take(connection: sqlite3.Connection) -> int:
            found.extend(take_lease(wish, connection))
            return len(found)

        if not await self._writer.run(take):
            raise StoreClosed
        return found[0]

    # Reading

    async def registry_version(self) -> int:
        return self._read_state()[0]

    def _read_state(self) -> tuple[int, float, float]:
        """Version, floor and horizon, by one statement: they must be of one moment."""
        rows = self._all("SELECT version, floor, horizon FROM registry")
        if not rows:
            raise StoreUnavailable("SQLite: the registry is empty: this file was restored in part only")
        return int(rows[0]["version"]), float(rows[0]["floor"]), float(rows[0]["horizon"])

    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        version = self._read_state()[0]  # first: what is read after it is as new at least
        found = self._all(sql.FIND_CLIENT.sqlite, client_id)
        if not found:
            return version, None
        keys = self._all(sql.KEYS_OF.sqlite, client_id)
        return version, (client_record(found[0]), tuple(map(client_key_record, keys)))

    async def _rows(self, statement: Statement, *values: Value) -> list[sqlite3.Row]:
        return self._all(statement.sqlite, *values)

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        # No registration: a use changes no verdict, and a new version would have every replica read its clients anew.
        self._front.started()
        noted = (json.dumps(uses),)
        await self._writer.run(lambda connection: connection.execute(sql.NOTE_USES.sqlite, noted).rowcount)
        await self._writer.run(lambda connection: connection.execute(sql.NOTE_CLIENTS.sqlite, noted).rowcount)

    async def names_key(self, kid: str) -> bool:
        return bool(await asyncio.to_thread(self._beside, sql.NAMES_KEY, kid))

    async def latest_issuance(self) -> int:
        return int(await asyncio.to_thread(self._beside, sql.LATEST_ISSUANCE))

    async def issued_to(self, clients: Sequence[str]) -> Sequence[tuple[str, str, int]]:
        return await asyncio.to_thread(self._all_beside, sql.ISSUED_TO, json.dumps(clients))

    def _beside(self, statement: Statement, *values: Value) -> Any:
        """The one value of a question that reads much, on a connection of its own, so that requests go on meanwhile."""
        ((found,),) = self._all_beside(statement, *values)
        return found

    def _all_beside(self, statement: Statement, *values: Value) -> list[tuple[Any, ...]]:
        with contextlib.closing(self._connect()) as connection:
            try:
                return connection.execute(statement.sqlite, values).fetchall()
            except sqlite3.Error as error:
                raise StoreUnavailable(f"SQLite: {error}") from None

    # As a whole

    async def condition(self) -> Condition:
        version, floor, horizon, closed_at = self._one("SELECT version, floor, horizon, closed_at FROM registry")
        self._front.started()
        fault = await self._writer.fault()
        if fault is not None:
            # SQLite says "readonly database" of a file, a folder and a file system alike.
            fault = rights_fault(self.path) or fault
        try:
            self._files.check()
        except StoreUnavailable as error:
            fault = str(error)
        return Condition(version, floor, horizon, closed_at, write_fault=fault)

    async def read_all(self, table: str) -> AsyncIterator[Rows]:
        # On a connection of its own: a read that is under way would keep this store's own from seeing what is new.
        with contextlib.closing(self._connect()) as connection:
            for rows in read_all(connection, table):
                yield rows

    async def close(self) -> None:
        await self._front.close()
        self._reader.close()

    # Plumbing

    def _one(self, text: str, *values: Any) -> sqlite3.Row:
        return self._all(text, *values)[0]

    def _all(self, text: str, *values: Any) -> list[sqlite3.Row]:
        try:
            cursor = self._reader.execute(text, values)
            cursor.row_factory = sqlite3.Row
            return cursor.fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from None

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[SqliteTransaction]:
        with self._locked() as connection:
            yield SqliteTransaction(connection)

    # Whoever has the write lock keeps everybody out. A filling waits for what it fills in, and may: only an operator's
    # command does so, and that reads nothing meanwhile.
    _filling = _shutting = _transaction

    @contextlib.contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, under the write lock from its beginning.

        A transaction that reads first and locks later fails where somebody has written in between.
        """
        connection = self._reader
        self._files.check()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if spoils_connection(error):
                self._reopen()
            raise StoreUnavailable(f"SQLite: {error}") from None

    def _reopen(self) -> None:
        """After an error of the disk a connection may go on failing when the disk is well again."""
        with contextlib.suppress(StoreUnavailable):
            before, self._reader = self._reader, self._connect()
            before.close()
