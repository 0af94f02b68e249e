"""The store on SQLite: WAL, synchronous=FULL, one writer per process, any number of processes on one machine.

Reads run in the caller's thread: a point lookup takes some ten microseconds, a thread hop costs more.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self

from groat.keys.ring.keyring import SigningKey
from groat.protocol.key_limits import KeyLimits
from groat.protocol.models import OneTimeValue
from groat.server.store import (
    PURGE_CHUNK,
    ClientWithKeys,
    Condition,
    Issuance,
    KeyUse,
    Notify,
    Receipt,
    RegistryMoved,
    Rows,
    StoreClosed,
    StoreConflict,
    StoreUnavailable,
    silent,
)
from groat.server.store.group_commit import GroupCommit, Limits
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.rows import (
    api_record,
    client_document,
    client_key_record,
    client_record,
    published_at,
    replica_name,
    signing_key,
)
from groat.server.store.sqlite.contents import fill, read_all
from groat.server.store.sqlite.faults import spoils_connection
from groat.server.store.sqlite.file import SameFiles, check_there, connect, rights_fault
from groat.server.store.sqlite.registration import (
    EXPIRING,
    NOTE_USES,
    PUBLISHED,
    insert_client_keys,
    refuse_foreign,
    update_clients,
)
from groat.server.store.sqlite.sidecars import give_rights_back
from groat.server.store.sqlite.writer import FORGET, LOWER_HORIZON, RAISE_HORIZON, SqliteWriter
from groat.server.turns import Turns

LIMITS: Final = Limits(queue_seconds=1.0, total_seconds=2.0)
SCHEMA_VERSION: Final = 1


class SqliteStore:
    """A Store in one file. Raises StoreUnavailable where SQLite cannot answer; see `Store` for the methods.

    There are two connections. What an operator changes goes through the one that is read from, in the caller's thread.
    What every request writes goes through the writer's, in a thread of its own, so that no loop waits for the disk.
    SQLite's write lock stands between them, and between processes.
    """

    def __init__(self, path: Path, retention: int = 0, notify: Notify = silent) -> None:
        """`retention`: how many seconds the record of an issuance stays, at least."""
        self.path = path
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
        store._migrate()
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

    def _migrate(self) -> None:
        """Run the numbered SQL files that are missing, each in its transaction, under the write lock."""
        with self._transaction() as connection:
            # Asked inside of the transaction, because several processes may start at once.
            current = int(connection.execute("PRAGMA user_version").fetchone()[0])
            for number in range(current + 1, SCHEMA_VERSION + 1):
                script = resources.files("groat.server.store").joinpath(f"migrations/sqlite-{number:04}.sql")
                # One by one: executescript commits what is open before it begins.
                for statement in script.read_text().split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={number}")

    # Single use

    def wait_for(self, turns: Turns) -> None:
        """Let a batch wait for the requests that are between two phases there, on their way to `use_once`."""
        self._front.turns = turns

    def use_once(self, once: OneTimeValue, issuance: Issuance | None) -> Coroutine[Any, Any, Receipt]:
        return self._front.use_once(once, issuance)

    async def raise_horizon(self, horizon: int) -> None:
        self._front.started()
        await self._writer.run(lambda connection: connection.execute(RAISE_HORIZON, (horizon,)).rowcount)

    async def lower_horizon(self, horizon: int, floor: int) -> None:
        with self._transaction() as connection:
            connection.execute(LOWER_HORIZON, (horizon, floor))

    async def forget_expired(self) -> int:
        self._front.started()
        return await self._writer.run(lambda connection: connection.execute(FORGET, (PURGE_CHUNK,)).rowcount)

    # Reading

    async def registry_version(self) -> int:
        return self._read_state()[0]

    def _read_state(self) -> tuple[int, float, float]:
        """Version, floor and horizon, by one statement: they must be of one moment."""
        rows = self._all("SELECT version, floor, horizon FROM registry")
        if not rows:
            raise StoreUnavailable("SQLite: the registry is empty: this file was restored in part only")
        return int(rows[0]["version"]), float(rows[0]["floor"]), float(rows[0]["horizon"])

    async def find_client(self, client_id: str) -> ClientRecord | None:
        # The row of a client that was removed stays, so that its id is given to nobody else.
        rows = self._all("SELECT * FROM clients WHERE client_id = ? AND removed_at IS NULL", client_id)
        return client_record(rows[0]) if rows else None

    async def client_keys(self, client_id: str) -> tuple[ClientKeyRecord, ...]:
        rows = self._all("SELECT * FROM client_keys WHERE client_id = ? ORDER BY created_at, kid", client_id)
        return tuple(client_key_record(row) for row in rows)

    async def keys_of_expiring(self, after: int, before: int, clients: int) -> tuple[ClientKeyRecord, ...]:
        return tuple(client_key_record(row) for row in self._all(EXPIRING, after, before, clients))

    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        version = await self.registry_version()  # first: what is read after it is as new at least
        record = await self.find_client(client_id)
        return version, None if record is None else (record, await self.client_keys(client_id))

    async def list_clients(self) -> tuple[ClientRecord, ...]:
        rows = self._all("SELECT * FROM clients WHERE removed_at IS NULL ORDER BY client_id")
        return tuple(client_record(row) for row in rows)

    async def published_at(self, limit: int) -> tuple[str, ...]:
        return published_at(self._all(PUBLISHED, limit))

    async def list_apis(self) -> tuple[ApiRecord, ...]:
        rows = self._all("SELECT * FROM apis ORDER BY name")
        return tuple(api_record(row) for row in rows)

    async def signing_keys(self) -> tuple[SigningKey, ...]:
        return tuple(signing_key(row) for row in self._all("SELECT * FROM signing_keys ORDER BY activates_at, kid"))

    # Writing

    async def add_api(self, api: ApiRecord) -> None:
        with self._registration(f"an API with name {api.name} or audience {api.audience} exists") as connection:
            connection.execute(
                "INSERT INTO apis (name, audience, scopes, created_at) VALUES (?, ?, ?, ?)",
                (api.name, api.audience, json.dumps(api.scopes), api.created_at),
            )

    async def update_api(self, api: ApiRecord, clients: Sequence[ClientRecord] = (), seen: int | None = None) -> None:
        with self._registration(f"an API with audience {api.audience} exists", seen) as connection:
            connection.execute(
                "UPDATE apis SET audience = ?, scopes = ? WHERE name = ?",
                (api.audience, json.dumps(api.scopes), api.name),
            )
            update_clients(connection, clients)

    async def remove_api(self, name: str, clients: Sequence[ClientRecord] = (), seen: int | None = None) -> None:
        with self._registration("", seen) as connection:
            connection.execute("DELETE FROM apis WHERE name = ?", (name,))
            update_clients(connection, clients)

    async def add_client(self, client: ClientRecord, keys: Sequence[ClientKeyRecord]) -> None:
        taken = f"client {client.client_id} exists, or existed (ids are never reassigned)"
        with self._registration(taken) as connection:
            connection.execute(
                "INSERT INTO clients (client_id, document, enabled, created_at) VALUES (?, ?, ?, ?)",
                (client.client_id, client_document(client), client.enabled, client.created_at),
            )
            insert_client_keys(connection, keys)

    async def update_client(self, client: ClientRecord, seen: int | None = None) -> None:
        with self._registration("", seen) as connection:
            update_clients(connection, (client,))

    async def switch_client(self, client_id: str, *, enabled: bool) -> None:
        # Whatever else was changed meanwhile: who switches a client off wants that, and at once.
        with self._registration("") as connection:
            connection.execute("UPDATE clients SET enabled = ? WHERE client_id = ?", (enabled, client_id))

    async def remove_client(self, client_id: str) -> None:
        with self._registration("") as connection:
            # Gone, and not kept like the client: a public key may be registered by whoever holds its private half.
            connection.execute("DELETE FROM client_keys WHERE client_id = ?", (client_id,))
            connection.execute(
                "UPDATE clients SET removed_at = unixepoch(), enabled = 0 WHERE client_id = ?", (client_id,)
            )

    async def add_client_keys(self, keys: Sequence[ClientKeyRecord]) -> None:
        with self._registration("") as connection:
            insert_client_keys(connection, keys)

    async def limit_client_key(self, client_id: str, kid: str, limits: KeyLimits, seen: int | None = None) -> None:
        with self._registration("", seen) as connection:
            connection.execute(
                "UPDATE client_keys SET not_before = ?, expires_at = ? WHERE client_id = ? AND kid = ?",
                (limits.not_before, limits.expires_at, client_id, kid),
            )

    async def remove_client_key(self, client_id: str, kid: str, seen: int | None = None) -> None:
        with self._registration("", seen) as connection:
            connection.execute("DELETE FROM client_keys WHERE client_id = ? AND kid = ?", (client_id, kid))

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        # No registration: a use changes no verdict, and a new version would have every replica read its clients anew.
        self._front.started()
        await self._writer.run(lambda connection: connection.execute(NOTE_USES, (json.dumps(uses),)).rowcount)

    async def names_key(self, kid: str) -> bool:
        return await asyncio.to_thread(self._names_key, kid)

    def _names_key(self, kid: str) -> bool:
        """On a connection of its own, so that requests go on meanwhile."""
        with contextlib.closing(self._connect()) as connection:
            try:
                found = connection.execute("SELECT 1 FROM used_once WHERE kid = ? LIMIT 1", (kid,)).fetchone()
            except sqlite3.Error as error:
                raise StoreUnavailable(f"SQLite: {error}") from None
        return found is not None

    async def save_signing_keys(self, keys: Sequence[SigningKey], seen: int | None = None) -> None:
        with self._registration("a signing key must not be a client's key", seen) as connection:
            for key in keys:
                # A client that holds the private half of a signing key could write tokens for everybody.
                refuse_foreign(connection, "client_keys", key.public.thumbprint)
                connection.execute(
                    "INSERT OR REPLACE INTO signing_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        key.kid,
                        key.public.thumbprint,
                        json.dumps(dict(key.public.jwk)),
                        key.sealed,
                        key.created_at,
                        key.activates_at,
                        key.retires_at,
                        key.removes_at,
                    ),
                )

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

    async def raise_floor(self, floor: int) -> None:
        with self._transaction() as connection:
            # Versions count on from a number that no replica can remember another registry under.
            connection.execute("UPDATE registry SET floor = max(floor, ?1), version = max(version + 1, ?1)", (floor,))

    async def shut(self, at: int | None) -> None:
        with self._transaction() as connection:
            connection.execute("UPDATE registry SET closed_at = ?, version = version + 1", (at,))

    async def read_all(self, table: str) -> AsyncIterator[Rows]:
        # On a connection of its own: a read that is under way would keep this store's own from seeing what is new.
        with contextlib.closing(self._connect()) as connection:
            for rows in read_all(connection, table):
                yield rows

    async def fill(self, contents: AsyncIterator[tuple[str, Rows]], version: int, floor: int, horizon: int = 0) -> None:
        try:
            with self._transaction() as connection:
                await fill(connection, contents)
                state = (version, floor, horizon)
                connection.execute("UPDATE registry SET version = version + ?, floor = ?, horizon = ?", state)
        except sqlite3.IntegrityError as error:
            raise StoreConflict(f"the contents do not fit: {error}") from None

    async def close(self) -> None:
        await self._front.close()
        self._reader.close()

    # Plumbing

    def _one(self, sql: str, *values: Any) -> sqlite3.Row:
        return self._all(sql, *values)[0]

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        try:
            cursor = self._reader.execute(sql, values)
            cursor.row_factory = sqlite3.Row
            return cursor.fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error}") from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
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
        except sqlite3.IntegrityError:
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

    @contextlib.contextmanager
    def _registration(self, conflict: str, seen: int | None = None) -> Iterator[sqlite3.Connection]:
        """A change of the registry: its version goes up in the same transaction, so no replica can miss it."""
        try:
            with self._transaction() as connection:
                version, closed = connection.execute("SELECT version, closed_at FROM registry").fetchone()
                if closed is not None:
                    raise StoreClosed
                # What was decided on what is no longer so must be decided anew.
                if seen is not None and version != seen:
                    raise RegistryMoved("the registry was changed meanwhile; nothing was done. Try again")
                yield connection
                connection.execute("UPDATE registry SET version = version + 1")
        except sqlite3.IntegrityError:
            raise StoreConflict(conflict or "the registration collides with another one") from None
