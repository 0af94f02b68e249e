"""The server of production around an app of one's own: with a clock that runs faster, or that a test turns."""

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from groat.app import Clockwork, create_app
from groat.server.chores.rotator import Sleep
from groat.server.connection.states import KEEP_ALIVE_SECONDS
from groat.server.log.event_log import EventLog
from groat.server.settings.config import load_config
from groat.server.store.sqlite.store import SqliteStore


def app_server(app: ASGIApp, keep_alive: int = KEEP_ALIVE_SECONDS) -> uvicorn.Server:
    """uvicorn with the event loop and the protocol of `groat serve`; `keep_alive`: seconds of an idle connection."""
    return uvicorn.Server(
        uvicorn.Config(
            app, loop="uvloop", http="groat.server.connection.protocol:OneWriteProtocol", ws="none", lifespan="on",
            log_config=None, access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=keep_alive,
        )
    )  # fmt: skip


def serve_by_clock(directory: Path, descriptor: int, clock: Callable[[], float], sleep: Sleep) -> None:
    """Serve a directory with a configuration and a SQLite store on an inherited socket, until the process is ended."""
    config = load_config(directory / "groat.toml", {})
    with (directory / f"serve-{descriptor}.log").open("a") as stream:
        log = EventLog(stream, "info", False)
        app = create_app(config, SqliteStore.open(config.database), Clockwork(clock, clock, sleep), log)
        app_server(app).run([socket.socket(fileno=descriptor)])
