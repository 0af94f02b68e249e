"""Verdicts that have to wait: for the issuer's keys, or for what it says of a token."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Union

from groat.protocol.access_token import Caller
from groat.verifier.keys.kept import await_landing, wait_for


@dataclass(frozen=True, slots=True)
class Open:
    """A verdict that somebody else's answer is missing for; `again` judges once `flight` has landed."""

    flight: "Future[None] | None"
    again: "Callable[[], Judged]"


Judged = Union[Caller, Open]  # noqa: UP007 - of a name that is not there yet


def settled(judged: Judged) -> Caller:
    """The caller, after as many waits as it takes: one for keys, one for a status."""
    while not isinstance(judged, Caller):
        wait_for(judged.flight)
        judged = judged.again()
    return judged


async def asettled(judged: Judged) -> Caller:
    """As `settled`, without blocking the event loop."""
    while not isinstance(judged, Caller):
        await await_landing(judged.flight)
        judged = judged.again()
    return judged


async def aside(judge: Callable[[], Judged]) -> Caller:
    """Judge where it may wait: a proof whose memory is on a disk or behind a network must not hold an event loop up.

    In a thread; for somebody else's answer nobody waits in there, so that who shows unknown keys fills no threads.
    """
    judged = await asyncio.to_thread(judge)
    while not isinstance(judged, Caller):
        await await_landing(judged.flight)
        judged = await asyncio.to_thread(judged.again)
    return judged
