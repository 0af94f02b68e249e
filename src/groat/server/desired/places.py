"""Where something stands in the files that say what should be registered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from groat.protocol.errors import Finding

# The names and indices on the way to a value: ("clients", "billing", "keys", 0).
Way = tuple[str | int, ...]
NOWHERE: Final = ""


@dataclass(frozen=True)
class Document:
    """One file: what it says, and on which lines. Lines are looked for when somebody asks."""

    file: str
    value: Mapping[str, Any]
    find_lines: Callable[[], Mapping[Way, int]] = field(repr=False)

    @cached_property
    def _lines(self) -> Mapping[Way, int]:
        return self.find_lines()

    def line(self, way: Way) -> int | None:
        """The line of this value, or else of the nearest one around it."""
        for size in range(len(way), 0, -1):
            if (found := self._lines.get(way[:size])) is not None:
                return found
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """A value in a file; of something that stands in none, `NOWHERE_PLACE`."""

    document: Document | None
    way: Way

    @property
    def file(self) -> str | None:
        return self.document.file if self.document else None

    @property
    def line(self) -> int | None:
        return self.document.line(self.way) if self.document else None

    def at(self, *names: str | int) -> "Place":
        """The place of something inside of it."""
        return Place(self.document, (*self.way, *names))

    def finding(self, message: str) -> Finding:
        """What is wrong here. A finding without a line is about the file."""
        return Finding(message, self.file, self.line)

    def __str__(self) -> str:
        if self.document is None:
            return NOWHERE
        return f"{self.file}:{self.line}" if self.line else str(self.file)


NOWHERE_PLACE: Final = Place(None, ())
