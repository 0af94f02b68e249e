"""Which clients publish their keys, as far as this process knows; sees to it that their key sets are at hand.

And, in the same rounds, those of trusted issuers.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from groat.outbound.published import DEADLINE
from groat.server.registry.key_sets import MAX_SETS, ClientKeySets
from groat.server.registry.registry import Registry
from groat.server.store import Store, StoreUnavailable

LOOK_SECONDS: Final = 2.0  # between two looks at the store
GLANCE_SECONDS: Final = 0.1  # between two looks at what the requests have learnt of it


async def _nobody() -> None:
    """No keys of anybody else are to be looked after."""


@dataclass(slots=True)
class Publishers:
    """Follows the registry and fetches what is new in it, before anybody asks.

    `others`: is called in each round of `run`, once the version of the registry was read.
    """

    store: Store
    registry: Registry
    key_sets: ClientKeySets
    others: Callable[[], Awaitable[None]] = _nobody
    _listed: int = field(default=-1, init=False)
    _any: bool = field(default=False, init=False)

    @property
    def conceivable(self) -> bool:
        """Whether any client may have a key that is not at hand: one publishes keys, or the registry is being read."""
        return self._any or self._listed != self.registry.version

    async def warm(self) -> None:
        """Fetch the sets of all, before the first request; not longer than one of them may take."""
        await self._look(MAX_SETS)
        await self.key_sets.settle(DEADLINE)

    async def run(self) -> None:
        """Keep them at hand from then on."""
        while True:
            await self._look()
            await self.others()
            for _ in range(round(LOOK_SECONDS / GLANCE_SECONDS)):
                await asyncio.sleep(GLANCE_SECONDS)
                if self._listed != self.registry.version:
                    break

    async def _look(self, most: int | None = None) -> None:
        with contextlib.suppress(StoreUnavailable):  # what was read before stands
            version = await self.registry.refresh()
            if version != self._listed:
                uris = await self.store.published_at(MAX_SETS)
                self.key_sets.keep(uris)
                self._listed, self._any = version, bool(uris)
        self.key_sets.tend(*() if most is None else (most,))
