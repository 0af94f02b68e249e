"""One process that serves: uvicorn's server with our connections, our way of accepting them, and our end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn

from groat.server.connection.protocol import OneWriteProtocol
from groat.server.connection.states import HANDSHAKE_SECONDS as TLS_SECONDS
from groat.server.connection.states import KEEP_ALIVE_SECONDS, State
from groat.server.endpoints.exposition import MULTIPROCESS_FOLDER
from groat.server.log.scarce import ScarceLines
from groat.serving.accepting import GOODBYE_TIMEOUT_SECONDS, LAST_HANDSHAKE_SECONDS, Acceptor, Shares, turn_away
from groat.serving.listening import HANDSHAKE_SECONDS, refuse_newcomers

GRACEFUL_SECONDS: Final = 10
BACKLOG: Final = 2048
CONNECTIONS_FILE: Final = "connections"


def bounded(app: str | Callable[..., Any], **more: Any) -> uvicorn.Config:
    """How uvicorn serves anything of ours: with bounds on what a connection may take. `app` has a `crowd`."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="groat.server.connection.protocol:OneWriteProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # forwarded headers count from trusted proxies only: see Entrance
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
        **more,
    )


class Server(uvicorn.Server):
    """uvicorn's server, which after draining ends as a command does, and not by the signal that it has obeyed."""

    _shares: Shares | None = None
    _acceptors: Sequence[Acceptor] = ()
    _scarce = ScarceLines()

    @property
    def ended_by(self) -> int | None:
        """The first signal that told it to end, if any did."""
        return next(iter(self._captured_signals), None)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept on the listeners once the application is ready."""
        _keep_start_out_of_collections()
        await super().startup([])
        folder = os.environ.get(MULTIPROCESS_FOLDER)
        self._shares = Shares.join(Path(folder) / CONNECTIONS_FILE) if folder and self.config.workers > 1 else None
        self._acceptors = [Acceptor(sock, self._welcome, self._connections, self._shares) for sock in sockets or ()]
        for acceptor in self._acceptors:
            acceptor.start(self.config.backlog)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; connections that ended make room for others."""
        for acceptor in self._acceptors:
            acceptor.tell()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in the connections that wait, and only then stop listening: the kernel resets those in its queue."""
        listeners = sockets or []
        if self._shares is not None:
            self._shares.leave()
        if self.config.workers == 1:  # else the listener is everybody's, and the supervisor's to close
            for listener in listeners:
                refuse_newcomers(listener)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for acceptor in self._acceptors:
            await acceptor.close(LAST_HANDSHAKE_SECONDS)
        await super().shutdown()

    def _connections(self) -> int:
        return len(self.server_state.connections)

    async def _welcome(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        protocol = OneWriteProtocol(self.config, self.server_state, self.lifespan.state)
        protocol.peer, protocol.task = peer, asyncio.current_task()
        protocol.since = asyncio.get_running_loop().time()
        if not protocol.crowd.admit(protocol, peer[0]):
            turn_away(connection, plain=self.config.ssl is None)
            return
        try:
            await self._connect(connection, protocol)
        finally:
            if protocol.state is State.ARRIVING:  # no TLS handshake, or none in time
                protocol.crowd.leave(protocol)

    async def _connect(self, connection: socket.socket, protocol: OneWriteProtocol) -> None:
        bounds: dict[str, Any] = {}
        if self.config.ssl is not None:
            bounds["ssl_handshake_timeout"] = TLS_SECONDS
            bounds["ssl_shutdown_timeout"] = GOODBYE_TIMEOUT_SECONDS
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.config.ssl, **bounds)
        except ssl.SSLCertVerificationError as error:
            self._report_refused(protocol.peer, error.verify_message)
            raise

    def _report_refused(self, peer: tuple[str, int] | None, why: str) -> None:
        """The peer is told by TLS, and not why: that is for the log, some lines a minute."""
        held_back = self._scarce.admit("certificate", time.monotonic())
        if held_back is not None:
            text = "no handshake with %s: its certificate counts nothing by tls.client_ca_file (%s); %d more like this"
            logging.getLogger("uvicorn.error").warning(text, peer and peer[0], why, held_back)


def _keep_start_out_of_collections() -> None:
    """What start-up made lives for ever; the collector need not look at it again for every few hundred requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
