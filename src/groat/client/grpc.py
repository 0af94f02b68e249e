"""gRPC: call credentials for channels of grpc and grpc.aio."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

from groat.client.challenge import ApiResponse, is_token_refused
from groat.client.errors import ClientError
from groat.client.machine_client import MachineClient, Scopes
from groat.client.token import Token, scope_set
from groat.extras import needs_extra
from groat.protocol.arguments import one_string

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

Metadata = Iterable[tuple[str, str | bytes]]


def call_credentials(
    machine: MachineClient, resource: str | None = None, scopes: Scopes = ()
) -> "MachineCallCredentials":
    """Credentials that put a token into the metadata of every call of a channel, or of a single one.

        credentials = call_credentials(machine, resource="https://orders.example.com", scopes=["orders:read"])
        secure = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), credentials)
        channel = grpc.intercept_channel(grpc.secure_channel("orders.example.com:443", secure), credentials.interceptor)

    gRPC gives a token to nobody over a channel without TLS (`grpc.local_channel_credentials` for tests). A token that
    cannot be had ends the call with UNAVAILABLE, whatever the reason, which is in the details: gRPC knows no other
    status for that. Calls wait for it in threads that gRPC makes for that, and no event loop does. With `dpop` of the
    machine each call carries a proof (RFC 9449), for the name that the channel leads to. Raises ConfigError.
    Not checked: to which host the channel leads; whoever makes the channel says that.
    """
    if resource is not None:
        one_string("resource", resource)
    return MachineCallCredentials(_Plugin(machine, resource, scope_set(scopes)))


class MachineCallCredentials(grpc.CallCredentials):
    """What `call_credentials` makes: call credentials of gRPC, and the interceptors that belong to them.

    Credentials never see how a call ends. So a token that an API refuses before its time (its issuer has revoked a
    key, say) would be sent until it ends. With `interceptor` in a channel of grpc, or `aio_interceptors` in one of
    grpc.aio, it is dropped instead: that call fails with UNAUTHENTICATED, and the next one gets a new token. So it is
    with a nonce that an API demands in proofs.
    """

    def __init__(self, plugin: "_Plugin") -> None:
        # What gRPC makes of a plugin is an object without an interface; this one is it, with two members more.
        vars(self).update(vars(grpc.metadata_call_credentials(plugin, name="groat")))
        self.interceptor = _Interceptor(plugin)
        self.aio_interceptors: list[grpc.aio.ClientInterceptor] = [kind(plugin) for kind in _AIO_INTERCEPTORS]


class _Plugin(grpc.AuthMetadataPlugin):
    """Tokens for calls; remembers the last that it gave away, and the one before."""

    def __init__(self, machine: MachineClient, resource: str | None, scopes: tuple[str, ...]) -> None:
        self._machine = machine
        self._resource = resource
        self._scopes = scopes
        self.given: tuple[Token | None, Token | None] = (None, None)  # replaced as a whole: threads read it
        self._called = ""  # where calls go, by which nonces are remembered

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """What gRPC calls for each call, in a thread that it makes for it."""
        try:
            token = self._machine.token(self._resource, self._scopes)
            # Without a scheme over local credentials, which stand for TLS.
            name = context.service_url.partition("://")[2]
            metadata = self._metadata(token, f"https://{name}/{context.method_name}")
        except ClientError as error:
            callback((), error)
            return
        last, _ = self.given
        if token != last:
            self.given = (token, last)
        callback(metadata, None)

    def _metadata(self, token: Token, url: str) -> tuple[tuple[str, str], ...]:
        """A call is a POST to the name of its method (RFC 9449 4.2). Raises KeyUnusable."""
        possession, self._called = self._machine.possession, url
        if possession is None:
            return (("authorization", f"Bearer {token.value}"),)
        proof = possession.proof("POST", url, token.value)
        return ("authorization", f"{token.type} {token.value}"), ("dpop", proof)

    def heed(self, before: Token | None, code: grpc.StatusCode | None, trailing: Metadata) -> None:
        """Drop the token that a call was refused with. `before`: the last one that was given away before the call.

        If another was given away since, nobody knows which of them the call had, and none is dropped: a newer one may
        be good, and an older one is gone already. If that newer one is not good, the next call tells.
        """
        trailing = tuple(trailing)
        if self._machine.possession is not None and self._called:
            named = {name: value for name, value in trailing if isinstance(value, str)}
            self._machine.possession.heed(self._called, named)
        token, older = self.given
        known = before == token or (before is None and older is None)
        if token is not None and known and is_token_refused(_as_response(code, trailing)):
            self._machine.drop(token, self._resource, self._scopes)


class _Headers:
    def __init__(self, values: list[str]) -> None:
        self._values = values

    def get_list(self, _: str) -> list[str]:
        return self._values


class _Response:
    def __init__(self, status_code: int, challenges: list[str]) -> None:
        self.status_code = status_code
        self.headers = _Headers(challenges)


def _as_response(code: grpc.StatusCode | None, trailing: Metadata) -> ApiResponse:
    """How a call ended, as an answer of HTTP: what it means for the token is one rule for both.

    Many servers say UNAUTHENTICATED and nothing more; that is taken for a refusal of the token.
    """
    challenges = [value for name, value in trailing if name == "www-authenticate" and isinstance(value, str)]
    status = 401 if code is grpc.StatusCode.UNAUTHENTICATED else 200
    return _Response(status, challenges or ['Bearer error="invalid_token"'])


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Looks at how calls of a channel of grpc end; changes nothing about them."""

    def __init__(self, plugin: _Plugin) -> None:
        self._plugin = plugin

    def _watch(self, continuation: Callable[[Any, Any], Any], details: grpc.ClientCallDetails, request: Any) -> Any:
        before, _ = self._plugin.given
        call = continuation(details, request)
        call.add_done_callback(lambda done: self._plugin.heed(before, done.code(), done.trailing_metadata() or ()))
        return call

    intercept_unary_unary: Any = _watch
    intercept_unary_stream: Any = _watch
    intercept_stream_unary: Any = _watch
    intercept_stream_stream: Any = _watch


