"""A wall clock that is turned from outside while the process runs, and parts that believe it: each a bug to be found.

GROAT_TEST_CLOCK names a file that holds the seconds to add; without it, or while it is empty, the clock is right. The
monotonic clock stays as it is. The clock is turned before the product is imported: it takes `time.time` with it.
"""

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

LOOK_SECONDS: Final = 0.02


class TurnedClock:
    """What `time.time` becomes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._real, self._monotonic = time.time, time.monotonic
        self._offset = 0.0
        self._looked = float("-inf")

    def __call__(self) -> float:
        now = self._monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            with contextlib.suppress(OSError, ValueError):
                self._offset = float(self._file.read_text() or 0)
        return self._real() + self._offset


def install(name: str) -> None:
    """Turn the clock, and plant a bug unless the name is `right`. Raises KeyError, AttributeError.

    Time is judged every second, so that a wrong clock has its chance in a short run.
    """
    time.time = TurnedClock(Path(os.environ["GROAT_TEST_CLOCK"]))
    with contextlib.suppress(ImportError):  # a version that forgets by its clock every second
        _replace(importlib.import_module("groat.server.chores.forgetting"), "LOOK_SECONDS", 1.0)
    _replace(importlib.import_module("groat.server.chores.rotator"), "LOOK_SECONDS", 1.0)
    PLANTS[name]()


def _nothing() -> None:
    pass


def _gullible() -> None:
    """Every process believes its own clock."""
    trusted_time = importlib.import_module("groat.server.store.trusted_time")
    _replace(trusted_time.TrustedTime, "judge", lambda self, _: trusted_time.Reading(int(self.clock())))


def _purges_by_its_clock() -> None:
    """What ended ten minutes ago by this clock goes, whatever the horizon is."""
    sqlite, postgres = _stores()

    async def from_sqlite(self: Any) -> int:
        sql = "DELETE FROM used_once WHERE expires_at <= ?"
        self._front.started()
        return int(await self._writer.run(lambda connection: connection.execute(sql, (_cutoff(),)).rowcount))

    async def from_postgres(self: Any) -> int:
        return len(await self._all("DELETE FROM used_once WHERE expires_at <= $1 RETURNING 1", _cutoff()))

    _replace(sqlite.SqliteStore, "forget_expired", from_sqlite)
    _replace(postgres.PostgresStore, "forget_expired", from_postgres)


def _inserts_whatever_the_horizon() -> None:
    """Believes its clock, and takes no notice of the horizon when a value is used."""
    _gullible()
    group_commit = importlib.import_module("groat.server.store.group_commit")
    _replace(group_commit.GroupCommit, "_check_memory", lambda *_: None)
    postgres_writer = importlib.import_module("groat.server.store.postgres.writer")
    sql: bytes = postgres_writer._SQL
    assert b"SELECT horizon FROM state WHERE state = 0" in sql
    careless = sql.replace(b"SELECT horizon FROM state WHERE state = 0", b"SELECT 0 FROM state WHERE state = 0")
    _replace(postgres_writer, "_SQL", careless)
    sqlite_writer = importlib.import_module("groat.server.store.sqlite.writer")
    insert: str = sqlite_writer.FRESH
    assert "SELECT horizon" in insert
    _replace(sqlite_writer, "FRESH", insert.replace("SELECT horizon", "SELECT 0"))
    forgetting = importlib.import_module("groat.server.store.postgres.forgetting")
    _replace(forgetting, "IN_FORCE_SECONDS", 0.0)


def _destroys_whatever_is_in_use() -> None:
    """Believes its clock, has no patience, and takes no notice of the uses that name a key."""
    _gullible()
    _replace(importlib.import_module("groat.keys.ring.schedule").Timing, "grace", 0)
    sqlite, postgres = _stores()

    async def nothing_names_it(self: Any, kid: str) -> bool:
        return False

    for store in (sqlite.SqliteStore, postgres.PostgresStore):
        _replace(store, "names_key", nothing_names_it)


def _fences_by_its_clock() -> None:
    """A database that went back gets a floor by this clock, whatever the database's says."""
    _replace(importlib.import_module("groat.server.store.postgres.history"), "MAX_SKEW_SECONDS", float("inf"))


def _cutoff() -> int:
    return int(time.time()) - 600


def _stores() -> tuple[Any, Any]:
    modules = ("groat.server.store.sqlite.store", "groat.server.store.postgres.store")
    sqlite, postgres = map(importlib.import_module, modules)
    return sqlite, postgres


def _replace(owner: Any, name: str, replacement: Any) -> None:
    getattr(owner, name)  # what is to be replaced must be there
    setattr(owner, name, replacement)


PLANTS: Final[Mapping[str, Callable[[], None]]] = MappingProxyType(
    {
        "right": _nothing,
        "gullible": _gullible,
        "own-clock": _purges_by_its_clock,
        "unchecked": _inserts_whatever_the_horizon,
        "destroyer": _destroys_whatever_is_in_use,
        "own-floor": _fences_by_its_clock,
    }
)
