"""Where a claim stands in a token: its name, or a dotted way into objects, names with dots in quotes.

`sub`, `kubernetes.io` in quotes and then `.namespace`: no index, no wildcard, no expression.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from groat.protocol.errors import ConfigError

MAX_DEPTH: Final = 5
MAX_NAME_CHARS: Final = 128
_PLAIN: Final = r"[A-Za-z0-9_/-]+"
_SEGMENT: Final = rf'(?:"[^"\\]+"|{_PLAIN})'
PATH: Final = rf"{_SEGMENT}(?:\.{_SEGMENT})*"
_PATH: Final = re.compile(PATH)
_SEGMENTS: Final = re.compile(_SEGMENT)

ClaimPath = tuple[str, ...]


def parse_path(text: str) -> ClaimPath:
    """The names on the way to a claim. Raises ConfigError."""
    if not _PATH.fullmatch(text):
        raise ConfigError(
            f"{text!r} is no claim: a name, or names with dots between; a name that holds other characters than "
            'letters, digits, _, / and - stands in quotes, as in "kubernetes.io".namespace'
        )
    path = tuple(segment.strip('"') for segment in _SEGMENTS.findall(text))
    if len(path) > MAX_DEPTH or any(len(name) > MAX_NAME_CHARS or not name.isprintable() for name in path):
        raise ConfigError(f"a claim has {MAX_DEPTH} names at most, each of {MAX_NAME_CHARS} printable characters")
    return path


@lru_cache(maxsize=1024)
def written(path: ClaimPath) -> str:
    """The path as `parse_path` reads it."""
    return ".".join(name if re.fullmatch(_PLAIN, name) else f'"{name}"' for name in path)


def claim_at(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """What stands there; None where nothing does, or where the way leads through something that is no object."""
    value: Any = claims
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
