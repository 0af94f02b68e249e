"""Opening the file of the SQLite store: durable, in WAL mode, with messages that say what an operator can mend."""

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from groat.server.store import StoreUnavailable

BUSY_TIMEOUT_MS: Final = 1500
_MOVED: Final = "Move it back, or stop the servers, then: groat store fence; then start them"


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are durable. Raises StoreUnavailable."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _keep_log(connection)
        # Durable before the answer goes out: FULL syncs the log at every commit (NORMAL would not).
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=4000"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from None
    return connection


def check_there(path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError:
        raise StoreUnavailable(f"{path} does not exist. Run: groat init") from None
    except OSError as error:
        fix = f". Fix: let user id {os.geteuid()} read and write {path.parent}, or run as its owner"
        raise StoreUnavailable(f"cannot open {path}: {error.strerror}{fix}") from None


class FilesMoved(StoreUnavailable):
    """What SQLite holds open is not what stands in its place any more."""


@dataclass(slots=True)
class SameFiles:
    """Whether a process still has the files that others open: they would know nothing of what it writes elsewhere."""

    path: Path
    _known: dict[Path, tuple[int, int]] = field(default_factory=dict, init=False)

    @property
    def log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def know_log(self) -> None:
        """Remember the write-ahead log, too. Once a connection has read, SQLite keeps it until the last one ends."""
        with contextlib.suppress(FilesMoved):  # there is none where nothing can be written
            self._known[self.log] = _identity(self.log)

    def check(self) -> None:
        """Raises FilesMoved; the first look at the database says which one it is."""
        found = _identity(self.path)
        if self._known.setdefault(self.path, found) != found:
            raise FilesMoved(f"{self.path} is another file than at the start. Restart to use it")
        known = self._known.get(self.log)
        if known is not None and _identity(self.log) != known:
            raise FilesMoved(f"{self.log} is another file than at the start. {_MOVED}")


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise FilesMoved(f"{path}: {error.strerror}. {_MOVED}") from None
    return status.st_dev, status.st_ino


def _keep_log(connection: sqlite3.Connection) -> None:
    """Use a write-ahead log from now on, and in a new file for good.

    SQLite does not wait by itself for another process that makes the same file at this moment: both would read it,
    and each would wait for the other to stop.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def rights_fault(path: Path) -> str | None:
    """What the rights and the file system say of this file; a write has the last word."""
    log = path.with_name(path.name + "-wal")
    for needed in (path, log if os.path.exists(log) else path.parent):
        if not os.access(needed, os.W_OK):
            return f"{needed} cannot be written by user id {os.getuid()}: wrong rights, or a read-only file system"
    return None