class _AioInterceptor:
    """The same for channels of grpc.aio, which want an object for each kind of call."""

    def __init__(self, plugin: _Plugin) -> None:
        self._plugin = plugin

    async def _watch(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        before, _ = self._plugin.given
        call = await continuation(details, request)
        # Another interceptor, behind this one, may have answered by itself: there is no call to look at then.
        with suppress(NotImplementedError):
            call.add_done_callback(lambda done: self._look(before, done))
        return call

    def _look(self, before: Token | None, done: Any) -> None:
        """At once, and not in a task: whoever calls again as soon as he is refused must have another token."""
        self._plugin.heed(before, _result(done.code()), _result(done.trailing_metadata()) or ())


def _result(finished: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for, as those of a call that has ended; else None."""
    try:
        finished.send(None)
    except StopIteration as end:
        return end.value
    finished.close()
    return None


class _AioUnaryUnary(_AioInterceptor, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _AioInterceptor._watch


class _AioUnaryStream(_AioInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _AioInterceptor._watch


class _AioStreamUnary(_AioInterceptor, grpc.aio.StreamUnaryClientInterceptor):
    """Of this kind of call grpc.aio tells INTERNAL, however it ends, to whoever wants to be called back.

    So it is awaited, beside whoever made it and before him: tasks that wait for the same are woken in turn.
    """

    def __init__(self, plugin: _Plugin) -> None:
        super().__init__(plugin)
        self._awaiting: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def _watch(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        before, _ = self._plugin.given
        call = await continuation(details, request)
        if isinstance(call, grpc.aio.StreamUnaryCall):
            task = asyncio.get_running_loop().create_task(self._await(before, call))
            self._awaiting.add(task)
            task.add_done_callback(self._awaiting.discard)
        return call

    async def _await(self, before: Token | None, call: Any) -> None:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            self._plugin.heed(before, error.code(), error.trailing_metadata() or ())

    intercept_stream_unary: Any = _watch


class _AioStreamStream(_AioInterceptor, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _AioInterceptor._watch


_AIO_INTERCEPTORS: Final = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)

__all__ = ["MachineCallCredentials", "call_credentials"]
