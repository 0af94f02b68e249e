"""File systems that are small, and full ones."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.missing import Missing, skip


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int, options: str = "mode=0755") -> Iterator[Path]:
    """A file system of this size over a directory that is there; skips where this process may not mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,{options}", "tmpfs", str(directory)]
    if os.geteuid() != 0:
        skip(Missing.ROOT)
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        skip(Missing.ROOT, done.stderr.decode())
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not one byte left on this disk, until the block ends."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()
