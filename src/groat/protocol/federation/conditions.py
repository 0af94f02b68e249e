"""What a rule demands of one claim, as data: equal, one of several, beginning with a text that ends in a delimiter, or,
of a list, holding a text.

There is no expression language, and nothing that matches by accident: a string matches strings only, a claim that is
missing matches nothing, and a beginning cannot end in the middle of a name. To hold a text is a list's; of a text
nothing looks for a part.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError
from groat.protocol.federation.claim_paths import PATH, ClaimPath, claim_at, parse_path, written

MAX_VALUES: Final = 50
MAX_VALUE_CHARS: Final = 512
# What ends a name in the subjects of the platforms; a dot, hyphen or underline is part of many names.
DELIMITERS: Final = "/:@|"
# Beginnings that every subject of a platform has: they say nothing about whose it is.
_EVERYBODYS: Final = (
    "repo:", "project_path:", "system:serviceaccount:", "spiffe://", "https://", "http://", "urn:", "arn:aws:iam::",
    "arn:aws:sts::",
)  # fmt: skip
# Claims that are one text in every token (RFC 7519 4.1; RFC 8693 4.3; OpenID Connect Core 2).
_TEXTS: Final = frozenset({("iss",), ("sub",), ("jti",), ("client_id",), ("azp",)})
_WRITTEN: Final = re.compile(rf"({PATH})(\^=|:=|\*=|=)(.*)", re.DOTALL)


class Comparison(StrEnum):
    """How a condition is written between the claim and its value."""

    EQUALS = "="
    STARTS = "^="
    ONE_OF = ":="
    CONTAINS = "*="


@dataclass(frozen=True, slots=True)
class Condition:
    """One demand. Raises ConfigError for one that cannot be meant."""

    claim: ClaimPath
    comparison: Comparison
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise ConfigError(f"--match {self}: {fault}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """As it is written on a command line: CLAIM=VALUE, CLAIM^=PREFIX, CLAIM:=V1,V2, CLAIM*=VALUE.

        Raises ConfigError.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"{text!r} is no condition; write CLAIM=VALUE, CLAIM^=PREFIX, CLAIM:=V1,V2 or CLAIM*=VALUE"
            )
        comparison = Comparison(found[2])
        values = tuple(found[3].split(",")) if comparison is Comparison.ONE_OF else (found[3],)
        return cls(parse_path(found[1]), comparison, values)

    def __str__(self) -> str:
        return f"{written(self.claim)}{self.comparison}{','.join(self.values)}"

    @property
    def exact(self) -> bool:
        """Whether it names what it means, rather than how that begins, or whom it stands in a list with."""
        return self.comparison in (Comparison.EQUALS, Comparison.ONE_OF)

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Whether this token fulfils it."""
        value = claim_at(claims, self.claim)
        if self.comparison is Comparison.CONTAINS:
            return isinstance(value, list) and self.values[0] in value
        if not isinstance(value, str):
            return False
        return value in self.values if self.exact else value.startswith(self.values[0])

    def explain(self, claims: Mapping[str, Any]) -> str:
        """What the token says instead, for the log: the claim, what it is, what it must be."""
        demand = {
            Comparison.EQUALS: "must be",
            Comparison.STARTS: "must begin with",
            Comparison.ONE_OF: "must be one of",
            Comparison.CONTAINS: "must be a list that holds",
        }
        wanted = ", ".join(shown(value) for value in self.values[:5])
        found = shown(claim_at(claims, self.claim))
        return f"{written(self.claim)} is {found} and {demand[self.comparison]} {wanted}"

    def _fault(self) -> str:
        if len(self.values) > MAX_VALUES:
            return f"{MAX_VALUES} values at most"
        for value in self.values:
            if not 0 < len(value) <= MAX_VALUE_CHARS or not value.isprintable():
                return f"a value has 1 to {MAX_VALUE_CHARS} printable characters"
            if "*" in value:
                return "there are no wildcards; write CLAIM^=PREFIX with a PREFIX that ends in a delimiter"
        if self.comparison is Comparison.CONTAINS and self.claim in _TEXTS:
            return "that claim is one text and never a list; write CLAIM=VALUE"
        return _prefix_fault(self.values[0]) if self.comparison is Comparison.STARTS else ""


def _prefix_fault(value: str) -> str:
    if value[-1] not in DELIMITERS:
        return f"a prefix ends in one of {' '.join(DELIMITERS)}: without it {value}-of-somebody-else would match, too"
    if any(general.startswith(value) for general in _EVERYBODYS):
        return "every subject of that platform begins so; name whose it is"
    return ""
