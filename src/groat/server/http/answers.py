"""Writing JSON, and the only place that writes a refusal."""

from collections.abc import Awaitable, Sequence
from typing import Final

from starlette.types import Scope, Send

from groat.protocol import strict_json
from groat.protocol.errors import (
    InvalidClient,
    OAuthError,
    PayloadTooLarge,
    RequestTimeout,
)
from groat.server.http.exchange import Exchange, exchange_of, header_values

MAX_ENTITY_TAGS: Final = 32
_PRIVATE: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
_CHALLENGES: Final = {"basic": b"Basic", "bearer": b"Bearer", "digest": b"Digest", "dpop": b"DPoP"}
Headers = list[tuple[bytes, bytes]]


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


def send_private_json(
    scope: Scope, send: Send, status: int, payload: bytes, *extra: tuple[bytes, bytes]
) -> Awaitable[None]:
    """Send JSON that nobody may keep (RFC 6749 5.1)."""
    return send_json(scope, send, status, payload, (*_PRIVATE, *extra))


def refusal_body(error: OAuthError) -> bytes:
    """The body of a refusal: fixed texts only (RFC 6749 5.2)."""
    return strict_json.dumps({"error": error.code, "error_description": error.description})


def _own_headers(error: OAuthError, exchange: Exchange) -> Headers:
    headers = [(name.encode(), value.encode()) for name, value in error.headers]
    if isinstance(error, InvalidClient) and exchange.authorization_scheme is not None:
        # RFC 6749 5.2: a challenge of the scheme that the client used, and only then.
        scheme = _CHALLENGES.get(exchange.authorization_scheme, b"Basic")
        headers.append((b"www-authenticate", scheme + b' realm="groat"'))
    return headers


def refusal_headers(error: OAuthError, exchange: Exchange) -> Headers:
    """What a refusal says outside of its body."""
    headers = _own_headers(error, exchange)
    if isinstance(error, (PayloadTooLarge, RequestTimeout)):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return headers


async def send_refusal(scope: Scope, send: Send, error: OAuthError) -> None:
    """Write a refusal: the one place that does, but for the problems of the admin API."""
    headers = refusal_headers(error, exchange_of(scope))
    await send_private_json(scope, send, error.status, refusal_body(error), *headers)


def etag_matches(scope: Scope, etag: bytes) -> bool:
    """Whether If-None-Match names this entity (RFC 9110 13.1.2, weak comparison); the first few tags count."""
    listed = b",".join(header_values(scope, b"if-none-match")).split(b",", MAX_ENTITY_TAGS)[:MAX_ENTITY_TAGS]
    return any(entry.strip().removeprefix(b"W/") in (etag, b"*") for entry in listed)
