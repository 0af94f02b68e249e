"""Instants on the command line: a date with its offset, or a time from now; and the way back, for people."""

import re
import time
from typing import Final

import click

from groat.keys.client_keys import span
from groat.server.settings.readers import date_and_time, duration

_AHEAD: Final = re.compile(r"\d{1,9}[smhd]")


def instant(text: str, now: float) -> int:
    """Epoch seconds of an RFC 3339 date and time, or of a duration from `now`. Raises ValueError."""
    if _AHEAD.fullmatch(text):
        return int(now) + duration(text)
    try:
        return date_and_time(text)
    except ValueError as error:
        raise ValueError(f'{error}, or a time from now such as "90d"') from None


def when(text: str) -> int:
    """The type of options that take an instant, for click."""
    try:
        return instant(text, time.time())
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is not an instant: {error}") from None


def span_of_time(text: str) -> int:
    """The type of options that take a span, for click: seconds, or with a unit."""
    try:
        return duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {error}") from None


def from_now(at: int | None, now: float, never: str = "-") -> str:
    """How long ago it was, or how long it takes till then."""
    if at is None:
        return never
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"
