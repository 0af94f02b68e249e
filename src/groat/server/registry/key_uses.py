"""When each key of a client was last used: noted in memory on the path of a token, written down off it.

A process that is killed forgets what it noted since the last flush, and a store that is away gets it later: both cost
precision, never a token. Keys that a client publishes itself have no row: what is noted of them is a use of the client.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from groat.server.store import Store, StoreUnavailable

FLUSH_SECONDS: Final = 10.0
CHUNK: Final = 500  # uses in one statement
MAX_NOTED: Final = 100_000  # while the store takes no note; one entry a key
LAST_FLUSH_SECONDS: Final = 2.0

_Noted = dict[tuple[str, str], float]


@dataclass(slots=True)
class KeyUses:
    """What one process noted since its last flush: (client id, thumbprint) to epoch seconds.

    `latest`: the time by which nothing later is written down, as a last use never goes down.
    """

    noted: _Noted = field(default_factory=dict)
    pause: float = FLUSH_SECONDS
    latest: Callable[[], float] = lambda: math.inf

    async def flush(self, store: Store) -> None:
        """Write down what was noted; what the store does not take is kept for the next time."""
        taken, self.noted = self.noted, {}
        latest = self.latest()
        entries = [(key, min(at, latest)) for key, at in taken.items()]
        for start in range(0, len(entries), CHUNK):
            try:
                await store.note_key_uses([(*key, int(at)) for key, at in entries[start : start + CHUNK]])
            except BaseException as error:  # being cancelled is one, too
                self._keep(entries[start:])
                if isinstance(error, StoreUnavailable):
                    return
                raise

    def _keep(self, entries: Iterable[tuple[tuple[str, str], float]]) -> None:
        for key, at in entries:
            if len(self.noted) < MAX_NOTED:
                self.noted.setdefault(key, at)  # what was noted meanwhile is later

    async def flush_forever(self, store: Store) -> None:
        """Write down what was noted every few seconds."""
        while True:
            await asyncio.sleep(self.pause)
            await self.flush(store)

    async def flush_finally(self, store: Store) -> None:
        """The last flush of a process that ends; a store that does not answer is not waited for."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.flush(store), LAST_FLUSH_SECONDS)
