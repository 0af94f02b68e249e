"""Whether the audit trail is whole: rows in their order, each as it was written, none missing."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from groat.server.store.audit_trail import GENESIS, AuditRow

# The operation of a row that says which rows went by retention.
FORGOTTEN: Final = "audit.forgotten"
MAX_FAULTS: Final = 100


@dataclass(slots=True)
class Chain:
    """Takes rows from the oldest to the newest, and says at the end what is wrong with them.

    Not noticed: a trail that was written anew as a whole, or cut off at its end, unless a hash is known that was its
    head at some time.
    """

    head: str | None = None
    rows: int = 0
    first: AuditRow | None = None
    last: AuditRow | None = None
    faults: list[str] = field(default_factory=list)
    _found_head: bool = False
    _checkpoints: set[tuple[int, str]] = field(default_factory=set)

    def take(self, some: Iterable[AuditRow]) -> None:
        """The next rows."""
        for row in some:
            self._take(row)

    def _take(self, row: AuditRow) -> None:
        before, self.last = self.last, row
        self.rows += 1
        if row.digest() != row.hash:
            self._fault(f"row {row.seq} was changed: its hash is another one")
        if before is None:
            self.first = row
        elif row.seq != before.seq + 1:
            self._fault(f"{_named(before.seq + 1, row.seq - 1)} missing")
        elif row.previous != before.hash:
            self._fault(f"row {row.seq} names another row before it: it or row {before.seq} was put there or changed")
        self._found_head = self._found_head or row.hash == self.head
        if row.operation == FORGOTTEN:
            self._checkpoints.add(_checkpoint(row))

    def finish(self) -> None:
        """What can only be said at the end: whether the beginning and the end are what they should be."""
        if self.first is None:
            self._fault("there are no rows, though groat init writes the first one")
        elif (begin := (self.first.seq - 1, self.first.previous)) != (0, GENESIS) and begin not in self._checkpoints:
            lost = f"{_named(1, begin[0])} missing, and" if begin[0] > 0 else "row 1 names a row before it, and"
            self._fault(f"{lost} no row says that it went by retention")
        if self.head is not None and not self._found_head and self.head not in {at for _, at in self._checkpoints}:
            self._fault("no row has the hash that was kept as head: rows are gone, or the trail was written anew")

    def _fault(self, text: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)


def _named(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"


def _checkpoint(row: AuditRow) -> tuple[int, str]:
    """Up to which row they went, and the hash of that one; of a damaged row nothing that fits."""
    try:
        said: Any = json.loads(row.after or "")
        return int(said["through"]), str(said["hash"])
    except (ValueError, TypeError, LookupError):
        return -1, ""
