"""Two names that should have been one: both of them, and what the eye passes over."""

import re
from collections.abc import Callable
from typing import Any, Final

from groat.protocol.grammar import SCHEME

MAX_SHOWN_CHARS: Final = 200
_SCHEME: Final = re.compile(rf"{SCHEME}://")
_PORT: Final = re.compile(r"(//(?:\[[^]]*\]|[^/:\[]*)):\d+")
_LOOPBACK: Final = re.compile(r"//(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|$)")
# What to leave out of both names to make them equal. Each alone: two such differences are easily seen.
_OVERLOOKED: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("blanks around it", str.strip),
    ("quotes around it", lambda name: name.strip("\"'")),
    ("trailing slash", lambda name: name.rstrip("/")),
    ("capital letters", str.lower),
    ("scheme", lambda name: _SCHEME.sub("", name, count=1)),
    ("name of the loopback host", lambda name: _LOOPBACK.sub("//loopback", name, count=1)),
    ("port", lambda name: _PORT.sub(r"\1", name, count=1)),
)


def shown(value: Any) -> str:
    """A foreign claim or member for a message: printable ASCII in quotes, at most 200 characters of it."""
    if isinstance(value, str):
        return f'"{ascii(value[:MAX_SHOWN_CHARS])[1:-1]}"'
    return "absent" if value is None else f"no string but {type(value).__name__}"


def difference(found: Any, expected: str) -> str:
    """How the two differ, as a clause to append; empty where anybody can see it."""
    if not isinstance(found, str) or found == expected:
        return ""
    for what, without in _OVERLOOKED:
        if without(found) == without(expected):
            return f"; they differ by the {what} only"
    return ""


def mismatch(name: str, found: Any, expected: str) -> str:
    """One sentence on a published name that is not the expected one."""
    return f"{name} is {shown(found)}, expected is {shown(expected)}{difference(found, expected)}"


def other_than(name: str, found: Any, expected: str) -> str:
    """The same for a claim of a token, which is not repeated (RFC 6750 5.3)."""
    return f"{name} is not {shown(expected)}{difference(found, expected)}"
