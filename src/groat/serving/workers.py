"""`groat serve`: bind, check, then let uvicorn run one or more workers, and pass signals on to them."""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from starlette.types import ASGIApp
from uvicorn.supervisors import multiprocess

from groat.protocol.errors import ConfigError
from groat.protocol.uris import in_url
from groat.server.connection.descriptors import raise_limit
from groat.server.endpoints.exposition import MULTIPROCESS_FOLDER
from groat.server.log.event_log import EventLog, configure_logging
from groat.server.settings.admin_address import AdminAddress
from groat.server.settings.config import Config, plain_http_warning
from groat.server.settings.reload import Source, report_refused
from groat.server.settings.tls_files import TlsFiles
from groat.server.unavailable import Unavailable
from groat.serving.accepting import Shares
from groat.serving.listening import HANDSHAKE_SECONDS, bind, refuse_newcomers
from groat.serving.process import CONNECTIONS_FILE, Server, bounded

# How long a worker may say nothing before another takes its place: while it starts, and later.
STARTING_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 10.0


def run_server(config: Config, config_file: Path, flags: Mapping[str, Any]) -> None:
    """Serve until a signal ends it. Raises ConfigError or Unavailable before anything listens.

    SIGTERM and SIGINT drain: what is under way is answered. SIGHUP reads the settings and the certificate again.
    """
    from groat.serving.preflight import check_ready

    # Until the workers can read them again; a signal that comes early must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_limit()
    tls = None if config.listener.tls is None else TlsFiles(*config.listener.tls, config.handshakes.authorities)
    if tls is not None:
        tls.check()
    log = configure_logging(config.logging.level, config.logging.pretty)
    asyncio.run(check_ready(config, partial(_warn_of_key, log)))
    listener = _listen(config)
    _announce(config, listener, log)
    source = Source(config, config_file.absolute(), flags, tls)
    settings = _settings(config, tls)
    run = _run_workers if settings.workers > 1 else _run_alone
    ended_by = run(settings, listener, source, log)
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if ended_by is None:  # the log says why; a service manager must not take it for a stop that somebody wished
        sys.exit(1)


def _listen(config: Config) -> socket.socket:
    """The listener, once it is sure that the admin address can be had, too."""
    listener = bind(config.listener.host, config.listener.port)
    try:
        _check_admin(config.admin.address)
    except ConfigError:
        listener.close()
        raise
    return listener


