"""`groat serve`: bind, check, then let uvicorn run one or more workers."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from groat.cli.tls_files import tls_files
from groat.protocol.errors import ConfigError
from groat.server.admin_address import AdminAddress
from groat.server.config import BY_NAME, Config, plain_http_warning
from groat.server.event_log import EventLog, configure_logging
from groat.server.metrics import MULTIPROCESS_FOLDER

GRACEFUL_SECONDS = 10
BACKLOG = 2048


def run_server(config: Config, config_file: Path, flags: Mapping[str, Any]) -> None:
    """Serve until a signal ends it. Raises ConfigError or StoreUnavailable before anything listens."""
    from groat.app import check_ready

    certificate, key = tls_files(config)
    asyncio.run(check_ready(config))
    log = configure_logging(config["log.level"], {"json": False, "pretty": True}.get(config["log.format"]))
    listener = bind(config["server.host"], config["server.port"])
    _check_admin(config.admin)
    _announce(config, listener, log)
    # Workers are new processes: they read the same file, and find the flags in their environment.
    os.environ["GROAT_CONFIG"] = str(config_file.absolute())
    os.environ.update({BY_NAME[name].env: str(value) for name, value in flags.items()})
    settings = uvicorn.Config(
        "groat.app:app_from_environment",
        factory=True,
        loop="uvloop",
        http="groat.server.one_write:OneWriteProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # forwarded headers count from trusted proxies only: see Entrance
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        workers=config["server.workers"],
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
    )
    if settings.workers > 1:
        with tempfile.TemporaryDirectory(prefix="groat-metrics-") as folder:
            os.environ[MULTIPROCESS_FOLDER] = folder  # where the workers add up what each has counted
            Multiprocess(settings, [listener]).run()
    else:
        uvicorn.Server(settings).run([listener])


def _check_admin(address: AdminAddress) -> None:
    """Find out now whether the admin listener could stand there; a worker opens it. Raises ConfigError."""
    if address.host:
        bind(address.host, address.port, "another admin.listen").close()
    if address.socket is not None and not address.socket.parent.is_dir():
        raise ConfigError(f"admin.socket: there is no folder {address.socket.parent}")


def bind(host: str, port: int, way_out: str = "another: groat serve --port 0") -> socket.socket:
    """A listening socket. Raises ConfigError that says how to go on when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}. Choose {way_out}") from None
    listener.set_inheritable(True)
    return listener


def _announce(config: Config, listener: socket.socket, log: EventLog) -> None:
    if warning := plain_http_warning(config):
        log.emit("warning", "server.plain_http", {"hint": warning})
    host, port = listener.getsockname()[:2]
    facts = {
        "issuer": config.policy.issuer,
        "address": f"{'http' if config.tls is None else 'https'}://{host}:{port}",
        "workers": config["server.workers"],
        "profile": str(config.policy.profile),
    }
    log.inform("server.started", facts)
