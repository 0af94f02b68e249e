"""What can wait, a little of it in each turn of the event loop, so that whoever proves himself passes by."""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

EACH_TURN: Final = 2
MAX_WAITING: Final = 512

_Future = asyncio.Future[None]


@dataclass(slots=True)
class Pacing:
    """Queues of one event loop: `each_turn` of those who wait go on in each of its turns, those of other names first.

    Of a burst of failures, which come in together, the loop would else do one whole phase after the other while a good
    request waits behind them all. One more than `max_waiting` is not held up: a queue is no place to hide work in.
    """

    each_turn: int = EACH_TURN
    max_waiting: int = MAX_WAITING
    waiting: int = field(default=0, init=False)
    _by_name: "OrderedDict[str, deque[_Future]]" = field(default_factory=OrderedDict, repr=False)

    async def next(self, name: str) -> None:
        """Go on when it is this name's turn; at the earliest in the next turn of the loop."""
        if self.waiting >= self.max_waiting:
            return
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_soon(self._release, loop)
        self.waiting += 1
        mine = loop.create_future()
        self._by_name.setdefault(name, deque()).append(mine)
        await mine

    def holds(self, name: str) -> bool:
        """Whether somebody of this name waits: whoever comes in it now is likely to be more of the same."""
        return name in self._by_name

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self.each_turn
        while self.waiting and left:
            mine = self._pop()
            if not mine.done():  # whoever went away meanwhile takes no turn
                mine.set_result(None)
                left -= 1
        if self.waiting:
            loop.call_soon(self._release, loop)

    def _pop(self) -> _Future:
        """Of the name that has waited longest since its last turn."""
        name, queue = self._by_name.popitem(last=False)
        mine = queue.popleft()
        self.waiting -= 1
        if queue:
            self._by_name[name] = queue
        return mine
