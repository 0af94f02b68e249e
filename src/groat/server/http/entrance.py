"""The outermost layer: every request comes in here, and whatever is raised becomes an answer here."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from groat.protocol.errors import (
    MethodNotAllowed,
    NotFound,
    OAuthError,
    ServerError,
    TemporarilyUnavailable,
)
from groat.protocol.jwk import printable
from groat.server.http.answers import send_refusal
from groat.server.http.certificates import presented
from groat.server.http.exchange import Exchange, exchange_of
from groat.server.http.forms import ClientDisconnected
from groat.server.http.ids import RandomIds
from groat.server.http.in_force import Current
from groat.server.http.own_host import OwnHost
from groat.server.http.proxied import read_origin
from groat.server.http.routes import ANY, Served
from groat.server.http.throttle import THROTTLED
from groat.server.log.audit import Audit
from groat.server.log.scarce import ScarceLines
from groat.server.log.tally import Ledger
from groat.server.unavailable import Unavailable

RETRY_AFTER_SECONDS: Final = 1
NOWHERE: Final = "path"
MAX_CHEAP_LINES: Final = 300  # a minute; the counters have all
# Refused by the throttle, or for their form before anything was counted: a line is most of what they cost.
_FORM_REASONS: Final = ("method", "content_type", "content_encoding", "query", "form", "body_size", "body_slow")
# A challenge for a nonce counts as no failure, and whoever wants to can cause it.
_CHEAP: Final = frozenset([THROTTLED, *_FORM_REASONS, "dpop_nonce", "disconnected", "overloaded"])


@dataclass(slots=True)
class Entrance:
    """The outermost layer: gives each request its id and source, and turns whatever is raised into an answer.

    `endpoints` by their exact path. `own_host`: whom they answer, if not everybody. `elsewhere`: for requests that none
    of them got. `write`: what a refusal looks like.
    """

    endpoints: Mapping[str, Served]
    current: Current
    audit: Audit
    lifespan: ASGIApp | None = None
    own_host: OwnHost | None = None
    elsewhere: Ledger = Ledger("none")  # noqa: RUF009 - frozen
    write: Callable[[Scope, Send, OAuthError], Awaitable[None]] = send_refusal
    ids: RandomIds = field(default_factory=RandomIds)
    scarce: ScarceLines = field(default_factory=ScarceLines)
    cheap: ScarceLines = field(default_factory=lambda: ScarceLines(MAX_CHEAP_LINES))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(scope, receive, send)
            return
        exchange = scope["groat"] = self._exchange(scope)
        try:
            served = self.endpoints.get(scope["path"])
            if served is None or (served.when is not None and not served.when(exchange.in_force.policy)):
                raise NotFound(NOWHERE, f"nothing is at {printable(scope['path'])}")
            if self.own_host is not None:
                self.own_host.check(scope)
            if scope["method"] not in served.methods and served.methods is not ANY:  # RFC 9110 15.5.6
                raise MethodNotAllowed("method", ", ".join(served.methods))
            if exchange.in_force.policy.certificates:
                self._read_certificate(scope, exchange)
            await served.app(scope, receive, send)
        except OAuthError as error:
            await self._refuse(scope, send, error)
        except Unavailable as error:
            refusal = TemporarilyUnavailable(error.reason, error.hint, retry_after=RETRY_AFTER_SECONDS)
            await self._refuse(scope, send, refusal)
        except ClientDisconnected:
            self._record_refusal(scope, "disconnected", exchange.facts())
        except Exception:
            self.audit.broken(exchange.facts())
            await self.write(scope, send, ServerError("bug"))

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self.lifespan is not None:
            await self.lifespan(scope, receive, send)

    def _exchange(self, scope: Scope) -> Exchange:
        now, in_force, peer = time.monotonic(), self.current.now, scope["client"][0] if scope.get("client") else None
        if peer and not in_force.trusted_proxies and ":" not in peer:
            return Exchange(self.ids.next(), peer, now, in_force)  # nearly every request of a server without a proxy
        origin = read_origin(peer, scope["headers"], in_force.trusted_proxies)
        if origin.source.unreadable is not None:
            self._report_unreadable(str(peer), origin.source.unreadable, now)
        return Exchange(origin.request_id or self.ids.next(), origin.source.name, now, in_force, origin.trace)

    def _report_unreadable(self, peer: str, hop: str, now: float) -> None:
        held_back = self.scarce.admit("unreadable", now)
        if held_back is not None:
            hint = f"X-Forwarded-For of {peer} has {printable(hop)}, which is no address: its callers share one source"
            self.audit.troubled("proxy.unreadable", {"source": peer, "hint": hint, "held_back": held_back})

    def _read_certificate(self, scope: Scope, exchange: Exchange) -> None:
        """Raises InvalidRequest; one that cannot be read is none, whatever becomes of the request."""
        exchange.presented = presented(scope, exchange.in_force.certificate_proxies)
        if exchange.presented.fault:
            held_back = self.scarce.admit("certificate", time.monotonic())
            if held_back is not None:
                facts = {"source": exchange.source, "hint": exchange.presented.fault, "held_back": held_back}
                self.audit.troubled("proxy.certificate_unreadable", facts)

    async def _refuse(self, scope: Scope, send: Send, error: OAuthError) -> None:
        exchange = exchange_of(scope)
        facts = {"error": error.code, "status": error.status, "hint": error.hint, **exchange.facts()}
        self._record_refusal(scope, error.reason, facts)
        await self.write(scope, send, error)

    def _record_refusal(self, scope: Scope, reason: str, facts: Mapping[str, Any]) -> None:
        """Count it where it belongs, and log it; of what is cheap, or beside the clients' endpoints, some only."""
        served = self.endpoints.get(scope["path"])
        ledger = self.elsewhere if served is None or reason == NOWHERE else served.ledger
        held_back: int | None = 0
        if not ledger.event:
            held_back = self.scarce.admit(ledger.name, time.monotonic())
        elif reason in _CHEAP:
            held_back = self.cheap.admit(f"{ledger.name} {reason}", time.monotonic())
        self.audit.refused(ledger, reason, facts, held_back)
