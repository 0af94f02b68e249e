"""Refusals as problems (RFC 9457), for every path of the admin API; elsewhere they look as they always do."""

from typing import Final

from starlette.types import Scope, Send

from groat.protocol import strict_json
from groat.protocol.admin_refusals import AdminRefusal
from groat.protocol.errors import OAuthError
from groat.server.http.answers import refusal_headers, send_json, send_refusal
from groat.server.http.exchange import exchange_of

BELOW: Final = "/admin/"
TYPES: Final = "urn:groat:reason:"  # the word behind it is explained in docs/reference/reasons.md
_HEADERS: Final = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]


async def send_problem(scope: Scope, send: Send, error: OAuthError) -> None:
    """Write a refusal: the reason is for whoever operates this server, and so is the hint unless a stranger asks."""
    if not scope["path"].startswith(BELOW):
        await send_refusal(scope, send, error)
        return
    exchange = exchange_of(scope)
    problem = {
        "type": f"{TYPES}{error.reason}",
        "title": error.description,
        "status": error.status,
        "error": error.code,
        "reason": error.reason,
        "request_id": exchange.request_id,
    }
    if isinstance(error, AdminRefusal) and error.hint and not error.silent:
        problem["detail"] = error.hint
    headers = [*_HEADERS, *refusal_headers(error, exchange)]
    await send_json(scope, send, error.status, strict_json.dumps(problem), headers)
