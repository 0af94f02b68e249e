"""One connection to PostgreSQL: psycopg connects, and libpq is driven below psycopg's cursors.

A cursor costs some 200 us of our CPU per statement, this some 70 us (docs/decisions/0010-postgres-driver.md). And a
statement that gets no answer is given up by closing the socket, never by waiting for a cancellation to come back.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult

from groat.server.store import StoreUnavailable

CONNECT_SECONDS: Final = 2.0
STATEMENT_MS: Final = 400
# The server gives a statement up after STATEMENT_MS and says so; whoever says nothing for longer is gone.
ANSWER_SECONDS: Final = 0.6

_DEFAULTS: Final = {
    "connect_timeout": "2",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",
}
Value = str | bytes | int | None
Row = dict[str, Any]
# What arrives is text; of types that are not here it stays text. The numbers are PostgreSQL's own (pg_type.oid).
_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    16: b"t".__eq__,
    17: lambda text: bytes.fromhex(text[2:].decode()),
    20: int,
    23: int,
    26: int,
    701: float,
}


class Refused(Exception):
    """PostgreSQL answered with an error; the connection still works. `sqlstate` as in its manual, appendix A."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class LinkLost(StoreUnavailable):
    """The connection broke or the server fell silent: what was under way may have happened or not."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect. The URL may hold a password and is never shown.

    `patience`: how many times as long as a token request may wait.
    """

    url: str = field(repr=False)
    replica: str = "groat"
    patience: int = 1

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """Raises LinkLost in one line that holds no secret."""
        try:
            given = psycopg.conninfo.conninfo_to_dict(self.url)
        except psycopg.Error:
            raise LinkLost("storage.url is no PostgreSQL URL") from None  # the error may quote parts of the password
        defaults: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await psycopg.AsyncConnection.connect(
                    self.url, autocommit=True, application_name=f"groat {self.replica}"[:63], **defaults
                )
        except TimeoutError:
            raise LinkLost(f"PostgreSQL did not answer within {CONNECT_SECONDS:g} s") from None
        except (psycopg.Error, OSError) as error:
            raise LinkLost(f"PostgreSQL: {one_line(error)}") from None


