"""HTTP around the rules: reading a request, writing JSON, and the only place that writes a refusal."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from groat.protocol import strict_json
from groat.protocol.errors import (
    InvalidClient,
    MethodNotAllowed,
    NotFound,
    OAuthError,
    PayloadTooLarge,
    RequestTimeout,
    ServerError,
    TemporarilyUnavailable,
)
from groat.protocol.jwk import printable
from groat.protocol.token_request import check_content_encoding, check_content_type, check_query
from groat.server.admission import Admission
from groat.server.audit import AUDITED, Audit
from groat.server.proxied import Trace, read_origin
from groat.server.random_ids import RandomIds
from groat.server.scarce import ScarceLines
from groat.server.source import Networks
from groat.server.throttle import THROTTLED
from groat.server.unavailable import Unavailable

if TYPE_CHECKING:
    from groat.server.connection.crowd import Crowd
    from groat.server.connection.shedding import Shedding

MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 15.0
RETRY_AFTER_SECONDS: Final = 1
MAX_ENTITY_TAGS: Final = 32
MAX_CHEAP_LINES: Final = 300  # a minute; the counters have all
# Refused by the throttle, or for their form before anything was counted: a line is most of what they cost.
_FORM_REASONS: Final = ("method", "content_type", "content_encoding", "query", "form", "body_size", "body_slow")
_CHEAP: Final = frozenset([THROTTLED, *_FORM_REASONS, "disconnected", "overloaded"])
_NO_STORE: Final = [(b"cache-control", b"no-store"), (b"pragma", b"no-cache")]
_FORM_HEADERS: Final = frozenset({b"content-length", b"content-type", b"content-encoding", b"authorization"})
_JSON: Final = (b"content-type", b"application/json")
_CHALLENGES: Final = {"basic": b"Basic", "bearer": b"Bearer", "digest": b"Digest", "dpop": b"DPoP"}

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Exchange:
    """One request and what is learnt about it on the way, for the log line at its end.

    `started`: monotonic seconds; `client`: the claimed client id, proven only in an issued line; `proving`: seconds
    that went into signatures which prove nothing.
    """

    request_id: str
    source: str
    started: float
    trace: Trace | None = None
    client: str | None = None
    authorization_scheme: str | None = None
    proving: float = 0.0

    def facts(self) -> dict[str, Any]:
        facts = {
            "request_id": self.request_id,
            "client": self.client,
            "source": self.source,
            "ms": round((time.monotonic() - self.started) * 1000, 2),
        }
        if self.trace is not None:
            facts.update(trace_id=self.trace.trace_id, span_id=self.trace.span_id)
        return facts


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that `Entrance` attached."""
    exchange: Exchange = scope["groat"]
    return exchange


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header, in order; names are lower case in ASGI."""
    return [value for key, value in scope["headers"] if key == name]


class ClientDisconnected(Exception):
    """The peer went away before its request was complete; there is nobody to answer."""


async def read_form(scope: Scope, receive: Receive, admission: Admission) -> tuple[bytes, Sequence[bytes]]:
    """The body of a form and the Authorization headers that came with it; steps 2 to 4 of the fixed order.

    Raises PayloadTooLarge, RequestTimeout, ClientDisconnected, InvalidRequest. Not checked: what the form says.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in _FORM_HEADERS:
            found.setdefault(name, []).append(value)
    body = await _read_body(found.get(b"content-length", ()), receive, admission)
    check_content_type(found.get(b"content-type", ()))
    check_content_encoding(found.get(b"content-encoding", ()))
    check_query(scope["query_string"])
    return body, found.get(b"authorization", ())


async def _read_body(lengths: Sequence[bytes], receive: Receive, admission: Admission) -> bytes:
    """Read at most 64 KiB within 15 s."""
    for value in lengths:
        if value.isdigit():
            _check_size(int(value[:20]))
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        # Nearly every request: the body came with the headers, and no timer is needed.
        _check_size(len(body))
        return body
    admission.reading += 1
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_rest(message, receive)
    except TimeoutError:
        raise RequestTimeout("body_slow") from None
    finally:
        admission.reading -= 1


async def _read_rest(message: Any, receive: Receive) -> bytes:
    chunks = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunks += message.get("body", b"")
        _check_size(len(chunks))
        if not message.get("more_body"):
            return bytes(chunks)
        message = await receive()


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise PayloadTooLarge("body_size", f"more than {MAX_BODY_BYTES} bytes; a token request has some hundreds")


