"""What a scope parameter says (RFC 6749 3.3)."""

from functools import lru_cache
from typing import Final

from groat.protocol.errors import InvalidScope
from groat.protocol.grammar import SCOPE

MAX_SCOPE_CHARS: Final = 4096


def parse_scope(scope: str) -> tuple[str, ...]:
    """Read a scope value by the grammar; repeats collapse, order stays. Raises InvalidScope."""
    # Memory for strangers' values is kept small: only what a real client would repeat is remembered.
    return _parse_short_scope(scope) if len(scope) < 256 else _parse_any_scope(scope)


def _parse_any_scope(scope: str) -> tuple[str, ...]:
    if len(scope) > MAX_SCOPE_CHARS:
        raise InvalidScope("scope", f"scope is longer than {MAX_SCOPE_CHARS} characters")
    if SCOPE.fullmatch(scope) is None:
        raise InvalidScope("scope", "scope is not a list of tokens with single spaces between them")
    return tuple(dict.fromkeys(scope.split(" ")))


_parse_short_scope = lru_cache(maxsize=512)(_parse_any_scope)
