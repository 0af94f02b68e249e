"""The last refusals of a process, in memory: what an operator asks about who has a request id and no log at hand.

A ring of bytes: the newest lines take the place of the oldest. With several workers each has a ring in a file of the
folder that they share for their numbers, and whoever is asked reads them all; a worker that takes the place of a dead
one goes on in its ring. Readers take no lock, so the line that is being written may be torn; it is left out.
"""

import contextlib
import fcntl
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from groat.server.log.event_log import encode_line, redact

RING_BYTES: Final = 5 * 1024 * 1024  # some 10,000 lines; of the memory of a process as far as it is used
MAX_LINE_BYTES: Final = 4096
MAX_RINGS: Final = 64
_HEAD: Final = 8
_NAME: Final = "refusals-"


class Refusals:
    """The memory of this process, and of its siblings for whoever reads. `folder`: the one that they share, or none."""

    def __init__(self, folder: Path | None = None, size: int = RING_BYTES) -> None:
        self._folder = folder
        self._size = size
        self._descriptor = -1 if folder is None else _claim(folder, _HEAD + size)
        self._ring = mmap.mmap(self._descriptor, _HEAD + size)
        self._at = int.from_bytes(self._ring[:_HEAD], "little") % (size + 1)

    @classmethod
    def of_folder(cls, folder: str | None) -> "Refusals":
        """In the folder of the workers; alone where there is none, or where it takes no more."""
        with contextlib.suppress(OSError, RuntimeError):
            if folder:
                return cls(Path(folder))
        return cls()

    def keep(self, level: str, event: str, at: float, facts: Mapping[str, Any]) -> None:
        """Remember one; `at`: epoch seconds. What looks like a secret is cut out, as from a line of the log."""
        line = redact(encode_line({"at": round(at, 3), "level": level, "event": event, **facts}))
        if len(line) > MAX_LINE_BYTES:
            return
        if self._at + len(line) > self._size:
            self._ring[_HEAD + self._at :] = b"\n" * (self._size - self._at)
            self._at = 0
        start = _HEAD + self._at
        self._ring[start : start + len(line)] = line
        self._at += len(line)
        self._ring[:_HEAD] = self._at.to_bytes(_HEAD, "little")

    def find(self, request_id: str) -> dict[str, Any] | None:
        """What was refused under this id."""
        needle = b'"request_id":' + json.dumps(request_id).encode()
        for ring in self._rings():
            for line in _lines_with(ring, needle):
                if (found := _read(line)) is not None and found.get("request_id") == request_id:
                    return found
        return None

    def latest(self, limit: int, client: str = "", since: float = 0.0) -> list[dict[str, Any]]:
        """The last ones, oldest first; of one client, and after an instant, if that is said."""
        needle = b'"client":' + json.dumps(client).encode() if client else b""
        found = []
        for ring in self._rings():
            number = 0
            for line in _lines_with(ring, needle):
                record = _read(line)
                if record is None or (client and record.get("client") != client):
                    continue
                if record["at"] <= since or number == limit:
                    break
                found.append(record)
                number += 1
        return sorted(found, key=lambda record: float(record["at"]))[-limit:]

    def _rings(self) -> Iterator[bytes]:
        """Each ring's bytes, oldest first."""
        if self._folder is None:
            yield _unrolled(self._ring[:])
            return
        for file in sorted(self._folder.glob(f"{_NAME}*")):
            with contextlib.suppress(OSError):
                yield _unrolled(file.read_bytes())


def _claim(folder: Path, size: int) -> int:
    """A ring that no living process has. Raises OSError, RuntimeError."""
    for place in range(MAX_RINGS):
        descriptor = os.open(folder / f"{_NAME}{place}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            # Room on the disk now: where there is none later, to write would end the process.
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    raise RuntimeError("more workers than places")


def _unrolled(ring: bytes) -> bytes:
    at = int.from_bytes(ring[:_HEAD], "little")
    return ring[_HEAD + at :] + ring[_HEAD : _HEAD + at]


def _lines_with(ring: bytes, needle: bytes) -> Iterator[bytes]:
    """The lines that hold this, newest first; only they are cut out."""
    end = len(ring)
    while end > 0:
        found = ring.rfind(needle or b"}\n", 0, end)
        if found < 0:
            return
        start, stop = ring.rfind(b"\n", 0, found) + 1, ring.find(b"\n", found)
        yield ring[start : stop if stop >= 0 else len(ring)]
        end = start


def _read(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        found = json.loads(line.lstrip(b"\0"))
        if isinstance(found, dict) and isinstance(found.get("at"), (int, float)):
            return found
    return None
