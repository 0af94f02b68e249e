"""Reads that come together ask together: one query for all that is wanted while the one before is under way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


class Gathered(Generic[Key, Found]):
    """`fetch` answers many keys at once. Whoever asks is answered by a fetch that began after he asked."""

    def __init__(self, fetch: Callable[[Sequence[Key]], Awaitable[dict[Key, Found]]]) -> None:
        self._fetch = fetch
        self._wanted: dict[Key, asyncio.Future[Found | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: Key) -> Found | None:
        """The value of this key, None if there is none. Raises what `fetch` raises."""
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer())
        # Shielded: who gives up must not take the answer away from others.
        return await asyncio.shield(future)

    async def _answer(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                found = await self._fetch(list(wanted))
            except BaseException as error:
                self._refuse(wanted, error)
                if isinstance(error, asyncio.CancelledError):
                    break
            else:
                for key, future in wanted.items():
                    if not future.done():
                        future.set_result(found.get(key))
        self._task = None

    def _refuse(self, wanted: dict[Key, "asyncio.Future[Found | None]"], error: BaseException) -> None:
        for future in wanted.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen, even if every caller is gone
