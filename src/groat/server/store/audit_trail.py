"""The audit trail: one row for each object that a change touches, each with the hash of the row before it.

Rows are written in the transaction of the change, under the registry's lock: none without its change, no change without
its rows, and one chain however many replicas there are. Whoever can write to the database can write a whole new chain;
who keeps a head of it elsewhere notices (docs/guides/audit.md).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, NamedTuple

from groat.server.store import audit_sql as sql
from groat.server.store.changes import Transaction
from groat.server.store.rows import Row, replica_name

# What the first row names as the one before it.
GENESIS: Final = "0" * 64
_AT_A_TIME: Final = 500  # rows of one statement


class Face(StrEnum):
    """By which way a change came in."""

    CLI = "cli"
    API = "api"
    APPLY = "apply"
    SOCKET = "socket"
    ROTATOR = "rotator"
    ENROLMENT = "enrolment"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, as `kind:name` words with a space between, and by which face (docs/guides/audit.md)."""

    name: str
    face: Face


def this_process(face: Face = Face.SERVER) -> Actor:
    """The actor of what nobody asked for."""
    return Actor(f"server:{replica_name()}", face)


@dataclass(frozen=True, slots=True)
class Deed:
    """What an actor does, under the name that the log has for it; `at` in epoch seconds, by the clock of his host."""

    actor: Actor
    operation: str
    at: int


class Effect(NamedTuple):
    """What became of one object: documents in JSON, None where it was not there or is not any more."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row. `before` and `after` are JSON as it stands there: nothing is said about rows that somebody damaged."""

    seq: int
    at: int
    actor: str
    face: str
    operation: str
    object: str
    before: str | None
    after: str | None
    registry_version: int
    previous: str
    hash: str

    def canonical(self) -> bytes:
        """The text that the hash is of: a JSON array of all columns but `hash`, in order, in ASCII, without spaces."""
        return json.dumps([getattr(self, name) for name in COLUMNS[:-1]], separators=(",", ":")).encode()

    def digest(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal digits."""
        return hashlib.sha256(self.canonical()).hexdigest()


COLUMNS: Final = tuple(field.name for field in fields(AuditRow))


def audit_row(row: Row) -> AuditRow:
    """A row as it stands there; what is no text any more is shown as far as it is one."""
    return AuditRow(*(_readable(row[name]) for name in COLUMNS))


def _readable(value: Any) -> Any:
    # SQLite hands out texts as bytes here: one that was damaged must not hide the other rows.
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def written(document: Mapping[str, Any] | None) -> str | None:
    """A document as it stands in a row."""
    return None if document is None else json.dumps(document, sort_keys=True, separators=(",", ":"))


async def head(transaction: Transaction) -> tuple[int, str]:
    """Number and hash of the newest row; as if one came before the first."""
    tail = await transaction.rows(sql.TAIL)
    return (tail[0]["seq"], _readable(tail[0]["hash"])) if tail else (0, GENESIS)


async def append(transaction: Transaction, deed: Deed, effects: Sequence[Effect], version: int, horizon: int) -> range:
    """Add a row for each effect; returns their numbers. The caller holds the registry.

    `horizon`: no row is dated before what the store has seen, so that a clock which is behind shortens no retention.
    """
    seq, previous = await head(transaction)
    first, at, actor = seq + 1, max(deed.at, horizon), deed.actor
    for start in range(0, len(effects), _AT_A_TIME):
        rows = []
        for effect in effects[start : start + _AT_A_TIME]:
            seq += 1
            row = AuditRow(seq, at, actor.name, actor.face.value, deed.operation, *effect, version, previous, "")
            previous = row.digest()
            rows.append({name: getattr(row, name) for name in COLUMNS} | {"hash": previous})
        await transaction.change(sql.APPEND, json.dumps(rows))
    return range(first, seq + 1)
