"""The connections of one process, and the breaker in front of them.

While the database is away everybody is refused at once, and one task tries to get it back, at random intervals so
that many replicas do not come back in the same moment. Each change of state is told once.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from groat.server.store import StoreUnavailable
from groat.server.store.postgres_link import Link, LinkLost

MAX_LINKS: Final = 4
TAKE_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 1.0
FIRST_DELAY_SECONDS: Final = 0.05

Notify = Callable[[str, dict[str, Any]], None]


class Links:
    """At most MAX_LINKS connections for everything but the hot path. `notify`: event name and facts."""

    def __init__(self, connect: Callable[[], Awaitable[Link]], notify: Notify) -> None:
        self._connect = connect
        self._notify = notify
        self._idle: deque[Link] = deque()
        self._count = 0
        self._returned: deque[asyncio.Future[None]] = deque()
        self._down_since: float | None = None
        self._why = ""
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False
        self.on_up: list[Callable[[], None]] = []

    @property
    def up(self) -> bool:
        return self._down_since is None

    def refusal(self) -> StoreUnavailable:
        """What to tell whoever comes while the database is away."""
        return StoreUnavailable(self._why or "the database is away")

    @contextlib.asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        """A connection for a while. Raises StoreUnavailable: the database is away, or every connection is in use."""
        link = await self._take()
        try:
            yield link
        except BaseException as error:
            if link.lost is not None and not isinstance(error, asyncio.CancelledError):
                self.trip(str(error))
            raise
        finally:
            self._give(link)

    async def open(self) -> Link:
        """A connection for keeps, not counted here; a failure trips the breaker."""
        try:
            return await self._connect()
        except StoreUnavailable as error:
            self.trip(str(error))
            raise

    async def _take(self) -> Link:
        if not self.up or self._closed:
            raise self.refusal()
        deadline = time.monotonic() + TAKE_SECONDS
        while True:
            while self._idle:
                link = self._idle.pop()
                if link.lost is None:
                    return link
                self._count -= 1
            if self._count < MAX_LINKS:
                return await self._add()
            await self._wait_for_return(deadline)

    async def _add(self) -> Link:
        self._count += 1
        try:
            return await self.open()
        except BaseException:
            self._count -= 1
            self._wake_one()
            raise

    async def _wait_for_return(self, deadline: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._returned.append(future)
        try:
            await asyncio.wait_for(future, max(deadline - time.monotonic(), 0))
        except TimeoutError:
            raise StoreUnavailable("every connection to the database is in use") from None

    def _give(self, link: Link) -> None:
        if link.lost is None and not self._closed:
            self._idle.append(link)
        else:
            link.close()
            self._count -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._returned:
            future = self._returned.popleft()
            if not future.done():
                future.set_result(None)
                return

    def trip(self, why: str) -> None:
        """The database went away: refuse at once, and try to get it back."""
        if not self.up or self._closed:
            return
        self._down_since, self._why = time.monotonic(), why
        while self._idle:
            self._idle.pop().close()
            self._count -= 1
        self._notify("store.down", {"reason": why})
        self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            # Full jitter: the replicas lost their connections in one moment and must not return in one.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - no secret
            try:
                link = await self._connect()
            except StoreUnavailable as error:
                self._why = str(error)
                delay = min(delay * 2, MAX_DELAY_SECONDS)
                continue
            self._count += 1
            self._give(link)
            self._recovered()
            return

    def _recovered(self) -> None:
        assert self._down_since is not None
        seconds = round(time.monotonic() - self._down_since, 2)
        self._down_since, self._why = None, ""
        self._notify("store.up", {"seconds": seconds})
        for wake in self.on_up:
            wake()

    async def close(self) -> None:
        """Close what is idle, and what comes back later."""
        self._closed, self._why = True, "the store is closed"
        if self._recovery is not None:
            self._recovery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovery
        while self._idle:
            self._idle.pop().close()


__all__ = ["LinkLost", "Links", "Notify"]
