"""`GET /metrics` in the text format of Prometheus."""

import contextlib
from dataclasses import dataclass
from typing import Self

from starlette.types import Receive, Scope, Send

from groat.keys.ring.keyring import SigningKey
from groat.server.endpoints.exposition import CONTENT_TYPE, Metrics
from groat.server.endpoints.parts import Parts
from groat.server.http.answers import send_json
from groat.server.operations.expiries import client_expiries
from groat.server.registry.registry import Registry
from groat.server.store import Store, StoreUnavailable
from groat.server.store.trusted_time import TrustedTime


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """`GET /metrics` in the text format of Prometheus."""

    metrics: Metrics
    registry: Registry
    store: Store
    key_warning: int
    time: TrustedTime

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.metrics, parts.asking.registry, parts.asking.store, parts.key_warning, parts.time)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        now, keys, expiring, clocks, trail = self.time.clock(), tuple[SigningKey, ...](), None, None, None
        with contextlib.suppress(StoreUnavailable):  # the other numbers are wanted most when the store is gone
            await self.registry.refresh()
            keys = await self.registry.signing_keys()
            expiring = await client_expiries(self.store, now, self.key_warning)
            clocks = await self.time.clocks()
            trail = max((row.seq for row in await self.store.audit_rows(limit=1)), default=0)
        text = self.metrics.render(keys, now, expiring, clocks, trail)
        await send_json(scope, send, 200, text, [(b"content-type", CONTENT_TYPE)])
