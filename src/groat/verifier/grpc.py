"""gRPC: interceptors for grpc.server and grpc.aio.server."""

import inspect
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote

from groat.extras import needs_extra
from groat.protocol.access_token import AnyOf, Caller, RequiredScopes
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError, VerificationError
from groat.verifier.certificates import Connection, Lines
from groat.verifier.protected_resource import ApiRequest, ProtectedResource
from groat.verifier.verifier import Verifier

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

logger = logging.getLogger("groat.verifier")
if TYPE_CHECKING:  # generic for type checkers alone
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler
Metadata = Sequence[tuple[str, str | bytes]]

_METHOD: Final = re.compile(r"/[A-Za-z_][\w.]*/[A-Za-z_]\w*", re.ASCII)
# What HTTP says with a status, in the words of gRPC. A request that is malformed (400) is not healed by a new token,
# and must not look like one that is.
_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_TRAILING: Final = ("www-authenticate", "dpop-nonce", "retry-after")
_caller: ContextVar[Caller | None] = ContextVar("groat_caller", default=None)


def caller() -> Caller:
    """Who called the method that is running, in its handler and in whatever has its context.

    Raises LookupError in a method that is exempt, and where no RPC is served. A thread that a handler starts itself
    has no context unless it is given one (`contextvars.copy_context().run`).
    """
    found = _caller.get()
    if found is None:
        raise LookupError(
            "nobody has been let in here: the method is exempt, or this is no handler of a guarded server"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What a method that is not called answers: fixed words, and what a client may go by."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...] = ()


_UNLISTED: Final = _Refusal(grpc.StatusCode.PERMISSION_DENIED, "This method is open to nobody.")


class _Methods:
    """Which method needs what, and who calls."""

    def __init__(self, verifier: Verifier, methods: Mapping[str, RequiredScopes], exempt: Collection[str]) -> None:
        if not isinstance(methods, Mapping):
            raise ConfigError('methods must say what each needs: {"/pkg.Service/Method": ["scope"]}')
        # No metadata of RFC 9728 are served over gRPC, so no challenge names any.
        self._resource = ProtectedResource(verifier, exempt=exempt, announce=False)
        self._required = {_name(method): self._scopes(method, scopes) for method, scopes in methods.items()}
        for method in [exempt] if isinstance(exempt, str) else exempt:
            if _name(method) in self._required:
                raise ConfigError(f"{method} is exempt and needs scopes: which?")

    def _scopes(self, method: str, scopes: RequiredScopes) -> tuple[str, ...] | AnyOf:
        try:
            return self._resource.know(scopes)
        except ConfigError as error:
            raise ConfigError(f"{method}: {error}") from None

    def exempts(self, method: str) -> bool:
        return self._resource.exempts(method)

    def required(self, method: str) -> tuple[str, ...] | AnyOf | None:
        """The scopes of a method; None for one that is not listed, which nobody may call."""
        required = self._required.get(method)
        if required is None:
            hint = f"the method {shown(method)} is neither in methods nor in exempt"
            self._resource.verifier.turned_away(VerificationError("unlisted", hint))
        return required

    def judge(self, request: ApiRequest, required: RequiredScopes) -> Caller | _Refusal:
        try:
            return self._resource.admit(request, required)
        except VerificationError as error:
            return self._refusal(error)

    async def ajudge(self, request: ApiRequest, required: RequiredScopes) -> Caller | _Refusal:
        try:
            return await self._resource.aadmit(request, required)
        except VerificationError as error:
            return self._refusal(error)

    def _refusal(self, error: VerificationError) -> _Refusal:
        """The answer of HTTP: its phrase as details, its challenge as trailing metadata."""
        answer = self._resource.refusal(error)
        words = json.loads(answer.body)
        details = words.get("error_description") or words["detail"]
        if "hint" in words:
            details = f"{details} ({words['hint']})"
        trailing = [header for header in answer.headers if header[0] in _TRAILING]
        # The one of these that gRPC's own clients obey, where they have a retry policy (gRFC A6).
        pushback = [("grpc-retry-pushback-ms", f"{value}000") for name, value in trailing if name == "retry-after"]
        return _Refusal(_CODES[answer.status], details, (*trailing, *pushback))


class Interceptor(grpc.ServerInterceptor):
    """Lets only verified callers through to the methods of a `grpc.server`.

    `methods`: what each method needs: `{"/pkg.Service/Method": ["scope"]}`, `[]` for any caller, `any_of(...)`.
    `exempt`: methods that anybody may call, such as "/grpc.health.v1.Health/Check". A method that is in neither is
    refused, whether the server has it or not. A handler finds out with `caller()` who called. Raises ConfigError.
    Not checked: finer rights than scopes.

    A token is judged in a thread of the server's pool: gRPC calls interceptors in the one thread that serves all
    calls, where waiting for an issuer's keys would hold up everybody. A message of a stranger is not parsed.
    """

    def __init__(
        self, verifier: Verifier, methods: Mapping[str, RequiredScopes], *, exempt: Collection[str] = ()
    ) -> None:
        self._methods = _Methods(verifier, methods, exempt)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """What gRPC calls for each RPC."""
        method = handler_call_details.method
        if self._methods.exempts(method):
            return continuation(handler_call_details)
        required = self._methods.required(method)
        if required is None:
            return grpc.stream_stream_rpc_method_handler(lambda _, context: _abort(context, _UNLISTED))
        handler = continuation(handler_call_details)
        return None if handler is None else self._guarded(method, handler, required)

    def _guarded(self, method: str, handler: Handler, required: RequiredScopes) -> Handler:
        behaviour, make = _parts(handler)
        read = None if handler.request_streaming else handler.request_deserializer

        @wraps(behaviour)
        def judged(request: Any, context: grpc.ServicerContext, *more: Any) -> Any:
            verdict = self._methods.judge(_api_request(method, context.invocation_metadata(), context), required)
            if isinstance(verdict, _Refusal):
                _abort(context, verdict)
            _caller.set(verdict)
            return behaviour(request if read is None else _message(read, request, context), context, *more)

        return make(judged, handler.request_deserializer if read is None else None, handler.response_serializer)


class AioInterceptor(grpc.aio.ServerInterceptor):
    """The same for a `grpc.aio.server`, whose event loop is never blocked.

    Interceptors of grpc.aio know nothing of the connection. So a token that is bound to a certificate is judged where
    the handler would begin, behind the first message, which is not parsed before.
    """

    def __init__(
        self, verifier: Verifier, methods: Mapping[str, RequiredScopes], *, exempt: Collection[str] = ()
    ) -> None:
        self._methods = _Methods(verifier, methods, exempt)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """What gRPC calls for each RPC, in the task that will serve it and before any message is read."""
        method = handler_call_details.method
        if self._methods.exempts(method):
            _caller.set(None)
            return await continuation(handler_call_details)
        required = self._methods.required(method)
        if required is None:
            return _refusing(_UNLISTED)
        metadata = handler_call_details.invocation_metadata
        try:
            verdict = await self._methods.ajudge(_api_request(method, metadata, None), required)
        except _NeedsConnection:
            handler = await continuation(handler_call_details)
            return None if handler is None else self._judging(method, handler, required)
        if isinstance(verdict, _Refusal):
            return _refusing(verdict)
        _caller.set(verdict)
        handler = await continuation(handler_call_details)
        return None if handler is None else _with_context(handler, copy_context())

    def _judging(self, method: str, handler: Handler, required: RequiredScopes) -> Handler:
        """The handler, which judges its call by itself, now that its connection can be asked for."""
        behaviour, make = _parts(handler)
        read = None if handler.request_streaming else handler.request_deserializer
        if inspect.isasyncgenfunction(behaviour) or inspect.iscoroutinefunction(behaviour):
            judged = self._on_the_loop(method, handler, required)
        else:
            judged = self._in_threads(method, handler, required)
        return make(judged, handler.request_deserializer if read is None else None, handler.response_serializer)

    def _on_the_loop(self, method: str, handler: Handler, required: RequiredScopes) -> Callable[..., Any]:
        behaviour, _ = _parts(handler)
        read = None if handler.request_streaming else handler.request_deserializer

        async def let_in(request: Any, context: Any) -> Any:
            asked = _api_request(method, context.invocation_metadata(), context)
            verdict = await self._methods.ajudge(asked, required)
            if isinstance(verdict, _Refusal):
                return await context.abort(verdict.code, verdict.details, verdict.trailing)  # raises
            _caller.set(verdict)
            return request if read is None else read(request)

        async def once(request: Any, context: Any) -> Any:
            return await behaviour(await let_in(request, context), context)

        async def steps(request: Any, context: Any) -> AsyncIterator[Any]:
            async for answer in behaviour(await let_in(request, context), context):
                yield answer

        return steps if inspect.isasyncgenfunction(behaviour) else once

    def _in_threads(self, method: str, handler: Handler, required: RequiredScopes) -> Callable[..., Any]:
        """Handlers that are no coroutines are run in threads, where this may wait as well."""
        read = None if handler.request_streaming else handler.request_deserializer

        def once(request: Any, context: Any) -> Any:
            verdict = self._methods.judge(_api_request(method, context.invocation_metadata(), context), required)
            if isinstance(verdict, _Refusal):
                if not handler.response_streaming:
                    _abort(context, verdict)
                # To abort would tell the caller before the thread of these steps is done with the event loop, which may
                # be over by then; so they end as if they had nothing to say.
                context.set_trailing_metadata(verdict.trailing)
                context.set_code(verdict.code)
                context.set_details(verdict.details)
                return ()
            known = copy_context()
            known.run(_caller.set, verdict)
            carried, _ = _parts(_with_context(handler, known))
            return carried(request if read is None else _message(read, request, context), context)

        def steps(request: Any, context: Any) -> Iterator[Any]:
            yield from once(request, context)  # a generator is called on the loop, and run in a thread

        return steps if handler.response_streaming else once


class _NeedsConnection(Exception):
    """The token is bound to a certificate, and the connection is not known yet."""


def _api_request(method: str, metadata: Metadata, context: Any) -> ApiRequest:
    """What of an RPC decides who is let in: the one place that says where gRPC has it.

    On the wire it is a POST to the name of the method; its authority is the caller's word, as Host is in HTTP.
    """

    def lines(name: str) -> list[str | bytes]:
        return [value for key, value in metadata if key == name]

    return ApiRequest(lines, b"", "POST", lambda: method, dict, lambda: _connection(context, lines))


def _connection(context: Any, lines: Lines) -> Connection:
    if context is None:
        raise _NeedsConnection
    leaf = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    return Connection(_address(context.peer()), leaf, lines)


def _address(peer: str) -> str:
    """The address in what gRPC calls a peer: ipv4:127.0.0.1:50051, ipv6:%5B::1%5D:50051, unix:/path."""
    kind, _, rest = peer.partition(":")
    if kind == "unix":
        return ""
    return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def _name(method: Any) -> str:
    if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
        raise ConfigError(f"not the full name of a method such as /pkg.Service/Method: {shown(method)}")
    return method


def _parts(handler: Handler) -> tuple[Callable[..., Any], Callable[..., Handler]]:
    """What a handler does, and what makes one of its kind."""
    ways = (bool(handler.request_streaming), bool(handler.response_streaming))
    kind = "_".join("stream" if streaming else "unary" for streaming in ways)
    return getattr(handler, kind), getattr(grpc, f"{kind}_rpc_method_handler")


def _message(read: Callable[[bytes], Any], request: bytes, context: grpc.ServicerContext) -> Any:
    """The message, once it is known whose it is; what cannot be read is answered as gRPC does."""
    try:
        message = read(request)
    except Exception:
        logger.debug("a request cannot be read", exc_info=True)
        context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
    return message


def _abort(context: grpc.ServicerContext, refusal: _Refusal) -> NoReturn:
    context.set_trailing_metadata(refusal.trailing)
    context.abort(refusal.code, refusal.details)


def _refusing(refusal: _Refusal) -> Handler:
    """A handler for any kind of call: on the wire they are alike, and this one waits for no message."""

    async def refuse(_: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        await context.abort(refusal.code, refusal.details, refusal.trailing)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _with_context(handler: Handler, context: Context) -> Handler:
    """A handler that is no coroutine is run in threads, step by step, which know no caller unless they are told."""
    behaviour, make = _parts(handler)
    if inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour):
        return handler

    def once(*arguments: Any) -> Any:
        return context.run(behaviour, *arguments)

    def steps(*arguments: Any) -> Iterator[Any]:
        iterator = iter(context.run(behaviour, *arguments))
        end = object()
        while (item := context.run(next, iterator, end)) is not end:
            yield item

    carried = wraps(behaviour)(steps if handler.response_streaming else once)
    return make(carried, handler.request_deserializer, handler.response_serializer)


__all__ = ["AioInterceptor", "Interceptor", "caller"]
