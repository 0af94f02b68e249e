"""Pure ASGI middleware: no framework, no dependency."""

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

from groat.protocol.access_token import AnyOf, Caller, RequiredScopes
from groat.protocol.arguments import strings
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError, VerificationError
from groat.protocol.grammar import SCOPE_TOKEN
from groat.verifier.refusal import Refusal, refusal
from groat.verifier.verifier import Verifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALLER_KEY = "groat.caller"
# Where these stand somebody means more than one path, or what is no part of a path.
_PATTERN: Final = re.compile(r"[*?#{}\[\]]")


class GroatMiddleware:
    """Lets only verified callers through to an ASGI application.

    `scopes`: what every request needs. `exempt`: exact paths that anybody may ask for, such as "/health", as the
    application inside sees them: a root path (`uvicorn --root-path`) or a mount is not part of them. The caller is
    found at scope["state"][state_key] (Starlette's request.state.caller) and scope["groat.caller"]. Put CORS handling
    outside of it, since preflight requests carry no token. Not checked: finer rights than scopes.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        scopes: RequiredScopes = (),
        exempt: Collection[str] = (),
        state_key: str = "caller",
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._scopes = checked_scopes(scopes)
        self._exempt = exempt_paths(exempt)
        self._state_key = state_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (self._exempt and path_inside(scope) in self._exempt):
            await self._app(scope, receive, send)
            return
        try:
            caller = await verified(self._verifier, scope, self._scopes)
        except VerificationError as error:
            await send_refusal(refusal(error, explain=self._verifier.explain), scope, receive, send)
            return
        await self._app(self._with_caller(scope, caller), receive, no_store(send))

    def _with_caller(self, scope: Scope, caller: Caller) -> Scope:
        state = {**scope.get("state", {}), self._state_key: caller}
        return {**scope, "state": state, CALLER_KEY: caller}


async def verified(verifier: Verifier, scope: Scope, scopes: RequiredScopes) -> Caller:
    """Who sent this request: the one place that says what of it the verifier sees. Raises VerificationError."""
    return await verifier.averify_request(authorization_values(scope), scope.get("query_string", b""), scopes)


def path_inside(scope: Scope) -> str:
    """The path that the application inside routes by: `path` without `root_path`, whether it is in it or not (ASGI)."""
    path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
    for prefix in filter(None, (root, root.rstrip("/"))):
        if path == prefix or path.startswith(prefix + "/"):
            return path[len(prefix) :] or "/"
    return path


def exempt_paths(exempt: str | Collection[str]) -> frozenset[str]:
    """Paths that anybody may ask for; one alone may be written as a string.

    Raises ConfigError for what no path of a request could equal.
    """
    paths = frozenset([exempt] if isinstance(exempt, str) else strings("exempt", exempt))
    for path in paths:
        if not path.startswith("/"):
            raise ConfigError(f"exempt must hold paths such as /health, not {shown(path)}")
        if _PATTERN.search(path):
            raise ConfigError(
                f"exempt must hold exact paths: {shown(path)} is a pattern or a query and would exempt nothing"
            )
    return paths


def checked_scopes(scopes: RequiredScopes) -> tuple[str, ...] | AnyOf:
    """Required scopes as they may stand in a challenge (RFC 6749 3.3). Raises ConfigError for a malformed one."""
    checked = scopes if isinstance(scopes, AnyOf) else strings("scopes", scopes)
    for scope in checked.scopes if isinstance(checked, AnyOf) else checked:
        if SCOPE_TOKEN.fullmatch(scope) is None:
            raise ConfigError(f"not a scope: {scope!r}")
    return checked


def authorization_values(scope: Scope) -> list[bytes]:
    """Every Authorization line of a request, none joined and none dropped (RFC 6750 2: one at most)."""
    return [value for name, value in scope["headers"] if name.lower() == b"authorization"]


def no_store(send: Send) -> Send:
    """Keep answers to authorised requests out of caches unless the application has its own rule (RFC 6750 5.3)."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                message = {**message, "headers": [*headers, (b"cache-control", b"no-store")]}
        await send(message)

    return sending


def close_code(status: int) -> int:
    """The WebSocket close code of a refusal: policy violation, or try again later (RFC 6455 7.4.1)."""
    return 1013 if status == 503 else 1008


async def send_refusal(refused: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a refusal; a WebSocket handshake is denied (with the same answer where the server can send it)."""
    prefix = ""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": close_code(refused.status), "reason": ""})
            return
        prefix = "websocket."
    start = {"type": f"{prefix}http.response.start", "status": refused.status, "headers": refused.raw_headers}
    await send(start)
    await send({"type": f"{prefix}http.response.body", "body": refused.body})


__all__ = ["CALLER_KEY", "GroatMiddleware"]
