"""What happened, one line each: who got which token, who was refused and why.

Redaction stands here, for every line of every logger: whatever looks like a JWT or a PEM is cut from the rendered
line, so that a careless call elsewhere cannot leak one.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import msgspec
import structlog

_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,4}")
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL)
_SECRET_KEYS: Final = frozenset(
    {"client_assertion", "access_token", "authorization", "dpop", "client_secret", "assertion", "token", "d"}
)
_encode = msgspec.json.Encoder(enc_hook=str).encode

EventDict = MutableMapping[str, Any]


def redact(line: bytes) -> bytes:
    """Cut tokens, assertions and PEM blocks from a rendered line."""
    if b"eyJ" in line:
        line = _JWT.sub(b"[redacted]", line)
    if b"-----BEGIN" in line:
        line = _PEM.sub(b"[redacted]", line)
    return line


def _mask_members(_: Any, __: str, event: EventDict) -> EventDict:
    for name in _SECRET_KEYS & event.keys():
        event[name] = "[redacted]"
    return event


def _render_json(_: Any, __: str, event: EventDict) -> bytes:
    return redact(_encode(event))


class _Pretty:
    """Colours and columns for a person at a terminal; the same redaction."""

    def __init__(self, colors: bool) -> None:
        self._renderer = structlog.dev.ConsoleRenderer(colors=colors)

    def __call__(self, logger: Any, name: str, event: EventDict) -> bytes:
        event.setdefault("event", "")
        return redact(str(self._renderer(logger, name, event)).encode("utf-8", "backslashreplace"))


def configure_logging(level: str = "info", pretty: bool | None = None, stream: TextIO | None = None) -> None:
    """Send structlog and stdlib logging to stderr: pretty on a terminal, JSON lines elsewhere."""
    out = stream or sys.stderr
    human = out.isatty() if pretty is None else pretty
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = _Pretty(colors=out.isatty()) if human else _render_json
    structlog.configure(
        processors=[
            _mask_members,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp" if human else "ts"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(out.buffer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(max(number, logging.INFO))


class _ToStructlog(logging.Handler):
    """Lines of libraries, in the format of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, "log", logger=record.name, message=record.getMessage(), exc_info=record.exc_info
        )


class Audit:
    """The audit trail of one process. Event names are documentation anchors and metric reasons."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def issued(self, facts: Mapping[str, Any]) -> None:
        """A token was issued: request_id, client, key, alg, api, aud, scope, jti, kid, ms."""
        self._log.info("token.issued", **facts)

    def refused(self, reason: str, facts: Mapping[str, Any]) -> None:
        """A request was refused: request_id, client (claimed), error, status, hint, ms."""
        self._log.warning("token.refused", reason=reason, **facts)

    def broken(self, facts: Mapping[str, Any]) -> None:
        """A request met a bug; the traceback goes along."""
        self._log.error("server.error", exc_info=True, **facts)

    def operated(self, operation: str, facts: Mapping[str, Any]) -> None:
        """An operator changed something."""
        self._log.info(operation, **facts)
