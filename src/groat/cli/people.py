"""Values as people read them: instants as dates and spans in units, as they may be typed. `--json` has the numbers."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from groat.cli.instants import from_now
from groat.server.settings.readers import length

_INSTANTS: Final = frozenset({"not_before", "floor", "horizon", "unused_since"})  # and whatever ends in _at
_SPANS: Final = frozenset({"valid_seconds", "max_assertion_lifetime", "max_lifetime", "token_lifetime"})
_LATEST: Final = 253_402_300_799  # the end of the year 9999


def date(at: int) -> str:
    """RFC 3339 in UTC, as options take it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if 0 <= at <= _LATEST else str(at)


def cell(name: str, value: Any, now: float | None = None) -> str:
    """What stands under this name in a table; with `now`, an instant says how far away it is, too."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_at") or name in _INSTANTS):
        return "-" if value == 0 else date(value) + (f" ({from_now(value, now)})" if now is not None else "")
    if isinstance(value, int) and name in _SPANS:
        return length(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{visible(key)}: {cell(key, item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(visible(str(item)) for item in value) or "-"
    return visible(str(value))


def visible(text: str) -> str:
    """Text for a terminal: control characters and those that turn the direction of writing are spelt out.

    Much of what is shown comes from servers and tokens.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def lines(document: Mapping[str, Any]) -> list[str]:
    """One record: a name and a value a line."""
    shown = [(name.removesuffix("_seconds"), cell(name, value, time.time())) for name, value in document.items()]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in shown]
