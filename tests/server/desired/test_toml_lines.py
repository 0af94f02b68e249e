"""The lines of a TOML document's values, against what was written there."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groat.server.desired.places import Way
from groat.server.desired.toml_lines import toml_lines

DOCUMENT = '''# a comment with [brackets] and "quotes"
title = "one # no comment"

[apis.orders]
audience = "https://orders.example.com"   # = [
scopes = [
  "orders:read",   # first
  "orders:write",
]
"quoted name".'literal'.plain = 1

[clients."a.b"]
text = """
several
lines with \\""" and ]
"""
raw = \'\'\'
[no.table]
\'\'\'
allow = {orders = ["orders:read"], "x\\u0041" = []}
keys = [
  {file = "one.json"},
  {file = "two.json",
   },
]

[[clients."a.b".rules]]
trust = "ci"

[[clients."a.b".rules]]
trust = "other"
when = 2027-01-31 00:00:00Z
[clients."a.b".rules.more]
deep = [[1, 2], [3]]
'''.replace('two.json",\n   },', 'two.json"},')

LINES: dict[Way, int] = {
    ("title",): 2,
    ("apis", "orders"): 4,
    ("apis", "orders", "audience"): 5,
    ("apis", "orders", "scopes"): 6,
    ("apis", "orders", "scopes", 1): 8,
    ("apis", "orders", "quoted name", "literal", "plain"): 10,
    ("clients", "a.b"): 12,
    ("clients", "a.b", "text"): 13,
    ("clients", "a.b", "raw"): 17,
    ("clients", "a.b", "allow", "orders"): 20,
    ("clients", "a.b", "allow", "xA"): 20,
    ("clients", "a.b", "keys", 1, "file"): 23,
    ("clients", "a.b", "rules", 0): 26,
    ("clients", "a.b", "rules", 0, "trust"): 27,
    ("clients", "a.b", "rules", 1): 29,
    ("clients", "a.b", "rules", 1, "when"): 31,
    ("clients", "a.b", "rules", 1, "more", "deep", 1, 0): 33,
}


@pytest.mark.parametrize("way", LINES, ids=lambda way: ".".join(map(str, way)))
def test_each_value_has_its_line(way: Way) -> None:
    """Strings of four kinds, comments, dotted and quoted names, inline tables, arrays of tables and what is below."""
    assert toml_lines(DOCUMENT)[way] == LINES[way]


def ways(value: Any, way: Way = ()) -> list[Way]:
    """Every table and value of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(found for name, item in inner for found in ways(item, (*way, name)))]


def test_no_value_is_without_a_line() -> None:
    """Neither here, nor with the line ends of Windows."""
    for text in (DOCUMENT, DOCUMENT.replace("\n", "\r\n")):
        assert {way for way in ways(tomllib.loads(text)) if way} == toml_lines(text).keys()


_NAMES = st.text(max_size=6)
_VALUES = st.recursive(
    st.text(max_size=8) | st.integers(-9, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


def written(value: Any) -> str:
    """TOML on one line; every text spelt out."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(name)} = {written(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" if not char.isalnum() else char for char in value) + '"'
    return str(value).lower()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=4))
def test_whatever_is_written(document: dict[str, dict[str, Any]]) -> None:
    """Any names and values: the header of each table and each pair of it stand on the line where they were put."""
    lines: list[str] = []
    expected: dict[Way, int] = {}
    for table, members in document.items():
        lines.append(f"[{written(table)}]")
        expected[table,] = len(lines)
        for name, value in members.items():
            lines.append(f"{written(name)} = {written(value)}")
            expected[table, name] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    found = toml_lines(text)
    assert {way: line for way, line in found.items() if len(way) <= 2} == expected
    assert found.keys() == {way for way in ways(document) if way}