async def send_json(
    scope: Scope, send: Send, status: int, payload: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send a complete response; HEAD gets the headers alone."""
    exchange = exchange_of(scope)
    all_headers: Headers = [
        (b"content-length", str(len(payload)).encode()),
        (b"x-request-id", exchange.request_id.encode()),
        *headers,
    ]
    if exchange.trace is not None:
        all_headers.append((b"traceparent", exchange.trace.header))
    body = b"" if scope["method"] == "HEAD" or status == 304 else payload
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def send_private_json(scope: Scope, send: Send, status: int, payload: bytes, *extra: tuple[bytes, bytes]) -> None:
    """Send JSON that nobody may keep (RFC 6749 5.1)."""
    await send_json(scope, send, status, payload, [_JSON, *_NO_STORE, *extra])


def refusal_body(error: OAuthError) -> bytes:
    """The body of a refusal: fixed texts only (RFC 6749 5.2)."""
    return strict_json.dumps({"error": error.code, "error_description": error.description})


def _refusal_headers(error: OAuthError, exchange: Exchange) -> Headers:
    headers: Headers = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if isinstance(error, InvalidClient) and exchange.authorization_scheme is not None:
        # RFC 6749 5.2: a challenge of the scheme that the client used, and only then.
        scheme = _CHALLENGES.get(exchange.authorization_scheme, b"Basic")
        headers.append((b"www-authenticate", scheme + b' realm="groat"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.hint.encode()))
    return headers


async def send_refusal(scope: Scope, send: Send, error: OAuthError) -> None:
    """Write a refusal: the one place that does."""
    headers = _refusal_headers(error, exchange_of(scope))
    if isinstance(error, (PayloadTooLarge, RequestTimeout)):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send_private_json(scope, send, error.status, refusal_body(error), *headers)


def require_method(scope: Scope, *methods: str) -> None:
    """Raise MethodNotAllowed unless the method is one of these (RFC 9110 15.5.6)."""
    if scope["method"] not in methods:
        raise MethodNotAllowed("method", ", ".join(methods))


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Whatever has no route."""
    raise NotFound("path", f"nothing is at {printable(scope['path'])}")


@dataclass(slots=True)
class Entrance:
    """The outermost layer: gives each request its id and source, and turns whatever is raised into an answer.

    `endpoints` by their exact path: a table of fixed strings needs no pattern to be tried.
    """

    endpoints: Mapping[str, ASGIApp]
    lifespan: ASGIApp
    audit: Audit
    trusted_proxies: Networks = ()
    shedding: "Shedding | None" = None  # what the connections ask while too much is under way
    elsewhere: str = "none"  # what a request is logged under that no endpoint of a name got
    crowd: "Crowd | None" = None  # what they are members of
    ids: RandomIds = field(default_factory=RandomIds)
    scarce: ScarceLines = field(default_factory=ScarceLines)
    cheap: ScarceLines = field(default_factory=lambda: ScarceLines(MAX_CHEAP_LINES))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.lifespan(scope, receive, send)
            return
        exchange = scope["groat"] = self._exchange(scope)
        try:
            await self.endpoints.get(scope["path"], not_found)(scope, receive, send)
        except OAuthError as error:
            await self._refuse(scope, send, error)
        except Unavailable as error:
            refusal = TemporarilyUnavailable(error.reason, error.hint, retry_after=RETRY_AFTER_SECONDS)
            await self._refuse(scope, send, refusal)
        except ClientDisconnected:
            self._record_refusal(scope, "disconnected", exchange.facts())
        except Exception:
            self.audit.broken(exchange.facts())
            await send_refusal(scope, send, ServerError("bug"))

    def _exchange(self, scope: Scope) -> Exchange:
        now, peer = time.monotonic(), scope["client"][0] if scope.get("client") else None
        if peer and not self.trusted_proxies and ":" not in peer:
            return Exchange(self.ids.next(), peer, now)  # nearly every request of a server without a proxy
        origin = read_origin(peer, scope["headers"], self.trusted_proxies)
        if origin.source.unreadable is not None:
            self._report_unreadable(str(peer), origin.source.unreadable, now)
        return Exchange(origin.request_id or self.ids.next(), origin.source.name, now, origin.trace)

    def _report_unreadable(self, peer: str, hop: str, now: float) -> None:
        held_back = self.scarce.admit("unreadable", now)
        if held_back is not None:
            hint = f"X-Forwarded-For of {peer} has {printable(hop)}, which is no address: its callers share one source"
            self.audit.troubled("proxy.unreadable", {"source": peer, "hint": hint, "held_back": held_back})

    async def _refuse(self, scope: Scope, send: Send, error: OAuthError) -> None:
        exchange = exchange_of(scope)
        facts = {"error": error.code, "status": error.status, "hint": error.hint, **exchange.facts()}
        self._record_refusal(scope, error.reason, facts)
        await send_refusal(scope, send, error)

    def _record_refusal(self, scope: Scope, reason: str, facts: Mapping[str, Any]) -> None:
        """Count it where it belongs, and log it; of what is cheap, or beside the clients' endpoints, some only."""
        name = str(getattr(self.endpoints.get(scope["path"]), "name", self.elsewhere))
        held_back: int | None = 0
        if name not in AUDITED:
            held_back = self.scarce.admit(name, time.monotonic())
        elif reason in _CHEAP:
            held_back = self.cheap.admit(f"{name} {reason}", time.monotonic())
        self.audit.refused(name, reason, facts, held_back)


def etag_matches(scope: Scope, etag: bytes) -> bool:
    """Whether If-None-Match names this entity (RFC 9110 13.1.2, weak comparison); the first few tags count."""
    listed = b",".join(header_values(scope, b"if-none-match")).split(b",", MAX_ENTITY_TAGS)[:MAX_ENTITY_TAGS]
    return any(entry.strip().removeprefix(b"W/") in (etag, b"*") for entry in listed)
