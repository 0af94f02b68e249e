"""A consistent copy of a SQLite store while servers use it, and the way back into a store, whole and fenced."""

import contextlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from groat.keys.files import sync_directory
from groat.protocol.errors import ConfigError
from groat.server.store import TABLES, StoreConflict, StoreUnavailable
from groat.server.store.audit_sql import STORE
from groat.server.store.audit_trail import Deed, Effect, append, written
from groat.server.store.registry_sql import IN_FORCE, RAISE_SEQ
from groat.server.store.sqlite.store import SCHEMA_VERSION
from groat.server.store.sqlite.transaction import SqliteTransaction
from groat.server.store.trusted_time import instant

TRAIL: Final = "audit"
BUSY_SECONDS: Final = 15
OWN_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", ".lock")
# What a store knows of these it keeps, beside what the backup does: used values stay used, and what was taken back does
# not come back. What becomes of the audit trail: `_fill_trail`.
_JOINED: Final = ("used_once", "revoked_tokens", "cuts", "status_lists")
_REPLACED: Final = tuple(table for table in TABLES if table not in (*_JOINED, TRAIL))
# Of two words about one thing, where they are not alike.
_LATER: Final = {"cuts": "ON CONFLICT (kind, subject) DO UPDATE SET not_before = max(not_before, excluded.not_before)"}
# The schema that brought a table; backups of those before have none.
_SINCE: Final = {
    "trusts": 3,
    "trust_rules": 3,
    "api_keys": 4,
    "revoked_tokens": 4,
    "cuts": 4,
    "status_lists": 4,
    TRAIL: 4,
}
# By temporary views of the backup (`was_...`), which are empty for a table that it does not have.
_DIFFERENCES: Final = (
    (
        "client {} is not in the backup",
        "SELECT client_id FROM main.clients WHERE removed_at IS NULL AND client_id NOT IN "
        "(SELECT client_id FROM was_clients WHERE removed_at IS NULL) ORDER BY 1",
    ),
    (
        "client {} was removed or disabled since, and gets tokens again",
        "SELECT client_id FROM was_clients WHERE removed_at IS NULL AND enabled AND client_id IN "
        "(SELECT client_id FROM main.clients WHERE removed_at IS NOT NULL OR NOT enabled) ORDER BY 1",
    ),
    (
        "a key of client {} was removed or ended since, and counts again",
        "SELECT DISTINCT b.client_id FROM was_client_keys b JOIN main.clients c USING (client_id) "
        "LEFT JOIN main.client_keys m USING (thumbprint) WHERE c.removed_at IS NULL AND (m.thumbprint IS NULL OR "
        "(m.expires_at <= unixepoch() AND coalesce(b.expires_at, 1e18) > unixepoch())) ORDER BY 1",
    ),
    (
        "signing key {} was revoked or removed since, and is published again",
        "SELECT kid FROM was_signing_keys b JOIN main.signing_keys m USING (kid) WHERE m.removes_at <= unixepoch() "
        "AND coalesce(b.removes_at, 1e18) > unixepoch() ORDER BY 1",
    ),
    (
        "signing key {} is not in the backup: tokens that it signed will be refused",
        "SELECT kid FROM main.signing_keys WHERE coalesce(removes_at, 1e18) > unixepoch() AND kid NOT IN "
        "(SELECT kid FROM was_signing_keys) ORDER BY 1",
    ),
    (
        "trust {} was removed or disabled since, and its tokens are taken again",
        "SELECT name FROM was_trusts WHERE enabled AND name NOT IN (SELECT name FROM main.trusts WHERE enabled) "
        "ORDER BY 1",
    ),
    (
        "rule {} of client {} (trust {}) was removed since, and counts again",
        "SELECT rule_id, client_id, trust FROM was_trust_rules WHERE rule_id NOT IN "
        "(SELECT rule_id FROM main.trust_rules) ORDER BY client_id, rule_id",
    ),
    (
        "a key of API {} was removed since, and counts again",
        "SELECT DISTINCT api FROM was_api_keys WHERE thumbprint NOT IN (SELECT thumbprint FROM main.api_keys) "
        "ORDER BY 1",
    ),
    (
        "trust {} is not in the backup: its tokens will be refused",
        "SELECT name FROM main.trusts WHERE name NOT IN (SELECT name FROM was_trusts) ORDER BY 1",
    ),
    (
        "rule {} of client {} (trust {}) is not in the backup",
        "SELECT rule_id, client_id, trust FROM main.trust_rules WHERE rule_id NOT IN "
        "(SELECT rule_id FROM was_trust_rules) ORDER BY client_id, rule_id",
    ),
    (
        "rows {} to {} of the audit trail go: the backup has another one",
        "SELECT min(seq), max(seq) FROM main.audit WHERE NOT (SELECT goes_on FROM trail) HAVING count(*) > 0",
    ),
)
# Whether the store's audit trail is the backup's and goes on from there: the backup's last row is among its rows, or
# so old that none of its time are left, or there is none.
_GOES_ON: Final = """
SELECT NOT EXISTS (SELECT 1 FROM {audit}) OR EXISTS (
    SELECT 1 FROM {audit} AS b JOIN main.audit AS m ON m.seq >= b.seq
    WHERE b.seq = (SELECT max(seq) FROM {audit})
    AND (m.seq = b.seq AND m.hash = b.hash OR m.seq > b.seq AND m.seq = (SELECT min(seq) FROM main.audit))
) AS goes_on
"""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds."""

    file: str
    bytes: int
    registry_version: int
    clients: int


def write_backup(database: Path, target: Path, now: int) -> BackedUp:
    """Write a copy of mode 0600 to `target`, which must not exist; a crash leaves all of it or nothing.

    The copy is closed: a server that is started on it says so. Raises ConfigError, StoreUnavailable; StoreConflict for
    a store that is closed itself. Not checked: whether there is room.
    """
    _check_target(database, target)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            copy = Path(folder) / "copy"
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            clients, version = _copy(database, copy, now)
            _sync(copy)
            size = copy.stat().st_size
            _name(copy, target)
        sync_directory(target.parent)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None
    return BackedUp(str(target), size, version, clients)


def _name(copy: Path, target: Path) -> None:
    try:
        os.link(copy, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: take the name first, so that nothing is replaced
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.replace(copy, target)


def _check_target(database: Path, target: Path) -> None:
    """Raises ConfigError for a place where a backup must not stand; looked at again when it gets its name."""
    own = [database.resolve().with_name(database.name + suffix) for suffix in OWN_SUFFIXES]
    if target.parent.resolve() / target.name in own:
        raise ConfigError(f"{target} is the store's own file; name another one, best on another disk")
    if os.path.lexists(target):
        raise _exists(target)
    refuse_root_among_others(target.parent)


def refuse_root_among_others(folder: Path) -> None:
    """Raises ConfigError where root is about to write in a directory in which others can rename what it writes."""
    try:
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"cannot write in {folder}: {error.strerror}") from None
    others = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    if os.geteuid() == 0 and (others or status.st_uid != 0):
        raise ConfigError(
            f"{folder} can be written by others than root: run this as their user, or name a directory of root"
        )


def _exists(target: Path) -> ConfigError:
    return ConfigError(f"{target} exists; nothing was written. Choose another name or move it away")


def _copy(database: Path, copy: Path, now: int) -> tuple[int, int]:
    try:
        with _connected(database) as connection:
            # As of one moment, while servers write on; their readers and writers are not held up.
            connection.execute("VACUUM INTO ?", (str(copy),))
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error}. Nothing is left at the place of the copy") from None
    with _connected(copy) as connection:
        version, closed_at = connection.execute("SELECT version, closed_at FROM registry").fetchone()
        if closed_at is not None:
            raise StoreConflict("this store is closed: its contents moved to another one. Back that one up")
        # Whoever starts a server on a copy would forget what was used since.
        connection.execute("UPDATE registry SET closed_at = ?", (now,))
        clients = connection.execute("SELECT count(*) FROM clients WHERE removed_at IS NULL").fetchone()[0]
    return int(clients), int(version)


def _sync(path: Path) -> None:
    """On disk before it has a name: a crash must not leave a name with half of its contents."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _connected(path: Path, mode: str = "rw", damaged: str = "") -> Iterator[sqlite3.Connection]:
    """`damaged`: what to do where SQLite says that the file is none of its own, or malformed."""
    try:
        with contextlib.closing(
            sqlite3.connect(
                f"file:{quote(str(path))}?mode={mode}", timeout=BUSY_SECONDS, isolation_level=None, uri=True
            )
        ) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            yield connection
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"{path}: {error}") from None
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}" + (f". {damaged}" if damaged else "")) from None


