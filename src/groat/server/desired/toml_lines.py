"""On which lines of a TOML document its values stand: readers of TOML do not say, and whoever mends a file must know.

The text is known to be TOML 1.0 (`tomllib` has read it), so this one looks at no more than it takes to find the names.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from groat.server.desired.places import Way

_BLANKS: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_NAME: Final = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')[ \t]*""")
_TEXT: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^,\]}\n#]*")


def toml_lines(text: str) -> Mapping[Way, int]:
    """By the way to each table and value, its line, counted from 1."""
    return _Scan(text).lines()


@dataclass(slots=True)
class _Scan:
    text: str
    at: int = 0
    found: dict[Way, int] = field(default_factory=dict)  # offsets
    sizes: dict[Way, int] = field(default_factory=dict)  # of arrays of tables

    def lines(self) -> Mapping[Way, int]:
        table: Way = ()
        self._skip()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip()
        ends = [match.start() for match in re.finditer("\n", self.text)]
        return {way: bisect_right(ends, offset - 1) + 1 for way, offset in self.found.items()}

    def _skip(self) -> None:
        """Blanks, line ends and comments."""
        found = _BLANKS.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def _header(self) -> Way:
        """`[a.b]` or `[[a.b]]`; a name of an array of tables means its last one."""
        begin, many = self.at, self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        names = self._names()
        self.at = self.text.index("]", self.at) + (2 if many else 1)
        way: Way = ()
        for number, name in enumerate(names, 1):
            way = (*way, name)
            if many and number == len(names):
                self.sizes[way] = self.sizes.get(way, 0) + 1
                self.found.setdefault(way, begin)
            if way in self.sizes:
                way = (*way, self.sizes[way] - 1)
            self.found.setdefault(way, begin)
        # A table that others were seen in before is written here.
        self.found[way] = begin
        return way

    def _names(self) -> list[str]:
        names = []
        while True:
            found = _NAME.match(self.text, self.at)
            assert found is not None
            names.append(_unquoted(found[1]))
            self.at = found.end()
            if not self.text.startswith(".", self.at):
                return names
            self.at += 1

    def _pair(self, table: Way) -> None:
        begin = self.at
        way = table
        for name in self._names():
            way = (*way, name)
            self.found.setdefault(way, begin)
        self.at = self.text.index("=", self.at) + 1
        self._value(way)

    def _value(self, way: Way) -> None:
        self._skip()
        if self.text[self.at] == "{":
            self._members(way, "}")
        elif self.text[self.at] == "[":
            self._members(way, "]")
        elif text := _TEXT.match(self.text, self.at):
            self.at = text.end()
        else:
            plain = _PLAIN.match(self.text, self.at)
            assert plain is not None
            self.at = plain.end()

    def _members(self, way: Way, end: str) -> None:
        """Of an inline table, or of an array."""
        self.at += 1
        self._skip()
        count = 0
        while self.text[self.at] != end:
            if end == "}":
                self._pair(way)
            else:
                self.found.setdefault((*way, count), self.at)
                self._value((*way, count))
            count += 1
            self._skip()
            if self.text[self.at] == ",":
                self.at += 1
                self._skip()
        self.at += 1


def _unquoted(name: str) -> str:
    if name[0] == '"' and "\\" in name:
        return str(next(iter(tomllib.loads(f"{name} = 1"))))
    return name[1:-1] if name[0] in "\"'" else name
