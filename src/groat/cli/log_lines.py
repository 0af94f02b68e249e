"""Lines of the JSON log: reading them from files that may grow and be replaced, and showing them to people."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from groat.cli.people import visible
from groat.protocol.errors import ConfigError

LOOK_AGAIN_SECONDS: Final = 0.5
MAX_LINE_BYTES: Final = 1024 * 1024
STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: of one client, refusals alone, since an instant (epoch seconds)."""

    client: str = ""
    refused: bool = False
    since: float = 0.0

    def admits(self, record: Mapping[str, Any]) -> bool:
        """Whether this is one of them; a line without a time is as new as it can be."""
        at = instant_of(record)
        return (
            (not self.client or record.get("client") == self.client)
            and (not self.refused or "reason" in record)
            and (at is None or at >= self.since)
        )


def instant_of(record: Mapping[str, Any]) -> float | None:
    """Epoch seconds of a line: `at`, or `ts` as the log writes it."""
    if isinstance(at := record.get("at"), (int, float)):
        return float(at)
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(str(record.get("ts"))).timestamp()
    return None


def parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The records among these lines; what is no JSON object is passed over: a log may have other writers."""
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def read_lines(name: str, follow: bool = False, wait: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
    """Every line of a file, or of standard input; `follow`: and those that come, also where the file is replaced.

    Raises ConfigError.
    """
    if name == STDIN:
        yield from iter(lambda: sys.stdin.buffer.readline(MAX_LINE_BYTES), b"")
        return
    try:
        while True:
            with Path(name).open("rb") as file:
                yield from _whole_lines(file, follow, wait, name)
            if not follow:
                return
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None


def _whole_lines(file: io.BufferedReader, follow: bool, wait: Callable[[float], None], name: str) -> Iterator[bytes]:
    """Until its end; with `follow`, until another file has its name, or it was cut."""
    rest = b""
    while True:
        part = file.readline(MAX_LINE_BYTES)
        if part.endswith(b"\n") or len(part) == MAX_LINE_BYTES:
            yield rest + part
            rest = b""
        elif not follow:
            if rest + part:
                yield rest + part
            return
        else:
            rest = (rest + part)[-MAX_LINE_BYTES:]
            if not part and _replaced(file, name):
                return
            wait(LOOK_AGAIN_SECONDS)


def _replaced(file: io.BufferedReader, name: str) -> bool:
    with contextlib.suppress(OSError):  # between two names of a rotation there may be nothing
        here, there = os.fstat(file.fileno()), os.stat(name)
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) or there.st_size < file.tell()
    return False


_FIRST: Final = ("event", "client", "reason", "hint", "request_id")


def for_people(record: Mapping[str, Any]) -> str:
    """One line: when, what, who, why, and the id by which `groat explain` finds it."""
    at = instant_of(record)
    when = "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    event, client, reason, hint, request_id = (record.get(name) for name in _FIRST)
    parts = [when, f"{event or 'log':16}", str(client or "-")]
    if reason:
        parts.append(f"{reason}{f': {hint}' if hint else ''}")
    else:
        known = {*_FIRST, "ts", "at", "level", "source", "ms", "trace_id", "span_id"}
        parts += [f"{name}={value}" for name, value in record.items() if name not in known and value not in (None, "")]
    if request_id:
        parts.append(f"[{request_id}]")
    return "  ".join(visible(str(part)) for part in parts)
