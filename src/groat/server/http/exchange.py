"""One request and what is learnt about it on the way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from groat.protocol.client_certificate import NOTHING, Presented
from groat.server.http.in_force import InForce
from groat.server.http.proxied import Trace


@dataclass(slots=True)
class Exchange:
    """One request and what is learnt about it on the way, for the log line at its end.

    `started`: monotonic seconds; `in_force`: what it is judged by to its end; `client`: the claimed client id, proven
    only in an issued line, empty where one was claimed that cannot be read; `proving`: seconds of this thread that went
    into signatures which prove nothing: those of others on a busy host do not count;
    `presented`: what came of the caller's certificate; `trust`: by whose tokens the caller says who he is, if by any.
    """

    request_id: str
    source: str
    started: float
    in_force: InForce
    trace: Trace | None = None
    client: str | None = None
    authorization_scheme: str | None = None
    proving: float = 0.0
    presented: Presented = NOTHING
    trust: str = ""

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Put on the account of its failure what is done in here, should it fail."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.proving += time.thread_time() - began

    def facts(self) -> dict[str, Any]:
        facts = {
            "request_id": self.request_id,
            "client": self.client or None,
            "source": self.source,
            "ms": round((time.monotonic() - self.started) * 1000, 2),
        }
        if self.trust:
            facts["trust"] = self.trust
        if self.trace is not None:
            facts.update(trace_id=self.trace.trace_id, span_id=self.trace.span_id)
        return facts


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that `Entrance` attached."""
    exchange: Exchange = scope["groat"]
    return exchange


def hurried(scope: Scope) -> bool:
    """Whether the connection says that nobody should wait on it: the server ends, or the peer has closed it."""
    return "hurried" in scope


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header, in order; names are lower case in ASGI."""
    return [value for key, value in scope["headers"] if key == name]
