"""gRPC servers of both kinds with one service, whose messages are JSON: no generated code.

/shop.Orders/UnaryUnary, UnaryStream, StreamUnary, StreamStream   answer with who called and what was asked
/shop.Orders/Unlisted                                             is there, and the interceptor knows nothing of it
/grpc.health.v1.Health/Check                                      is exempt
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import grpc
import grpc.aio

from groat.verifier import Verifier
from groat.verifier.grpc import AioInterceptor, Interceptor, caller

KINDS: Final = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
METHODS: Final = {
    **{f"/shop.Orders/{kind}": ["orders:write"] for kind in KINDS},
    "/shop.Orders/Nowhere": ["orders:write"],
    "/shop.Orders/AnyCaller": [],
}
EXEMPT: Final = ("/grpc.health.v1.Health/Check",)
parsed: Final[list[Any]] = []


def read(message: bytes) -> Any:
    """Remember what was parsed, for whoever claims that nothing was."""
    parsed.append(message)
    return json.loads(message)


def write(message: Any) -> bytes:
    return json.dumps(message).encode()


def said(asked: Any) -> dict[str, Any]:
    return {"client": caller().client_id, "asked": asked}


def nobody() -> dict[str, Any]:
    try:
        caller()
    except LookupError:
        return {"client": None}
    raise AssertionError("an exempt method knows a caller")


class Sync:
    """Handlers for a thread pool, and for aio, which runs them in one."""

    def unary_unary(self, request: Any, _: Any) -> Any:
        return said(request)

    def unary_stream(self, request: Any, _: Any) -> Iterator[Any]:
        for _number in range(2):
            yield said(request)

    def stream_unary(self, requests: Iterator[Any], _: Any) -> Any:
        return said(list(requests))

    def stream_stream(self, requests: Iterator[Any], _: Any) -> Iterator[Any]:
        for request in requests:
            yield said(request)

    def health(self, _request: Any, _context: Any) -> Any:
        return nobody()


class Aio:
    """Handlers for the event loop."""

    async def unary_unary(self, request: Any, _: Any) -> Any:
        return said(request)

    async def unary_stream(self, request: Any, _: Any) -> AsyncIterator[Any]:
        for _number in range(2):
            yield said(request)

    async def stream_unary(self, requests: AsyncIterator[Any], _: Any) -> Any:
        return said([request async for request in requests])

    async def stream_stream(self, requests: AsyncIterator[Any], _: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield said(request)

    async def health(self, _request: Any, _context: Any) -> Any:
        return nobody()


def services(handlers: Sync | Aio) -> dict[str, dict[str, Any]]:
    h: Any = handlers
    unary = grpc.unary_unary_rpc_method_handler(h.unary_unary, read, write)
    orders = {
        "UnaryUnary": unary,
        "UnaryStream": grpc.unary_stream_rpc_method_handler(h.unary_stream, read, write),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(h.stream_unary, read, write),
        "StreamStream": grpc.stream_stream_rpc_method_handler(h.stream_stream, read, write),
        "Unlisted": unary,
        "AnyCaller": unary,
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(h.health, read, write)}
    return {"shop.Orders": orders, "grpc.health.v1.Health": health}


def add(server: Any, handlers: Sync | Aio, *, registered: bool = False) -> None:
    """As generated code does it; that of today registers each method by its name as well."""
    for service, methods in services(handlers).items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        if registered:
            server.add_registered_method_handlers(service, methods)


@contextmanager
def sync_server(
    verifier: Verifier, credentials: grpc.ServerCredentials | None = None, *, registered: bool = False
) -> Iterator[int]:
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, interceptors=[Interceptor(verifier, METHODS, exempt=EXEMPT)])
        add(server, Sync(), registered=registered)
        port = _listen(server, credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait(10)


@contextmanager
def aio_server(
    verifier: Verifier, credentials: grpc.ServerCredentials | None = None, handlers: Callable[[], Sync | Aio] = Aio
) -> Iterator[int]:
    """Its event loop runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(interceptors=[AioInterceptor(verifier, METHODS, exempt=EXEMPT)])
        add(server, handlers(), registered=True)
        port = _listen(server, credentials)
        await server.start()
        return server, port

    server, port = run(start())
    try:
        yield port
    finally:
        run(server.stop(None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _listen(server: Any, credentials: grpc.ServerCredentials | None) -> int:
    if credentials is None:
        return int(server.add_insecure_port("127.0.0.1:0"))
    return int(server.add_secure_port("127.0.0.1:0", credentials))


@contextmanager
def mixed_server(verifier: Verifier, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    with aio_server(verifier, credentials, Sync) as port:
        yield port


@contextmanager
def registered_server(verifier: Verifier, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    with sync_server(verifier, credentials, registered=True) as port:
        yield port


SERVERS: Final = {
    "sync": sync_server,
    "sync, registered": registered_server,
    "aio": aio_server,
    "aio with sync handlers": mixed_server,
}