def differences(database: Path, backup: Path) -> list[str]:
    """What is in the store and not in the backup, and what would come back, in words. Raises as `read_back` does."""
    with _both(database, backup) as connection:
        # The questions are the same for every schema: what a backup cannot know, it knows nothing of. So a store with
        # trusts is not silently emptied of them by a backup from before there were any.
        for table in TABLES:
            there = connection.execute("SELECT 1 FROM backup.sqlite_master WHERE name = ?", (table,)).fetchone()
            rows = f"SELECT * FROM backup.{table}" if there else f"SELECT * FROM main.{table} WHERE 0"
            connection.execute(f"CREATE TEMP VIEW was_{table} AS {rows}")
        connection.execute(f"CREATE TEMP VIEW trail AS {_GOES_ON.format(audit=f'was_{TRAIL}')}")
        return [words.format(*row) for words, sql in _DIFFERENCES for row in connection.execute(sql)]


async def read_back(database: Path, backup: Path, floor: Callable[[], int], deed: Deed) -> range:
    """Replace the contents of an existing store by those of a backup, all or nothing, also while servers use it.

    Used values that the store knows stay known, what was taken back by either stays so, and the rows of the store's
    audit trail stay where that goes on from the backup's; a row about the deed follows, whose number is returned.
    `floor` is asked once no server can write any more: what was signed before it is refused, on every server, because a
    use of it may be in neither of the two.
    Raises StoreUnavailable, StoreConflict for a file that is no backup or a newer one, and for a store that was closed
    for a copy.
    """
    with _both(database, backup) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT closed_at FROM main.registry").fetchone()[0] is not None:
            raise StoreConflict(f"{database} is closed: its contents moved to another store. Move the file away first")
        transaction = SqliteTransaction(connection)
        before = await transaction.rows(STORE)
        # What refers to others goes before them.
        for table in reversed(_REPLACED):
            connection.execute(f"DELETE FROM main.{table}")
        for table in (*_REPLACED, *_JOINED):
            _fill(connection, table)
        _fill_trail(connection)
        now_floor = floor()
        connection.execute(
            "UPDATE main.registry SET (version, floor, horizon) = (SELECT "
            "max(main.registry.version, b.version, ?1) + 1, max(main.registry.floor, b.floor, ?1), "
            "max(main.registry.horizon, b.horizon) FROM backup.registry b)",
            (now_floor,),
        )
        (seen,) = connection.execute(
            "SELECT max(main.registry.horizon, coalesce(b.closed_at, 0)) FROM main.registry, backup.registry b"
        ).fetchone()
        if now_floor <= seen:  # a floor by such a clock would let uses in again that came after the backup
            raise ConfigError(
                f"{backup} has seen {instant(seen)}: this host's clock is behind. Nothing was done: set it"
            )
        await transaction.change(RAISE_SEQ, now_floor * 1000)
        rows = await _recorded(transaction, deed, dict(before[0]), backup)
        connection.execute("COMMIT")
    return rows


