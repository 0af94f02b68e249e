"""A bound on the requests that are being served at once, so that a flood meets refusals and not an endless queue."""

from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from groat.protocol.errors import TemporarilyUnavailable

# Some 100 ms of work for one process: whoever would wait longer is told at once (docs/decisions/0015-admission.md).
MAX_IN_FLIGHT: Final = 256
RETRY_AFTER_SECONDS: Final = 1


@dataclass(slots=True)
class Admission:
    """At most `limit` requests inside `app` at once. Raises TemporarilyUnavailable for one more, before it is read.

    A request that is refused here has used up nothing. Not bounded: connections without a request.
    """

    app: ASGIApp
    limit: int = MAX_IN_FLIGHT
    in_flight: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.in_flight >= self.limit:
            hint = f"{self.limit} requests are being served; add workers or replicas"
            raise TemporarilyUnavailable("overloaded", hint, retry_after=RETRY_AFTER_SECONDS)
        self.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.in_flight -= 1
