"""Alive and ready: what a balancer or an orchestrator asks."""

from dataclasses import dataclass
from typing import Self

from starlette.types import Receive, Scope, Send

from groat.protocol import strict_json
from groat.server.endpoints.parts import Parts
from groat.server.http.answers import send_private_json
from groat.server.registry.health import Health


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """Alive: the process answers. Says nothing about anything else."""

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_private_json(scope, send, 200, b'{"status":"ok"}')


@dataclass(frozen=True, slots=True)
class ReadyEndpoint:
    """Ready: the store takes writes, a key can sign, the log takes lines, the clocks agree; else 503 and the reason."""

    health: Health

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.health)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if fault := await self.health.fault():
            body = strict_json.dumps({"status": "unavailable", "reason": fault.reason})
            await send_private_json(scope, send, 503, body, (b"retry-after", b"1"))
            return
        await send_private_json(scope, send, 200, b'{"status":"ok"}')
