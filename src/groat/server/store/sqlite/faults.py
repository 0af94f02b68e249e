"""What keeps a SQLite file from being written: how it shows, and how its end is found out without any request."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from groat.server.store.sqlite.file import FilesMoved

FRESH_SECONDS: Final = 1.0  # a write that is younger needs no other one to prove it
TRIAL_SECONDS: Final = 2.0
STUCK: Final = f"SQLite: no write within {TRIAL_SECONDS:g} s: another process holds the lock, or the disk hangs"
# What a connection does not get over, as one whose file could only be opened for reading.
_SPOILING: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


@dataclass(slots=True)
class WriteFaults:
    """Whether the last attempt to write succeeded. `tell` hears when that changes; called from any thread."""

    tell: Callable[[str, dict[str, Any]], None]
    fault: str | None = None
    _wrote: float = field(default=float("-inf"), init=False)  # monotonic
    _since: float = field(default=0.0, init=False)

    @property
    def fresh(self) -> bool:
        """Whether something was written a moment ago."""
        return self.fault is None and time.monotonic() - self._wrote < FRESH_SECONDS

    def found(self, fault: str) -> None:
        """Nothing could be written, for this reason."""
        before, self.fault = self.fault, fault
        if before is None:
            self._since = time.monotonic()
            self.tell("store.down", {"reason": fault})

    def wrote(self) -> None:
        """Something was written durably."""
        before, self.fault, self._wrote = self.fault, None, time.monotonic()
        if before is not None:
            self.tell("store.up", {"seconds": round(self._wrote - self._since, 2)})


def write_something(connection: sqlite3.Connection) -> int:
    """A durable transaction that changes nothing: that a page is written counts, not what it says."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE registry SET version = version + 1")
    connection.execute("UPDATE registry SET version = version - 1")
    connection.execute("COMMIT")
    return 0


def stops_writing(error: Exception) -> bool:
    """Whether other work would meet this failure, too: locked, full, read-only, I/O errors, damage; not wrong data."""
    if isinstance(error, (OSError, FilesMoved)):
        return True
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def spoils_connection(error: Exception) -> bool:
    """Whether the work after the next may succeed on a new connection only."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _SPOILING
