"""What a platform's preset is made of: its defaults, and what it demands of an issuer, a rule and a token."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol.federation.claim_paths import ClaimPath
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import DEFAULT_LIFETIME, Replay

Claims = Mapping[str, Any]
# Absent, or `JWT`: a type that this system knows says that the token is something else (RFC 8725 3.11, 3.12).
PLAIN_TYPES: Final[frozenset[str | None]] = frozenset({None, "application/jwt"})
# A finding is a sentence, and empty where there is none.
NOTHING: Final = ""


def no_fault(*_: Any) -> str:
    """Nothing is wrong."""
    return NOTHING


@dataclass(frozen=True, slots=True)
class Preset:
    """One platform. Each check returns a sentence on what is wrong, empty for nothing.

    `issuer_fault` and `rule_fault` are asked when a trust or a rule is written: (issuer) and (rule, issuer).
    `token_fault`: (claims, issuer), of each token, after its signature and before any rule; `guard`: (rule, claims),
    what a token may not be unless the rule says so. `index`: claims of which a rule usually pins one; by these its
    rules are found. `backdated`: seconds by which the platform sets iat back. `issuer_in_sub`: tokens without iss.
    `key_use`: what `use` of its keys says. `lists`: whether any of its claims about a workload is a list.
    """

    name: str
    algorithms: tuple[str, ...]
    replay: Replay
    index: tuple[ClaimPath, ...]
    rule_fault: Callable[[Rule, str], str]
    issuer_fault: Callable[[str], str] = no_fault
    token_fault: Callable[[Claims, str], str] = no_fault
    guard: Callable[[Rule, Claims], str] = no_fault
    types: frozenset[str | None] = PLAIN_TYPES
    max_lifetime: int = DEFAULT_LIFETIME
    backdated: int = 0
    issuer_in_sub: bool = False
    key_use: str = "sig"
    lists: bool = True


def is_digits(value: Any) -> bool:
    """Whether it is an id as the platforms write them: a string of digits, never a number."""
    return isinstance(value, str) and value.isascii() and value.isdigit()


def values_on(rule: Rule, *path: str) -> tuple[str, ...]:
    """Every value that the rule's exact conditions on this claim name."""
    return tuple(value for one in rule.on(*path) if one.exact for value in one.values)
