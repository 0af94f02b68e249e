"""Names with values, as an operator gives them to a client: claims and labels."""

import re
from collections.abc import Mapping
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.claim_names import REGISTERED_CLAIMS
from groat.protocol.errors import ConfigError
from groat.protocol.grammar import CLIENT_ID
from groat.protocol.read_only import ReadOnlyDict

MAX_CLAIM_BYTES: Final = 1024  # all of a client's, as JSON
MAX_LABELS: Final = 32
MAX_LABEL_CHARS: Final = 128
LABEL_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")


class Amendment(ReadOnlyDict):
    """Names that get another value, while all others stay; one with an empty value goes."""

    __slots__ = ()

    def applied(self, before: Mapping[str, str]) -> dict[str, str]:
        """What becomes of these. Not checked: what they may be together."""
        return {name: value for name, value in {**before, **self}.items() if value}


def read_claims(value: Any) -> Mapping[str, str]:
    """Claims of a client's tokens (RFC 7519 4.3). Raises ConfigError, TypeError.

    Not checked: whether a name is registered elsewhere. A list of such names grows, and what was accepted once must
    stay readable; it is checked when a claim is set.
    """
    pairs = _pairs(value)
    for name, text in pairs.items():
        _check(
            CLIENT_ID.fullmatch(name),
            f"claim {name!r}: its name must be 1 to 128 printable ASCII characters without space, quote or backslash",
        )
        _check(name not in REGISTERED_CLAIMS, f"claim {name} is written by groat itself")
        _check(not text or text.isprintable(), f"claim {name}: its value must be printable")
    size = len(strict_json.dumps(dict(pairs)))
    _check(size <= MAX_CLAIM_BYTES, f"claims must be at most {MAX_CLAIM_BYTES} bytes of JSON together, not {size}")
    return pairs


def read_labels(value: Any) -> Mapping[str, str]:
    """Labels of a client, for whoever looks for it. Raises ConfigError, TypeError."""
    pairs = _pairs(value)
    for name, text in pairs.items():
        _check(
            LABEL_NAME.fullmatch(name),
            f"label {name!r}: its name must be 1 to 63 of A-Z a-z 0-9 . _ / - with a letter or digit at both ends",
        )
        _check(
            not text or (text.isprintable() and len(text) <= MAX_LABEL_CHARS),
            f"label {name}: its value must be 1 to {MAX_LABEL_CHARS} printable characters",
        )
    _check(len(pairs) <= MAX_LABELS, f"a client has at most {MAX_LABELS} labels, not {len(pairs)}")
    return pairs


def _pairs(value: Any) -> ReadOnlyDict:
    """An amendment stays one; in anything else no value is empty."""
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise TypeError
    # Clients that publish keys are found by this word in their documents, and of what is found so much is looked at.
    _check("jwks_uri" not in value, "jwks_uri is a setting of its own, and no name for a claim or label")
    if isinstance(value, Amendment):
        return value
    _check(all(value.values()), "a claim or label without a value")
    return ReadOnlyDict(value)


def _check(condition: object, message: str) -> None:
    if not condition:
        raise ConfigError(message)
