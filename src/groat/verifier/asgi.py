"""Pure ASGI middleware: no framework, no dependency."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import quote

from groat.protocol.access_token import Caller, RequiredScopes
from groat.protocol.errors import VerificationError
from groat.protocol.grammar import PATH_CHARS
from groat.verifier.answers import Answer
from groat.verifier.certificates import Connection, Lines
from groat.verifier.protected_resource import OFFERED, ApiRequest, ProtectedResource
from groat.verifier.verifier import Verifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALLER_KEY = "groat.caller"


class GroatMiddleware:
    """Lets only verified callers through to an ASGI application.

    `scopes`: what every request needs. `exempt`: exact paths that anybody may ask for, such as "/health", as the
    application inside sees them: a root path (`uvicorn --root-path`) or a mount is not part of them. The caller is
    found at scope["state"][state_key] (Starlette's request.state.caller) and scope["groat.caller"]. The API's metadata
    (RFC 9728) are served to anybody. `known`: scopes of this API besides `scopes`, for the metadata. Put CORS handling
    outside of it, since preflight requests carry no token. Not checked: finer rights than scopes.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        scopes: RequiredScopes = (),
        exempt: Collection[str] = (),
        known: Collection[str] = (),
        state_key: str = "caller",
    ) -> None:
        self._app = app
        self._resource = ProtectedResource(verifier, scopes=scopes, exempt=exempt, known=known)
        self._state_key = state_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._resource.exempts(path_inside(scope)):
            await self._app(scope, receive, send)
            return
        if (document := public(self._resource, scope)) is not None:
            await send_answer(document, scope, receive, send)
            return
        try:
            caller = await self._resource.aadmit(api_request(scope))
        except VerificationError as error:
            await send_answer(self._resource.refusal(error), scope, receive, send)
            return
        await self._app(self._with_caller(scope, caller), receive, no_store(send, scope))

    def _with_caller(self, scope: Scope, caller: Caller) -> Scope:
        state = {**scope.get("state", {}), self._state_key: caller}
        return {**scope, "state": state, CALLER_KEY: caller}


def api_request(scope: Scope) -> ApiRequest:
    """What of a request decides who is let in: the one place that says where ASGI has it."""

    def lines(name: str) -> list[bytes]:
        wanted = name.encode("latin-1")
        return [value for key, value in scope["headers"] if key.lower() == wanted]

    query = scope.get("query_string", b"")
    # A WebSocket begins with a GET (RFC 6455 4.1).
    method = scope.get("method", "GET")
    return ApiRequest(lines, query, method, lambda: _target(scope), lambda: scope, lambda: _connection(scope, lines))


def _connection(scope: Scope, lines: Lines) -> Connection:
    """Over what it came; the certificate where the server has the TLS extension of ASGI (uvicorn has not).

    `client` is None for a unix socket. Not known here: whether the server has written there what a proxy said.
    """
    client, tls = scope.get("client"), (scope.get("extensions") or {}).get("tls") or {}
    chain = () if tls.get("client_cert_error") else tls.get("client_cert_chain") or ()
    return Connection(str(client[0]) if client else "", next(iter(chain), None), lines)


def _target(scope: Scope) -> str:
    """The path as it was sent; from what it says where a server does not keep it (ASGI: raw_path is optional)."""
    raw = scope.get("raw_path")
    path: str = raw.decode("latin-1") if raw else quote(str(scope.get("path", "")), safe=PATH_CHARS)
    return path


def public(resource: ProtectedResource, scope: Scope) -> Answer | None:
    """The metadata of the API, if that is what the request asks for."""
    if scope["type"] != "http":
        return None
    return resource.public(scope["method"], path_inside(scope), str(scope.get("path", "")))


def path_inside(scope: Scope) -> str:
    """The path that the application inside routes by: `path` without `root_path`, whether it is in it or not (ASGI)."""
    path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
    for prefix in filter(None, (root, root.rstrip("/"))):
        if path == prefix or path.startswith(prefix + "/"):
            return path[len(prefix) :] or "/"
    return path


def no_store(send: Send, scope: Scope) -> Send:
    """Keep answers to authorised requests out of caches unless the application has its own rule (RFC 6750 5.3).

    `scope`: the one that was judged; the nonce that is kept there goes with the answer.
    """

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            if OFFERED in scope:
                message = {**message, "headers": _with_nonce(headers, scope[OFFERED])}
        await send(message)

    return sending


def _with_nonce(headers: list[tuple[bytes, bytes]], nonce: str) -> list[tuple[bytes, bytes]]:
    """Once, though there may be several guards, and not where a cache may keep it."""
    kept = [value.lower() for name, value in headers if name.lower() == b"cache-control"]
    if any(name.lower() == b"dpop-nonce" for name, _ in headers) or not any(b"no-store" in rule for rule in kept):
        return headers
    return [*headers, (b"dpop-nonce", nonce.encode("latin-1"))]


def close_code(status: int) -> int:
    """The WebSocket close code of a refusal: policy violation, or try again later (RFC 6455 7.4.1)."""
    return 1013 if status == 503 else 1008


async def send_answer(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send it; a WebSocket handshake is denied (with the same answer where the server can send it)."""
    prefix = ""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": close_code(answer.status), "reason": ""})
            return
        prefix = "websocket."
    start = {"type": f"{prefix}http.response.start", "status": answer.status, "headers": answer.raw_headers}
    await send(start)
    await send({"type": f"{prefix}http.response.body", "body": answer.body})


__all__ = ["CALLER_KEY", "GroatMiddleware"]
