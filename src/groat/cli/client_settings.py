"""The settings of a client as options: every one that `protocol.client_settings` describes for people."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from groat.cli.instants import span_of_time
from groat.cli.options import parse_pairs
from groat.keys import files
from groat.protocol.client_settings import CLIENT_SETTINGS, DEFAULTS, Described, Kind, SettingsChange
from groat.protocol.pairs import Amendment

Function = TypeVar("Function", bound=Callable[..., Any])
_OFFERED: Final = {name: told for name, told in CLIENT_SETTINGS.items() if told.about}


def option_name(name: str) -> str:
    """What the option of a setting is called; one that may be given again and again is in the singular."""
    many = _OFFERED[name].kind in (Kind.WORDS, Kind.PAIRS, Kind.CERTIFICATES)
    return (name.removesuffix("s") if many else name).replace("_", "-")


# What `--clear` may take back, as an operator calls it: where no new value says "none".
CLEARED: Final = {
    option_name(name): name
    for name, told in _OFFERED.items()
    if getattr(DEFAULTS, name) in (None, (), {}) and told.kind not in (Kind.URL, Kind.TEXT)
}


def settings_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all settings; it gets what was said as one value, `change`. Raises ConfigError."""

    @functools.wraps(function)
    def collected(*arguments: Any, **options: Any) -> None:
        said = {name: options.pop(name) for name in _OFFERED}
        given = {name: _meant(name, value) for name, value in said.items() if value not in (None, ())}
        change = SettingsChange.of(given)
        function(*arguments, change=change, **options)

    # In reverse, because the decorator that is applied last stands first in the help.
    for name, told in reversed(_OFFERED.items()):
        collected = _option(name, told)(collected)
    return collected


def _meant(name: str, value: Any) -> Any:
    """Names that are not said stay as they are, whatever becomes of others meanwhile."""
    match _OFFERED[name].kind:
        case Kind.PAIRS:
            return Amendment(parse_pairs(option_name(name), value))
        case Kind.CERTIFICATES:
            return tuple(one for file in value for one in files.read_certificates(file))
    return value


def _option(name: str, told: Described) -> Callable[[Function], Function]:
    flag = f"--{option_name(name)}"
    if told.kind is Kind.SWITCH:
        return click.option(f"{flag}/--{told.off}", name, default=None, help=told.about)
    ways: Mapping[Kind, dict[str, Any]] = {
        Kind.WORDS: {"multiple": True},
        Kind.CHOICE: {"type": click.Choice([str(choice) for choice in told.choices])},
        Kind.SPAN: {"type": span_of_time, "metavar": "SPAN"},
        Kind.URL: {"metavar": "URL"},
        Kind.TEXT: {"metavar": "TEXT"},
        Kind.PAIRS: {"multiple": True, "metavar": "NAME=VALUE"},
        Kind.CERTIFICATES: {"multiple": True, "type": click.Path(path_type=Path), "metavar": "FILE"},
    }
    return click.option(flag, name, help=told.about, **ways[told.kind])


def with_cleared(change: SettingsChange, names: Sequence[str]) -> SettingsChange:
    """The change that takes these settings back as well. Raises UsageError where one is set and cleared at once."""
    cleared = {CLEARED[name]: getattr(DEFAULTS, CLEARED[name]) for name in names}
    if both := sorted(cleared.keys() & change.given.keys()):
        raise click.UsageError(f"--clear and a new value for {', '.join(both)}: say one of them")
    return replace(change, **cleared)
