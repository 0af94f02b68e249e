"""What goes on beside the requests, for as long as a process lives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from groat.server.endpoints.exposition import Metrics
from groat.server.log.audit import Audit
from groat.server.registry.key_uses import KeyUses
from groat.server.store import Store

Chore = Callable[[], Coroutine[Any, Any, None]]
METRICS_INTERVAL_SECONDS = 1.0
CHORE_PAUSE_SECONDS = 1.0


@contextlib.asynccontextmanager
async def lifespan(
    store: Store, warm: Sequence[Chore], uses: KeyUses, chores: Sequence[Chore], audit: Audit
) -> AsyncIterator[None]:
    """What goes on beside the requests, from the first to the last; first of all what warms up."""
    for step in warm:
        await step()
    tasks = [asyncio.create_task(_keep_doing(chore, audit)) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await uses.flush_finally(store)
        await store.close()


async def _keep_doing(chore: Chore, audit: Audit) -> None:
    """A bug in one turn of a chore must not end it silently: the log has the traceback, and it begins anew."""
    while True:
        try:
            await chore()
        except Exception:
            audit.broken({})
        await asyncio.sleep(CHORE_PAUSE_SECONDS)


async def count_forever(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(METRICS_INTERVAL_SECONDS)
        metrics.absorb()