def _run_workers(settings: uvicorn.Config, listener: socket.socket, source: Source, log: EventLog) -> int | None:
    """Serve with a supervisor and its workers; returns the signal that ended it, if one did."""
    multiprocess.Process = Worker  # type: ignore[misc]  # the supervisor has no other way to be told
    with tempfile.TemporaryDirectory(prefix="groat-metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder  # where the workers add up what each has counted
        Shares.create(Path(folder) / CONNECTIONS_FILE, settings.workers)
        settings.app = partial(_worker_app, source)
        supervisor = Supervisor(settings, listener, source, log)
        supervisor.run()
        return supervisor.ended_by


def _run_alone(settings: uvicorn.Config, listener: socket.socket, source: Source, _log: EventLog) -> int | None:
    """Serve in this process; returns the signal that ended it, if one did."""
    from groat.app import worker_app

    settings.app = partial(worker_app, source)
    # Without children, so that a debugger or a service manager meets one process.
    server = Server(settings)
    with contextlib.suppress(SystemExit):  # uvicorn's, with a code of its own
        server.run([listener])
    return server.ended_by


def _warn_of_key(log: EventLog, fault: str) -> None:
    with contextlib.suppress(OSError):
        log.emit("warning", "key.unusable", {"hint": fault})


def _worker_app(source: Source) -> ASGIApp:
    """The app of a worker; one that cannot start says why in one line, and the supervisor starts another."""
    from groat.app import worker_app

    try:
        return worker_app(source)
    except (ConfigError, Unavailable) as error:
        log = configure_logging(source.config.logging.level, source.config.logging.pretty)
        with contextlib.suppress(OSError):
            log.emit("error", "worker.failed", {"pid": os.getpid(), "hint": str(error)})
        sys.exit(1)


def _settings(config: Config, tls: TlsFiles | None) -> uvicorn.Config:
    return bounded(
        "groat.app:worker_app",
        factory=True,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_context_factory=None if tls is None else tls.context,
        workers=config.listener.workers,
    )


class Worker(multiprocess.Process):
    """uvicorn's worker process with the server from above; what it is taken for goes by when it was heard of last."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._asked_at: float | None = None  # monotonic; what it was asked then is not answered yet
        self._serves: bool | None = None  # by its last answer

    def is_alive(self, timeout: float = 0) -> bool:
        """Whether it runs and is not silent for too long, without waiting for a word of it.

        uvicorn waits, for five seconds, its start included. On a host that is busy with something else no worker
        would ever start: each is killed before it can speak, and its successor makes the host busier. And a
        supervisor that waits hears no signal.
        """
        return self.process.is_alive() and self.ping(0)

    def _healthcheck(self, timeout: float) -> bool | None:
        """Whether it serves, by an answer within `timeout` or its last one; None once it is silent for too long."""
        try:
            if self._asked_at is None:
                self.parent_conn.send(b"ping")
                self._asked_at = time.monotonic()
            if self.parent_conn.poll(timeout):
                self._serves, self._asked_at = bool(self.parent_conn.recv()), None
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        patience = STARTING_SECONDS if self._serves is None else SILENT_SECONDS
        silent = self._asked_at is not None and time.monotonic() - self._asked_at > patience
        return None if silent else bool(self._serves)

    def join(self) -> None:
        """What it shows of itself while it lives goes with it."""
        super().join()
        mark_process_dead(self.pid)  # type: ignore[no-untyped-call]

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(self.config)
        return self._server


class Supervisor(multiprocess.Multiprocess):
    """uvicorn's supervisor of worker processes, with a reload that restarts none of them."""

    def __init__(self, settings: uvicorn.Config, listener: socket.socket, source: Source, log: EventLog) -> None:
        super().__init__(settings, [listener])
        self._source = source
        self._log = log
        self.ended_by: int | None = None

    def handle_int(self) -> None:
        """End the workers, as at Ctrl-C."""
        self.ended_by = signal.SIGINT
        super().handle_int()

    def handle_term(self) -> None:
        """End the workers, as a service manager wishes it."""
        self.ended_by = signal.SIGTERM
        super().handle_term()

    def handle_hup(self) -> None:
        """Have every worker read the settings again; one that starts later begins with what is in force now."""
        try:
            self._source, _ = self._source.reread()
        except ConfigError as error:
            report_refused(self._log, error)
            return
        self.config.app = partial(_worker_app, self._source)
        for process in self.processes:
            if process.pid is not None and process.is_ready(timeout=1):
                os.kill(process.pid, signal.SIGHUP)
            elif signal.SIGHUP not in self.signal_queue:
                # One that is still starting would die of the signal, and knows the settings of before: once more then.
                self.signal_queue.append(signal.SIGHUP)

    def terminate_all(self) -> None:
        """Stop listening here too: a connection that no worker will ever accept is better refused than reset."""
        for listener in self.sockets:
            refuse_newcomers(listener)
        time.sleep(HANDSHAKE_SECONDS)
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


def _check_admin(address: AdminAddress) -> None:
    """Find out now whether the admin listener could stand there; a worker opens it. Raises ConfigError."""
    if address.host:
        bind(address.host, address.port, "another admin.listen").close()
    if address.socket is not None and not address.socket.parent.is_dir():
        raise ConfigError(f"admin.socket: there is no folder {address.socket.parent}")
    address.check_socket()


def _announce(config: Config, listener: socket.socket, log: EventLog) -> None:
    host, port = listener.getsockname()[:2]
    facts = {
        "issuer": config.policy.issuer,
        "address": f"{'http' if config.listener.tls is None else 'https'}://{in_url(host)}:{port}",
        "workers": config.listener.workers,
        "profile": str(config.policy.profile),
    }
    with contextlib.suppress(OSError):  # a full disk: tokens wait until the log can be written
        if warning := plain_http_warning(config):
            log.emit("warning", "server.plain_http", {"hint": warning})
        log.emit("info", "server.started", facts)
