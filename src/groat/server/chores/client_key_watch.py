"""The watch over clients' keys that end soon: one log line a key and day in every process."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from groat.keys.client_keys import ClientExpiry
from groat.protocol.shell import command
from groat.server.operations.expiries import client_expiries
from groat.server.operations.operator import Operator
from groat.server.store import StoreUnavailable

LOOK_SECONDS: Final = 60.0
DAY: Final = 86400


@dataclass(slots=True)
class ClientKeyWatch:
    """Looks every minute. `warning`: how many seconds ahead. `sleep` is an argument for tests that turn the clock."""

    operator: Operator
    warning: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _told: dict[tuple[str, str], int] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled; a store that is away is asked again."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # whoever asks for a token hears of that, and the log with him
                await self.look()
            await self.sleep(LOOK_SECONDS)

    async def look(self) -> int:
        """Log what was not logged today; returns how many lines that were. Raises StoreUnavailable."""
        now = self.operator.now
        found = await client_expiries(self.operator.store, now, self.warning)
        before, self._told = self._told, {}
        lines = 0
        for one in found:
            key = (one.client_id, one.expiry.kid)
            told = before.get(key)
            # A clock that was ahead for a moment must not silence this until its time has come.
            self._told[key] = now if told is None or abs(now - told) >= DAY else told
            if self._told[key] != told:
                self._tell(one, now)
                lines += 1
        return lines

    def _tell(self, one: ClientExpiry, now: int) -> None:
        facts = {
            "client": one.client_id,
            "kid": one.expiry.kid,
            "expires_at": one.expiry.expires_at,
            "replaced": one.expiry.replaced,
            "hint": f"{one.words(now)}. {command('client key list', one.client_id)}",
        }
        if one.expiry.replaced:
            self.operator.audit.operated("client.key_expiring", facts)
        else:
            self.operator.audit.troubled("client.key_expiring", facts)
