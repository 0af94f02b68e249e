"""Turns for calls to strangers' servers, so that a silent one costs its own callers and nobody else."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

AT_ONCE: Final = 64
PER_HOST: Final = 2
TROUBLED: Final = 8
Result = TypeVar("Result")


@dataclass(slots=True)
class HostTurns:
    """So many calls at once, few of them to one host, and few of them to hosts that failed the last time.

    Whoever waits for his own host, or among the troubled, holds no turn of the others.
    """

    at_once: int = AT_ONCE
    per_host: int = PER_HOST
    _all: asyncio.Semaphore = field(init=False)
    _troubled: asyncio.Semaphore = field(init=False)
    _hosts: dict[str, tuple[asyncio.Semaphore, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._all, self._troubled = asyncio.Semaphore(self.at_once), asyncio.Semaphore(TROUBLED)

    @contextlib.asynccontextmanager
    async def turn(self, host: str, *, troubled: bool) -> AsyncIterator[None]:
        """Wait until this host may be called, and let others wait meanwhile."""
        async with self._of(host), self._troubled if troubled else contextlib.nullcontext(), self._all:
            yield

    @contextlib.asynccontextmanager
    async def _of(self, host: str) -> AsyncIterator[None]:
        turns, users = self._hosts.get(host) or (asyncio.Semaphore(self.per_host), 0)
        self._hosts[host] = turns, users + 1
        try:
            async with turns:
                yield
        finally:
            _, users = self._hosts.pop(host)
            if users > 1:
                self._hosts[host] = turns, users - 1


async def in_a_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work in a daemon thread of its own: one that hangs is in nobody's way, nor in that of the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return  # nobody waits any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except Exception as error:
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=run, name="groat-client-keys", daemon=True).start()
    return await future