async def _recorded(
    transaction: SqliteTransaction, deed: Deed, before: Mapping[str, int | None], backup: Path
) -> range:
    (now,) = await transaction.rows(IN_FORCE)
    after = dict((await transaction.rows(STORE))[0]) | {"restored_from": str(backup)}
    effect = Effect("store", written(before), written(after))
    return await append(transaction, deed, [effect], now["version"], now["horizon"])


def _fill_trail(connection: sqlite3.Connection) -> None:
    """Keep what is known of later changes: a restore is no way to be rid of their rows."""
    known = connection.execute("SELECT 1 FROM backup.sqlite_master WHERE name = ?", (TRAIL,)).fetchone()
    if known and not connection.execute(_GOES_ON.format(audit=f"backup.{TRAIL}")).fetchone()[0]:
        connection.execute("DELETE FROM main.audit")
        _fill(connection, TRAIL)


def _fill(connection: sqlite3.Connection, table: str) -> None:
    """Take over the columns that both have: a later version adds some, with defaults, and tables."""
    known = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
    columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA backup.table_info({table})") if row[1] in known)
    if columns:
        taken = f"SELECT {columns} FROM backup.{table} WHERE true {_LATER.get(table, '')}"
        connection.execute(f"INSERT OR IGNORE INTO main.{table} ({columns}) {taken}")


@contextlib.contextmanager
def _both(database: Path, backup: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the store, with the backup, which it only reads, beside it."""
    if backup.resolve() == database.resolve():
        raise StoreConflict(f"{backup} is the store itself")
    check_backup(backup)
    with _connected(
        database, damaged="If it is damaged, move it and its -wal and -shm away and restore again"
    ) as connection:
        connection.execute("ATTACH ? AS backup", (f"file:{quote(str(backup))}?mode=ro",))
        yield connection


def check_backup(backup: Path) -> None:
    """Raises StoreConflict for a file that is no backup, is damaged, or comes from a newer version."""
    if not backup.is_file():
        raise StoreConflict(f"{backup} is not there, or no file")
    try:
        with _connected(backup, "ro") as connection:
            # Before anything is deleted: a page that cannot be read would show in the middle of the work.
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except StoreUnavailable as error:
        raise StoreConflict(f"{error}: it cannot be restored from") from None
    if verdict != "ok":
        raise StoreConflict(f"{backup} is damaged: {' '.join(verdict.split())}")
    if not {"registry", *(table for table in TABLES if _SINCE.get(table, 1) <= version)} <= tables:
        raise StoreConflict(f"{backup} is not a backup of groat: tables are missing")
    if version > SCHEMA_VERSION:
        newer = f"has schema {version}, this version of groat knows {SCHEMA_VERSION}: install the newer one"
        raise StoreConflict(f"{backup} {newer}")
