"""The files beside a SQLite database, which SQLite makes with the rights that the database has at that moment."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

SIDECARS: Final = ("-wal", "-shm")


def give_rights_back(database: Path) -> None:
    """Let its owner write the log and the index again where he may write the database.

    Made while the database was read-only, they would stay so for good, and with them the store. Others' files and
    links are left alone. Never opened for reading: to close that would end the locks of this process on them.
    """
    with contextlib.suppress(OSError, AttributeError):  # not there, or not on Linux: a write will say what is wrong
        wanted = stat.S_IMODE(database.stat().st_mode)
        for suffix in SIDECARS:
            with contextlib.suppress(FileNotFoundError):
                _give(database.with_name(database.name + suffix), wanted)


def _give(path: Path, wanted: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and wanted & ~status.st_mode & 0o200:
            os.chmod(f"/proc/self/fd/{descriptor}", wanted)
    finally:
        os.close(descriptor)
