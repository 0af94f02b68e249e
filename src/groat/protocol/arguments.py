"""What programmers hand over by mistake and Python would take: a string for a list of strings, a list for a string.

A string is a sequence of its letters, so without these checks `accept_types="JWT"` would accept J, W and T.
"""

from collections.abc import Iterable
from typing import Any

from groat.protocol.errors import ConfigError


def one_string(name: str, value: Any) -> str:
    """The value, if it is one string. Raises ConfigError."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be one string, not {kind_of(value)}")
    return value


def strings(name: str, values: Any) -> tuple[str, ...]:
    """The values, if they are a list (or set, tuple, ...) of strings. Raises ConfigError."""
    checked = strings_or_none(name, values)
    if None in checked:
        raise ConfigError(f"{name} must hold strings only, not None")
    return tuple(value for value in checked if value is not None)


def strings_or_none(name: str, values: Any) -> tuple[str | None, ...]:
    """The values, if they are a list of strings and None. Raises ConfigError."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} must be a list of strings, not {kind_of(values)}: write {name}=[...]")
    listed = tuple(values)
    wrong = [value for value in listed if value is not None and not isinstance(value, str)]
    if wrong:
        raise ConfigError(f"{name} must hold strings only, not {kind_of(wrong[0])}")
    return listed


def kind_of(value: Any) -> str:
    """What it is, in words; never the value itself, because what stands in the wrong place may be a secret."""
    return "None" if value is None else "one string" if isinstance(value, str) else f"a {type(value).__name__}"
