"""Judging where it may wait: a proof whose memory is on a disk or behind a network must not hold an event loop up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from groat.protocol.access_token import Caller
from groat.verifier.keys.source import await_landing


class Unjudged(Protocol):
    """What its keys have to be fetched for."""

    @property
    def flight(self) -> "Future[None] | None": ...


Open = TypeVar("Open", bound=Unjudged)


async def aside(judge: Callable[[], Caller | Open], again: Callable[[Open], Caller]) -> Caller:
    """Both in a thread; for keys nobody waits in there, so that who shows unknown ones fills no threads."""
    judged = await asyncio.to_thread(judge)
    if isinstance(judged, Caller):
        return judged
    await await_landing(judged.flight)
    return await asyncio.to_thread(again, judged)


__all__ = ["aside"]
