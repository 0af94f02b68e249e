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
from typing import Final

from groat.server.store import Notify, StoreUnavailable
from groat.server.store.postgres.link import CONNECT_SECONDS, Link, LinkLost

MAX_LINKS: Final = 3
TAKE_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 1.0
FIRST_DELAY_SECONDS: Final = 0.05


class Links:
    """At most MAX_LINKS connections for everything but the hot path.

    `connect`: makes one, prepared for batches or not. `notify`: event name and facts.
    """

    def __init__(self, connect: Callable[[bool], Awaitable[Link]], notify: Notify) -> None:
        self._connect = connect
        self._notify = notify
        self._idle: deque[Link] = deque()
        self._count = 0
        self._returned: deque[asyncio.Future[None]] = deque()
        self._down_since: float | None = None
        self._why = ""
        self._kind: type[StoreUnavailable] = StoreUnavailable
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False
        self._met = False
        self._growing: set[asyncio.Task[None]] = set()
        self.on_up: list[Callable[[], None]] = []

    @property
    def up(self) -> bool:
        return self._down_since is None

    def refusal(self) -> StoreUnavailable:
        """What to tell whoever comes while the database is away."""
        return self._kind(self._why or "the database is away")

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

    async def open(self, *, for_batches: bool = True) -> Link:
        """A connection for keeps, not counted here; a failure trips the breaker."""
        try:
            return await self._attempt(for_batches)
        except StoreUnavailable as error:
            self.trip(str(error))
            raise

    async def _attempt(self, for_batches: bool) -> Link:
        """Whatever goes wrong, the recovery must live on to try again."""
        try:
            return await self._connect(for_batches)
        except StoreUnavailable:
            raise
        except Exception as error:
            raise StoreUnavailable(f"PostgreSQL: unexpected {type(error).__name__}") from error

    async def _take(self) -> Link:
        # Only the first connection is waited for as long as it may take: later on somebody is waiting for an answer.
        deadline = time.monotonic() + (TAKE_SECONDS if self._met else CONNECT_SECONDS + 1)
        while True:
            if not self.up or self._closed:
                raise self.refusal()
            while self._idle:
                link = self._idle.pop()
                if link.lost is None:
                    return link
                self._count -= 1
            if self._count < MAX_LINKS:
                self._grow()
            await self._wait_for_return(deadline)

    def _grow(self) -> None:
        """One more connection, in the background: whoever waits may get another one sooner."""
        self._count += 1
        task = asyncio.get_running_loop().create_task(self._add())
        self._growing.add(task)
        task.add_done_callback(self._growing.discard)

    async def _add(self) -> None:
        try:
            link = await self.open(for_batches=False)
        except BaseException:
            self._count -= 1
            self._wake(len(self._returned))
            if not self.up or self._closed:
                return
            raise
        self._give(link)

    async def _wait_for_return(self, deadline: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._returned.append(future)
        try:
            await asyncio.wait_for(future, max(deadline - time.monotonic(), 0))
        except TimeoutError:
            raise StoreUnavailable("every connection to the database is in use") from None

    def _give(self, link: Link) -> None:
        self._met = True
        # While the breaker is open nothing is kept: an idle connection may hold the place that the recovery needs.
        if link.lost is None and self.up and not self._closed:
            self._idle.append(link)
        else:
            link.close()
            self._count -= 1
        self._wake(1)

    def _wake(self, count: int) -> None:
        while self._returned and count:
            future = self._returned.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    def trip(self, why: str) -> None:
        """The database went away: refuse at once, and try to get it back."""
        if not self.up or self._closed:
            return
        self._down_since, self._why = time.monotonic(), why
        while self._idle:
            self._idle.pop().close()
            self._count -= 1
        self._wake(len(self._returned))
        self._notify("store.down", {"reason": why})
        self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            # Full jitter: the replicas lost their connections in one moment and must not return in one.
            await asyncio.sleep(random.SystemRandom().uniform(0, delay))
            try:
                link = await self._attempt(True)  # the database is back when it takes batches
            except StoreUnavailable as error:
                self._tell_why(error)
                delay = min(delay * 2, MAX_DELAY_SECONDS)
                continue
            self._count += 1
            self._recovered()
            self._give(link)
            return

    def _tell_why(self, error: StoreUnavailable) -> None:
        """A database that answers and cannot be worked with is another trouble than the one that began with silence."""
        kind = StoreUnavailable if isinstance(error, LinkLost) else type(error)
        before, self._kind, self._why = self._kind, kind, str(error)
        if kind not in (StoreUnavailable, before):
            self._notify("store.down", {"reason": self._why})

    def _recovered(self) -> None:
        assert self._down_since is not None
        seconds = round(time.monotonic() - self._down_since, 2)
        self._down_since, self._why, self._kind = None, "", StoreUnavailable
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
        for task in list(self._growing):
            task.cancel()
        await asyncio.gather(*self._growing, return_exceptions=True)
        self._wake(len(self._returned))
        while self._idle:
            self._idle.pop().close()
