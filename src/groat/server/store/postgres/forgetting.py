"""Forgetting on PostgreSQL: a value goes only if every batch that could meet its absence knows the horizon above it.

A batch judges by its snapshot, which may be a moment older than a new horizon. PostgreSQL ends a batch after 0.4 s and
its sender gives it up after 0.6 s, so that a horizon which has been in force for some seconds is known to all.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from groat.server.store import PURGE_CHUNK
from groat.server.store.postgres.link import Link
from groat.server.store.registry_sql import FORGET_LISTS, FORGET_REVOKED

IN_FORCE_SECONDS: Final = 5.0
FORGET_SECONDS: Final = 5
# The lesser of two: a database that went back in time has an earlier horizon than this process knows.
_FORGET: Final = f"""
WITH gone AS ({FORGET_REVOKED.postgres}), lists AS ({FORGET_LISTS.postgres})
DELETE FROM used_once WHERE digest IN (
    SELECT digest FROM used_once
    WHERE expires_at <= (SELECT least(horizon, $1) FROM registry WHERE closed_at IS NULL)
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""


@dataclass(slots=True)
class Forgetting:
    """What this process has seen of the horizon. `monotonic` is an argument so that tests turn it."""

    monotonic: Callable[[], float] = time.monotonic
    _in_force: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)
    _since: float = field(default=float("-inf"), init=False)

    async def forget(self, link: Link) -> int:
        """Drop a chunk within the transaction that goes on. Raises Refused, LinkLost."""
        # Off the path of any request, and from a disk that may be cold: it may take longer than others.
        await link.query(f"SET LOCAL statement_timeout = '{FORGET_SECONDS}s'")
        rows = await link.query("SELECT horizon FROM registry")
        self._see(rows[0]["horizon"] if rows else 0)
        return len(await link.query(_FORGET, self._in_force, PURGE_CHUNK, seconds=FORGET_SECONDS + 1))

    def _see(self, horizon: int) -> None:
        now = self.monotonic()
        if now - self._since >= IN_FORCE_SECONDS:
            self._in_force, self._seen, self._since = self._seen, horizon, now
