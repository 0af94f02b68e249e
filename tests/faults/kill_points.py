"""Places between two steps of one issuance at which the process ends as if the power had gone.

GROAT_TEST_KILL_AT says at which passage, so that requests are in flight at every other step too.
"""

import functools
import inspect
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import groat.server.connection.cycle as cycle
import groat.server.endpoints.asking as asking
import groat.server.endpoints.token as token_endpoint
import groat.server.log.audit as audit
import groat.server.store.postgres.writer as postgres_writer
import groat.server.store.sqlite.writer as sqlite_writer


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after a call of `owner.name`; `recorded`: whether the use is durable by then."""

    owner: Any
    name: str
    after: bool
    recorded: bool


_BEFORE: Final = {
    "body-read": Point(token_endpoint, "read_form", True, False),
    "parsed": Point(token_endpoint, "read_token_request", True, False),
    "before-verify": Point(asking, "authenticate_client", False, False),
    "verified": Point(asking, "authenticate_client", True, False),
}
_AFTER: Final = {
    "told": Point(asking.Asking, "use_up", True, True),
    "before-sign": Point(token_endpoint, "sign_token", False, True),
    "signed": Point(token_endpoint, "sign_token", True, True),
    "before-log": Point(audit.Line, "write", False, True),
    "logged": Point(audit.Line, "write", True, True),
    "before-send": Point(token_endpoint, "send_private_json", False, True),
    "sent": Point(token_endpoint, "send_private_json", True, True),
    "mid-response": Point(cycle.OneWriteCycle, "_answer", False, True),
}
_SQLITE: Final = {
    "before-commit": Point(sqlite_writer.SqliteWriter, "_insert_all", False, False),
    "committed": Point(sqlite_writer.SqliteWriter, "_insert_all", True, True),
}
# For tests that show proofs; who shows none never comes by.
_BETWEEN: Final = {
    "sqlite": Point(sqlite_writer, "use_of_proof", True, False),
    "postgres": Point(postgres_writer, "use_of_proof", True, False),
}
_POSTGRES: Final = {
    "before-commit": Point(postgres_writer.PostgresWriter, "write", False, False),
    "statement-sent": Point(postgres_writer.PostgresWriter, "write", True, False),  # it may have arrived or not
    "committed": Point(postgres_writer.PostgresWriter, "_answer", False, True),
}
POINTS: Final[Mapping[str, Mapping[str, Point]]] = MappingProxyType(
    {"sqlite": {**_BEFORE, **_SQLITE, **_AFTER}, "postgres": {**_BEFORE, **_POSTGRES, **_AFTER}}
)


class Countdown:
    """Kills this process at the n-th passage."""

    def __init__(self, passages: int) -> None:
        self._left = passages

    def passed(self) -> bool:
        self._left -= 1
        return self._left == 0

    def __call__(self) -> None:
        if self.passed():
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def install(name: str) -> None:
    """Arm one point, named with its store. Raises KeyError (unknown), AttributeError (the product has moved on)."""
    store, _, name = name.partition("/")
    point = _BETWEEN[store] if name == "between-values" else POINTS[store][name]
    countdown = Countdown(int(os.environ.pop("GROAT_TEST_KILL_AT")))
    original = getattr(point.owner, point.name)
    if name == "mid-response":
        armed: Any = _half_written(original, countdown)
    else:
        armed = _with(original, countdown, after=point.after)
    setattr(point.owner, point.name, armed)


def _with(original: Callable[..., Any], countdown: Countdown, *, after: bool) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def waiting(*arguments: Any, **keywords: Any) -> Any:
            if not after:
                countdown()
            result = await original(*arguments, **keywords)
            if after:
                countdown()
            return result

        return waiting

    @functools.wraps(original)
    def direct(*arguments: Any, **keywords: Any) -> Any:
        if not after:
            countdown()
        result = original(*arguments, **keywords)
        if after:
            countdown()
        return result

    return direct


def _half_written(original: Callable[..., Any], countdown: Countdown) -> Callable[..., Any]:
    """Put half a response on the wire, then end."""

    def answer(cycle: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if b"access_token" in body and countdown.passed():
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
            os.write(cycle.transport.get_extra_info("socket").fileno(), head + body[: len(body) // 2])
            die()
        original(cycle, status, headers, body)

    return answer
