"""The scopes that a route asks for, and those that its API has: what every guard for single routes checks."""

from collections.abc import Collection, Mapping, Sequence

from groat.protocol.access_token import AnyOf, any_of
from groat.protocol.arguments import strings
from groat.protocol.errors import ConfigError

Demand = tuple[str, ...] | AnyOf


def described(scopes: Mapping[str, str] | None) -> dict[str, str]:
    """Every scope of an API with a line about it. Raises ConfigError for anything but a mapping."""
    if not isinstance(scopes, Mapping | None):
        raise ConfigError('scopes must say what each is for: {"orders:read": "Read orders"}')
    return dict(scopes or {})


def demanded(scopes: Sequence[str | AnyOf], known: Collection[str] | None, whose: str = "the guard's scopes") -> Demand:
    """What a route asks for: all of these scopes, or `any_of(...)` as the one of them.

    `known`: the scopes of the API, or None where nobody has said them. Raises ConfigError for a scope that is none of
    them, and for what is no scope.
    """
    choices = [scope for scope in scopes if isinstance(scope, AnyOf)]
    if choices and len(scopes) > 1:
        raise ConfigError("give either scopes or one any_of(...)")
    # Anything but a string must stop here: what is left out of a list of demands lets people in.
    named = () if choices else strings("the scopes of a guard", scopes)
    wanted = choices[0].scopes if choices else named
    unknown = [scope for scope in wanted if known is not None and scope not in known]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is none of {whose}: {', '.join(known or ()) or '(none)'}")
    return any_of(*wanted) if choices else wanted


__all__ = ["Demand", "demanded", "described"]
