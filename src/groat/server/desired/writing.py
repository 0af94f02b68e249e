"""Forms as the text of a TOML file: what `read_wanted` reads, laid out so that a change of one thing is one line."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from groat.server.desired.forms import Form
from groat.server.desired.wanted import API, CLIENT, KINDS, TRUST

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH: Final = 100
_TABLES: Final = {kind: table for table, kind in KINDS.items()}
_ORDER: Final = (API, TRUST, CLIENT)  # what is referred to stands before who refers to it


def written_toml(forms: Mapping[tuple[str, str], Form], kinds: Iterable[str] = _ORDER) -> str:
    """The objects of these kinds, each a table of its own."""
    blocks = [
        _table((_TABLES[kind], name), form)
        for kind in kinds
        for (of, name), form in sorted(forms.items())
        if of == kind
    ]
    return "\n".join(blocks)


def _table(way: tuple[str, ...], form: Form) -> str:
    header = ".".join(map(_name, way))
    # Tables in a list are tables of their own; everything else is a value.
    below = {name: value for name, value in form.items() if name == "rules"}
    lines = [f"[{header}]", *(f"{_name(name)} = {_value(item)}" for name, item in form.items() if name not in below)]
    for name, tables in below.items():
        for table in tables:
            lines += ["", f"[[{header}.{name}]]", *(f"{_name(key)} = {_value(item)}" for key, item in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """One value on one line; a list that is long or holds tables, an item on each."""
    if isinstance(value, list):
        items = [_inline(item) for item in value]
        if any(isinstance(item, dict) for item in value) or sum(map(len, items)) > _WIDTH:
            return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_name(name)} = {_inline(item)}" for name, item in value.items()) + "}"
    return "[" + ", ".join(map(_inline, value)) + "]"


def _name(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """What JSON writes is TOML, but for one character that TOML wants spelt out."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