class Link:
    """One connection; one statement at a time, and nobody else may use it meanwhile."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], patience: int = 1) -> None:
        self._answer_seconds = ANSWER_SECONDS * patience
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._pending: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None
        self.lost: str | None = None
        self.on_loss: Callable[[], None] | None = None  # told if it breaks while nothing is under way
        self._pgconn.nonblocking = 1
        self._loop.add_reader(self._socket, self._readable)

    async def prepare(self, name: bytes, sql: bytes, types: Sequence[int]) -> None:
        """Prepare a statement. Raises Refused, LinkLost."""
        self._check_free()
        self._pgconn.send_prepare(name, sql, types)
        checked(await self._answer(self._begun()))

    def send_prepared(self, name: bytes, values: Sequence[bytes]) -> "asyncio.Future[PGresult]":
        """Start a prepared statement, values and results in binary; the future fails with LinkLost alone."""
        future: asyncio.Future[PGresult]
        try:
            self._check_free()
            self._pgconn.send_query_prepared(name, values, [1] * len(values), 1)
            future = self._begun()
        except LinkLost as error:
            future = self._loop.create_future()
            future.set_exception(error)
        except psycopg.Error as error:
            self._lose(one_line(error))
            future = self._loop.create_future()
            future.set_exception(self.loss())
        return future

    async def run_prepared(self, name: bytes, values: Sequence[bytes]) -> PGresult:
        """Run a prepared statement and wait. Raises Refused, LinkLost."""
        timer = self._loop.call_later(self._answer_seconds, self.give_up)
        try:
            return checked(await self.send_prepared(name, values))
        finally:
            timer.cancel()

    async def query(self, sql: str, *values: Value, seconds: float = 0.0) -> list[Row]:
        """Run one statement; rows by column name. Raises Refused, LinkLost."""
        self._check_free()
        try:
            self._pgconn.send_query_params(
                sql.encode(), [_encode(v) for v in values], None, [int(isinstance(v, bytes)) for v in values]
            )
        except psycopg.Error as error:
            self._lose(one_line(error))
            raise self.loss() from None
        return _rows(checked(await self._answer(self._begun(), seconds)))

    async def _answer(self, future: "asyncio.Future[PGresult]", seconds: float = 0.0) -> PGresult:
        """Wait. Whoever stops waiting leaves a statement behind whose end nobody knows, so the link goes with him."""
        timer = self._loop.call_later(seconds or self._answer_seconds, self.give_up)
        try:
            return await future
        except asyncio.CancelledError:
            self._lose("given up")
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close at once, whatever is under way."""
        self.on_loss = None
        self._lose("closed")

    def give_up(self) -> None:
        """Close because an answer is overdue, unless it has just come: this loop may be late itself."""
        self.catch_up()
        if self._pending is not None:
            self._lose("no answer")

    def catch_up(self) -> None:
        """Take what has arrived and was not looked at yet."""
        if self.lost is None and self._pending is not None:
            self._readable()

    def loss(self) -> LinkLost:
        """What to raise for whoever is concerned."""
        return LinkLost(f"the connection to PostgreSQL was lost ({self.lost})")

    def _check_free(self) -> None:
        if self.lost is not None:
            raise self.loss()
        assert self._pending is None, "one statement at a time"

    def _begun(self) -> "asyncio.Future[PGresult]":
        future = self._pending = self._loop.create_future()
        self._result = None
        self._flush()
        return future

    def _flush(self) -> None:
        try:
            if self._pgconn.flush():
                self._loop.add_writer(self._socket, self._writable)
        except psycopg.Error as error:
            self._lose(one_line(error))

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._flush()

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
            while self._pending is not None and not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    future, self._pending = self._pending, None
                    self._finish(future)
                    return
                self._result = result
            self._check_idle()
        except psycopg.Error as error:
            self._lose(one_line(error))

    def _finish(self, future: "asyncio.Future[PGresult]") -> None:
        # Nobody waits any more where it was cancelled; the link is lost by then.
        if future.done():
            return
        if self._result is None:
            self._lose("no result")
            future.set_exception(self.loss())
        else:
            future.set_result(self._result)

    def _check_idle(self) -> None:
        if self._pending is None and self._pgconn.status != pq.ConnStatus.OK:
            self._lose("ended by the server")

    def _lose(self, why: str) -> None:
        if self.lost is not None:
            return
        self.lost = why
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(self.loss())
        elif self.on_loss is not None:
            self.on_loss()


def checked(result: PGresult) -> PGresult:
    """The result, if it is no error. Raises Refused."""
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        return result
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000"
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    raise Refused(state.decode(), message.decode("utf-8", "replace"))


def one_line(error: BaseException) -> str:
    """The first line of what libpq says; it never repeats a password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _encode(value: Value) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"t" if value else b"f"
    text = str(value).encode("utf-8", "surrogatepass")
    if b"\0" in text:  # libpq would silently end the text there, and find somebody else
        raise Refused("22021", "PostgreSQL has no text with a NUL character")
    return text


def _rows(result: PGresult) -> list[Row]:
    columns = range(result.nfields)
    names = [(result.fname(c) or b"").decode() for c in columns]
    readers = [_READERS.get(result.ftype(c), bytes.decode) for c in columns]
    cells = [[result.get_value(r, c) for c in columns] for r in range(result.ntuples)]
    return [
        {name: None if cell is None else read(cell) for name, read, cell in zip(names, readers, row, strict=True)}
        for row in cells
    ]


_ARRAY: Final = struct.Struct("!iiIii").pack
_LENGTH: Final = struct.Struct("!i").pack
BYTEA, BIGINT, TEXT = 17, 20, 25


def array_of(oid: int, items: Sequence[bytes]) -> bytes:
    """A one-dimensional array in PostgreSQL's binary form: elements of any length."""
    return _ARRAY(1, 0, oid, len(items), 1) + b"".join([_LENGTH(len(item)) + item for item in items])


def array_of_bigint(items: Sequence[int]) -> bytes:
    """A one-dimensional bigint array in binary form."""
    pairs = [part for item in items for part in (8, item)]
    return _ARRAY(1, 0, BIGINT, len(items), 1) + struct.pack("!" + "iq" * len(items), *pairs)


def texts(data: bytes) -> list[str]:
    """The elements of a binary text array without nulls."""
    count, position, found = int.from_bytes(data[12:16], "big"), 20, []
    if int.from_bytes(data[:4], "big") == 0:
        return []
    for _ in range(count):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        found.append(data[position + 4 : end].decode())
        position = end
    return found
