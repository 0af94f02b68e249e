"""The admin listener: what operators and their machines ask, on an address of its own that no client needs to reach.

Whoever reaches it may ask everything it offers: nothing here authenticates. A socket file is for its owner only; a
host and port are as private as the network they are in.
"""

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from groat.keys.keyring import SigningKey
from groat.protocol.errors import ConfigError, InvalidRequest
from groat.protocol.jwk import printable
from groat.server.connection.protocol import OneWriteProtocol
from groat.server.http.answers import send_json
from groat.server.http.entrance import require_method
from groat.server.http.exchange import header_values
from groat.server.log.event_log import EventLog
from groat.server.metrics import CONTENT_TYPE, MULTIPROCESS_FOLDER, Metrics
from groat.server.operations.expiries import client_expiries
from groat.server.registry.registry import Registry
from groat.server.settings.admin_address import AdminAddress
from groat.server.store import Store, StoreUnavailable
from groat.server.store.trusted_time import TrustedTime

RETRY_SECONDS: Final = 1.0
MAX_ADMIN_CONNECTIONS: Final = 64
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _host_name(value: bytes) -> str:
    """The name or address of a Host field, without port and brackets, in lower case."""
    name = value.decode("ascii", "replace").strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Answers only whoever means this listener: its own address, localhost, or one of `hosts`.

    A web page can have its own name lead to any address (DNS rebinding), and an operator's browser is inside.
    Not checked: anything at a socket file, which no browser reaches; the port, which may be mapped.
    """

    app: ASGIApp
    hosts: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        if server is not None and server[1] is not None:
            for value in header_values(scope, b"host"):
                self._check(_host_name(value), server[0])
        await self.app(scope, receive, send)

    def _check(self, name: str, own: str) -> None:
        if name not in _LOCAL and name != own.partition("%")[0].removeprefix("::ffff:") and name not in self.hosts:
            hint = f"the admin listener was asked as {printable(name)}; if that is its name, add it to admin.hosts"
            raise InvalidRequest("admin_host", hint)


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """`GET /metrics` in the text format of Prometheus."""

    metrics: Metrics
    registry: Registry
    store: Store
    key_warning: int
    time: TrustedTime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        require_method(scope, "GET", "HEAD")
        now, keys, expiring, clocks = self.time.clock(), tuple[SigningKey, ...](), None, None
        with contextlib.suppress(StoreUnavailable):  # the other numbers are wanted most when the store is gone
            await self.registry.refresh()
            keys = await self.registry.signing_keys()
            expiring = await client_expiries(self.store, now, self.key_warning)
            clocks = await self.time.clocks()
        text = self.metrics.render(keys, now, expiring, clocks)
        await send_json(scope, send, 200, text, [(b"content-type", CONTENT_TYPE)])


async def serve_admin(app: ASGIApp, address: AdminAddress, log: EventLog) -> None:
    """Listen until cancelled. Of several workers one does at a time; when it ends, another takes over."""
    while True:
        async with _turn():
            try:
                async with _listening(app, address):
                    _tell(log, "info", "admin.started", {"address": str(address)})
                    await asyncio.Event().wait()
            except (OSError, ConfigError) as error:
                _tell(log, "warning", "admin.unavailable", {"hint": getattr(error, "strerror", None) or str(error)})
        await asyncio.sleep(RETRY_SECONDS)


def _tell(log: EventLog, level: str, event: str, facts: dict[str, str]) -> None:
    with contextlib.suppress(OSError):  # a listener that works must not end because the log does not
        log.emit(level, event, facts)


@contextlib.asynccontextmanager
async def _turn() -> AsyncIterator[None]:
    """Wait until no sibling listens; at once where there are no siblings."""
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    if not folder:
        yield
        return
    lock = os.open(Path(folder) / "admin.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(lock):  # noqa: ASYNC110 - another process holds it
            await asyncio.sleep(RETRY_SECONDS)
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.asynccontextmanager
async def _listening(app: ASGIApp, address: AdminAddress) -> AsyncIterator[None]:
    loop, protocol = asyncio.get_running_loop(), _protocol(app)
    async with contextlib.AsyncExitStack() as servers:
        if address.host:
            servers.push_async_callback(_close, await loop.create_server(protocol, address.host, address.port))
        if address.socket is not None:
            address.remove_socket()  # of a process that died; a living one would hold the lock or the port
            mask = os.umask(0o177)
            try:
                server = await loop.create_unix_server(protocol, str(address.socket))
            finally:
                os.umask(mask)
            servers.push_async_callback(_close, server)
        yield


async def _close(server: asyncio.Server) -> None:
    server.close()


def _protocol(app: ASGIApp) -> Callable[[], Any]:
    config = uvicorn.Config(
        app, http=OneWriteProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    config.load()
    return functools.partial(OneWriteProtocol, config=config, server_state=ServerState(), app_state={})
