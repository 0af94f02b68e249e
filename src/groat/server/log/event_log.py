"""The log: one event a line, JSON off a terminal and pretty on one, redacted in one place.

Whatever looks like a JWT or a PEM is cut from the rendered line, whoever logged it, so that a careless call elsewhere
cannot leak one. An issued token costs one line, which is why this is not a general logging framework
(docs/decisions/0005-event-log.md).
"""

import errno
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from groat.server.log.scarce import ScarceLines

_JWT = re.compile(rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){1,4}")
_PEM = re.compile(rb'-----BEGIN [A-Z ]+-----(?:[^"\\]|\\.)*')  # to the end of its JSON string
_SECRET_NAMES: Final = frozenset(
    {"client_assertion", "access_token", "authorization", "dpop", "client_secret", "assertion", "token", "d"}
)
_COLORS: Final = {"info": "32", "warning": "33", "error": "31"}


def _encoder() -> Callable[[Any], bytes]:
    try:
        import msgspec
    except ImportError:  # a client's host, which serves nothing and logs next to nothing
        return lambda value: json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")).encode()
    return msgspec.json.Encoder(enc_hook=str).encode


_encode: Final = _encoder()


def encode_line(record: Mapping[str, Any]) -> bytes:
    """One record as a line of JSON."""
    return _encode(record) + b"\n"


def redact(line: bytes) -> bytes:
    """Cut tokens, assertions and PEM blocks from a rendered line."""
    if b"eyJ" in line:
        line = _JWT.sub(b"[redacted]", line)
    if b"-----BEGIN" in line:
        line = _PEM.sub(b"[redacted]", line)
    return line


class EventLog:
    """Writes events of at least `level` to a stream, each line, or those of one turn, with one system call.

    `emit` raises OSError when the stream takes nothing any more (closed pipe, full disk).
    """

    def __init__(self, stream: TextIO | None = None, level: str = "info", pretty: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self._fd = self._stream.fileno()
        self._colors = self._terminal = self._stream.isatty()
        self.fault: str | None = None  # why the last line was not written, None if it was
        self._moment, self._shown = 0, ""  # in milliseconds, and as it is written
        self._gathered = Gathered(self._write)
        self.adjust(level, pretty)

    def adjust(self, level: str, pretty: bool | None) -> None:
        """Write from now on what is of at least this level, in this form; None is pretty on a terminal only."""
        self._threshold = logging.getLevelNamesMapping()[level.upper()]
        self._pretty = self._colors if pretty is None else pretty

    def emit(self, level: str, event: str, facts: Mapping[str, Any]) -> None:
        """Write one event; values under the names of secrets are masked."""
        if logging.getLevelNamesMapping()[level.upper()] >= self._threshold:
            record = {"ts": self._now(), "level": level, "event": event, **facts}
            for name in _SECRET_NAMES & record.keys():
                record[name] = "[redacted]"
            self._write(redact(self._line(record)))

    def gather(self, event: str, facts: Mapping[str, Any]) -> "Gathered":
        """An event of level info that is written with others: whoever calls `write` first writes them all."""
        if self._gathered.done:
            self._gathered = Gathered(self._write)
        if self._threshold <= logging.INFO:
            record = {"ts": self._now(), "level": "info", "event": event, **facts}
            self._gathered.lines.append(redact(self._line(record)))
        return self._gathered

    def _line(self, record: Mapping[str, Any]) -> bytes:
        return self._for_people(record) if self._pretty else _encode(record) + b"\n"

    def _write(self, line: bytes) -> None:
        try:
            written = self._write_some(line)
            while written < len(line):
                written += self._write_some(line[written:])
        except OSError as error:
            self.fault = error.strerror or type(error).__name__
            raise
        self.fault = None

    def _write_some(self, line: bytes) -> int:
        try:
            return os.write(self._fd, line)
        except OSError as error:
            if error.errno != errno.EIO or not self._terminal:
                raise
        # The terminal was closed, and this process lives on: nobody is left to read.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._fd)
        os.close(nowhere)
        return len(line)

    def _now(self) -> str:
        moment = int(time.time() * 1000)
        if moment != self._moment:  # lines that are written together nearly always share it
            second, rest = divmod(moment, 1000)
            self._moment = moment
            self._shown = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{rest:03}Z"
        return self._shown

    def _for_people(self, record: Mapping[str, Any]) -> bytes:
        rest = " ".join(
            f"{name}={_encode(value).decode()}"
            for name, value in record.items()
            if name not in ("ts", "level", "event") and value not in (None, "")
        )
        level = str(record["level"])
        mark = f"\033[{_COLORS.get(level, '0')}m{level:7}\033[0m" if self._colors else f"{level:7}"
        return f"{record['ts'][11:]} {mark} {record['event']:16} {rest}\n".encode("utf-8", "backslashreplace")


@dataclass(slots=True)
class Gathered:
    """Lines that wait to be written with one system call."""

    out: Callable[[bytes], None]
    lines: list[bytes] = field(default_factory=list)
    done: bool = False
    _error: OSError | None = None

    def write(self) -> None:
        """Write what nobody has written yet. Raises OSError, each time, when the stream did not take it all."""
        if not self.done:
            self.done = True
            try:
                if self.lines:  # none below the level
                    self.out(b"".join(self.lines))
            except OSError as error:
                self._error = error
        if self._error is not None:
            raise self._error


class LibraryLines(logging.Handler):
    """Lines of libraries, which use the standard library's logging, in the format of ours.

    Warnings are about what peers send (what is not HTTP, above all): some of each logger are written.
    """

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log
        self._scarce = ScarceLines()

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.levelno == logging.WARNING:
            held_back = self._scarce.admit(record.name, time.monotonic())
            if held_back is None:
                return
            facts |= {"held_back": held_back} if held_back else {}
        if record.exc_info:
            facts["exception"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            self._log.emit(record.levelname.lower(), "log", facts)
        except OSError:
            pass  # to say so on the same stream would not work either
        except KeyError:
            self.handleError(record)


def configure_logging(level: str = "info", pretty: bool | None = None, stream: TextIO | None = None) -> EventLog:
    """Make the log of this process, and send the standard library's logging through it."""
    log = EventLog(stream, level, pretty)
    root = logging.getLogger()
    root.handlers = [LibraryLines(log)]
    set_library_level(level)
    return log


def set_library_level(level: str) -> None:
    """How much of what libraries log passes; their debug lines never do, as they may hold anything."""
    logging.getLogger().setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.INFO))
