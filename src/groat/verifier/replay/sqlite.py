"""Proofs that the processes of one host share, in an SQLite file: it holds nothing but them, and may be deleted."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from groat.protocol.errors import ReplayStoreUnavailable
from groat.protocol.models import OneTimeValue
from groat.verifier.replay.shared import (
    KEEP_SECONDS,
    SWEEP_SECONDS,
    SWEPT_AT_ONCE,
    WAIT_SECONDS,
    SharedMemory,
    forgotten,
)

MAX_PAGES: Final = 262_144  # of 4 KiB: a file of 1 GiB; then nothing more is accepted
_SCHEMA: Final = """
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS proofs (digest BLOB PRIMARY KEY, ends INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS proofs_ends ON proofs (ends);
CREATE TABLE IF NOT EXISTS swept (id INTEGER PRIMARY KEY CHECK (id = 1), until INTEGER NOT NULL, at INTEGER NOT NULL);
INSERT OR IGNORE INTO swept VALUES (1, 0, 0);
"""
_FIRST: Final = "INSERT INTO proofs SELECT ?1, ?2 WHERE ?2 > (SELECT until FROM swept) ON CONFLICT DO NOTHING"
_KNOWN: Final = "SELECT 1 FROM proofs WHERE digest = ?"
# Of several processes one sweeps; a clock that went back sweeps at once, and takes nothing back.
_SWEEP: Final = "UPDATE swept SET until = max(until, ?1 - ?2), at = ?1 WHERE abs(?1 - at) >= ?3"
_FORGET: Final = """
DELETE FROM proofs WHERE digest IN (SELECT digest FROM proofs WHERE ends <= (SELECT until FROM swept) LIMIT ?)
"""


class SqliteReplays(SharedMemory):
    """A `ReplayStore` in this file, which is made at the first proof (mode 0600).

    It survives every process, and a crash of the machine but for the last moments: a proof of then could come again
    within its minute. Not for file systems that hosts share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__()

    def renew(self) -> None:
        super().renew()
        self._connection: sqlite3.Connection | None = None

    def first(self, proof: OneTimeValue, now: float) -> bool:
        """Raises ReplayStoreUnavailable: the file cannot be used, is full or locked; nothing was accepted then."""
        with self._lock:
            try:
                return self._first(self._opened(), proof, int(now))
            except (sqlite3.Error, OSError) as error:
                self._drop()
                raise ReplayStoreUnavailable(f"the file of proofs cannot be used: {error}") from None

    def close(self) -> None:
        """Close the file; the next proof opens it again."""
        with self._lock:
            self._drop()

    def _first(self, connection: sqlite3.Connection, proof: OneTimeValue, now: int) -> bool:
        if abs(now - self._swept) >= SWEEP_SECONDS:
            self._sweep(connection, now)
        digest = proof.digest
        if connection.execute(_FIRST, (digest, proof.expires_at)).rowcount == 1:
            return True
        if connection.execute(_KNOWN, (digest,)).fetchone() is None:
            raise forgotten()
        return False

    def _sweep(self, connection: sqlite3.Connection, now: int) -> None:
        self._swept = now
        if connection.execute(_SWEEP, (now, KEEP_SECONDS, SWEEP_SECONDS)).rowcount == 1:
            connection.execute(_FORGET, (SWEPT_AT_ONCE,))

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            # Each statement is a transaction of its own: what was accepted is written.
            made = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            self._connection = made
            _use_log(made)
            made.execute(f"PRAGMA max_page_count = {MAX_PAGES}")
            made.executescript(_SCHEMA)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _use_log(connection: sqlite3.Connection) -> None:
    """Write ahead, as long as another process that makes the file at this moment lets us wait for it.

    SQLite does not wait by itself when the mode changes: each would wait for the other to stop reading.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


__all__ = ["SqliteReplays"]
