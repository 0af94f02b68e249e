"""aiohttp: a middleware for an application or a sub-application."""

import warnings
from collections.abc import Collection
from itertools import pairwise
from typing import Any, Final, cast

from groat.extras import needs_extra
from groat.protocol.access_token import Caller, RequiredScopes
from groat.protocol.errors import VerificationError
from groat.verifier.answers import Answer
from groat.verifier.certificates import Connection, Lines
from groat.verifier.protected_resource import OFFERED, ApiRequest, ProtectedResource
from groat.verifier.verifier import Verifier

try:
    from aiohttp import hdrs, web
    from aiohttp.typedefs import Handler, Middleware
    from multidict import CIMultiDict
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

CALLER: Final = web.RequestKey("caller", Caller)
_MEMO: Final = web.RequestKey("groat_memo", dict)


def middleware(
    verifier: Verifier,
    *,
    scopes: RequiredScopes = (),
    exempt: Collection[str] = (),
    known: Collection[str] = (),
) -> Middleware:
    """Let only verified callers through: `web.Application(middlewares=[middleware(verifier, ...)])`.

    `scopes`: what every request needs; give parts of an API that need others their own application (`add_subapp`) and
    middleware. `exempt`: exact paths that anybody may ask for, as the application with this middleware sees them: what
    `add_subapp` put in front is not part of them. The caller is `request["caller"]`, and `request[CALLER]` for type
    checkers. Covers every path, those that do not exist included, and refuses a WebSocket before its handshake. The
    API's metadata (RFC 9728) are served to anybody; `known`: scopes of this API besides `scopes`, for them. Put CORS
    handling before it, since preflight requests carry no token. Raises ConfigError. Not checked: finer rights than
    scopes.
    """
    resource = ProtectedResource(verifier, scopes=scopes, exempt=exempt, known=known)
    prefix_of = _Prefixes()

    @web.middleware
    async def protect(request: web.Request, handler: Handler) -> web.StreamResponse:
        sent = request.rel_url.path_safe
        inside = sent.removeprefix(prefix_of(request)) or "/"
        if resource.exempts(inside):
            return await handler(request)
        if (document := resource.public(request.method, inside, sent)) is not None:
            return _response(document)
        try:
            caller = await resource.aadmit(_api_request(request))
        except VerificationError as error:
            return _response(resource.refusal(error))
        _remember(request, caller)
        _keep_out_of_caches(request, caller)
        return await handler(request)

    return protect


def _api_request(request: web.Request) -> ApiRequest:
    """What of a request decides who is let in: the one place that says where aiohttp has it."""

    def lines(name: str) -> list[bytes]:
        wanted = name.encode("latin-1")
        return [value for key, value in request.raw_headers if key.lower() == wanted]

    query = request.rel_url.raw_query_string.encode("utf-8", "surrogateescape")
    return ApiRequest(
        lines,
        query,
        request.method,
        lambda: request.raw_path,
        lambda: _memo(request),
        lambda: _connection(request, lines),
    )


def _connection(request: web.Request, lines: Lines) -> Connection:
    """Over what it came, whatever another middleware has made of `request.remote` since."""
    transport = request.transport
    if transport is None:  # it is gone by now
        return Connection("unknown", None, lines)
    peer, tls = transport.get_extra_info("peername"), transport.get_extra_info("ssl_object")
    address = str(peer[0]) if isinstance(peer, tuple) else ""  # of a unix socket it is text or nothing
    return Connection(address, None if tls is None else tls.getpeercert(binary_form=True), lines)


def _memo(request: web.Request) -> dict[Any, Any]:
    memo: dict[Any, Any] = request.setdefault(_MEMO, {})
    return memo


class _Prefixes:
    """What was put in front of the application that this middleware belongs to; each is looked up once.

    Paths are compared as the router compares them (`path_safe`): with %2F left as it is, so that an exempt path opens
    no other route.
    """

    def __init__(self) -> None:
        self._known: dict[web.Application, str] = {}

    def __call__(self, request: web.Request) -> str:
        app = request.app
        if app not in self._known:
            self._known[app] = self._find(request)
        return self._known[app]

    def _find(self, request: web.Request) -> str:
        """An application is mounted once, and the prefix of a mount has those of the mounts around it in it."""
        apps: tuple[web.Application, ...] = request.match_info.apps
        found = ""
        for outer, inner in pairwise(apps):
            if outer is request.app:
                break
            mounts = [resource.get_info() for resource in outer.router.resources()]
            found = next((str(one.get("prefix", found)) for one in mounts if one.get("app") is inner), found)
        return found


_noted: Final[list[str]] = []


def _remember(request: web.Request, caller: Caller) -> None:
    request[CALLER] = caller
    if not _noted:
        # aiohttp recommends keys that are no text, once in a process, and as an error where warnings are errors.
        _noted.append("caller")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", web.NotAppKeyWarning)
            request["caller"] = caller
    request["caller"] = caller


def _keep_out_of_caches(request: web.Request, caller: Caller) -> None:
    """Answers to authorised requests have no-store unless the application has its own rule (RFC 6750 5.3).

    A response that the handler prepares itself (a stream, a WebSocket) is sent before the handler returns, and the
    signal `on_response_prepare` belongs to the application, which a middleware meets when it is frozen. So the header
    is added where every response of this request ends: in its writer.
    """
    writer = cast(Any, request.writer)
    write_headers = writer.write_headers

    async def writing(status_line: str, headers: "CIMultiDict[str]") -> None:
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        if caller.confirmation is not None and OFFERED in (memo := _memo(request)):
            _hand_on(memo[OFFERED], headers)
        await write_headers(status_line, headers)

    writer.write_headers = writing


def _hand_on(nonce: str, headers: "CIMultiDict[str]") -> None:
    """The next nonce, unless a cache may keep it."""
    if any("no-store" in rule.lower() for rule in headers.getall(hdrs.CACHE_CONTROL)):
        headers["DPoP-Nonce"] = nonce


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=CIMultiDict(answer.headers), body=answer.body)


__all__ = ["CALLER", "middleware"]
