"""The admin listener: what operators and their machines ask, on an address of its own that no client needs to reach.

Whoever reaches it may ask for the numbers. What else it offers comes from above (`Annex`) and lets in whom it wants;
for that a connection over the socket tells whose process is at its other end. A socket file is for its owner only, or
for those whom `admin.socket_users` names; a host and port are as private as the network they are in.
"""

import asyncio
import contextlib
import fcntl
import functools
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Scope, Send
from uvicorn.server import ServerState

from groat.protocol.errors import ConfigError, OAuthError
from groat.server.connection.crowd import Crowd
from groat.server.connection.guarded import GuardedEntrance
from groat.server.connection.protocol import OneWriteProtocol
from groat.server.endpoints import ADMIN, ADMIN_ROUTES
from groat.server.endpoints.exposition import MULTIPROCESS_FOLDER
from groat.server.endpoints.parts import Parts
from groat.server.http.in_force import Current, InForce, Room
from groat.server.http.own_host import OwnHost
from groat.server.http.routes import ANY, Served, WithTree, served
from groat.server.log.event_log import EventLog
from groat.server.settings.admin_address import AdminAddress
from groat.server.settings.config import Config

RETRY_SECONDS: Final = 1.0
MAX_ADMIN_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Annex:
    """What else the listener has: `app` for everything below `prefix`, and what its refusals look like."""

    prefix: str
    app: ASGIApp
    write: Callable[[Scope, Send, OAuthError], Awaitable[None]]


def admin_entrance(config: Config, parts: Parts, annex: Annex) -> GuardedEntrance:
    """Where operators come in: proxies have no business here, and no reload changes anything."""
    # Room of its own: whoever fills the public listener must not keep the operator from seeing that.
    current, audit = Current(InForce(config.policy, room=Room(MAX_ADMIN_CONNECTIONS))), parts.audit
    exact = served(ADMIN_ROUTES, parts, config.policy.issuer)
    return GuardedEntrance(
        WithTree(exact, annex.prefix, Served(annex.app, ANY, ADMIN)), current, audit,
        own_host=OwnHost(frozenset(config.admin.hosts)), elsewhere=ADMIN, write=annex.write,
        crowd=Crowd(current, audit.crowded, audit.tally),
    )  # fmt: skip


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
            mask = os.umask(0o177 if address.private else 0o111)
            try:
                server = await loop.create_unix_server(protocol, str(address.socket))
            finally:
                os.umask(mask)
            servers.push_async_callback(_close, server)
        yield


async def _close(server: asyncio.Server) -> None:
    server.close()


class PeerProtocol(OneWriteProtocol):
    """A connection of the admin listener; over the socket its requests tell the user of the process that asks."""

    def connection_made(self, transport: Any) -> None:
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            self.app_state = {"peer_uid": _user_of(connection)}
        super().connection_made(transport)


def _user_of(connection: Any) -> int | None:
    """The kernel's word for who connected; None where it gives none (elsewhere than on Linux)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, user, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("iII")))
    return int(user)


def _protocol(app: ASGIApp) -> Callable[[], Any]:
    config = uvicorn.Config(
        app, http=PeerProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    config.load()
    return functools.partial(PeerProtocol, config=config, server_state=ServerState(), app_state={})
