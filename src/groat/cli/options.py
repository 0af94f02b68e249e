"""Options that several commands take, and how they are read."""

from collections.abc import Sequence

import click


def parse_allow(values: Sequence[str]) -> dict[str, list[str]]:
    """API=scope,scope as a mapping. Raises click.UsageError."""
    allow: dict[str, list[str]] = {}
    for value in values:
        name, separator, scopes = value.partition("=")
        if not name or not separator:
            raise click.UsageError(f"--allow takes API=scope,scope, not {value!r}")
        allow.setdefault(name, []).extend(scope for scope in scopes.split(",") if scope)
    return allow


def parse_pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE as a mapping; of a name that is there twice the last one counts. Raises click.UsageError."""
    pairs = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not name or not separator:
            raise click.UsageError(f"--{option} takes NAME=VALUE, not {value!r}")
        pairs[name] = text
    return pairs
