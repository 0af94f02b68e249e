"""Runs a WSGI application as gunicorn does, in this process and one worker; a prefix goes where gunicorn reads it."""

import os
import ssl
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from tests.verifier.frameworks.apps import port, prefix


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, load: Callable[[], Any]) -> None:
        self.load = load
        super().__init__()

    def load_config(self) -> None:
        self.cfg.set("bind", f"127.0.0.1:{port()}")
        self.cfg.set("worker_class", "gthread")  # the one that keeps connections open
        self.cfg.set("threads", 4)
        self.cfg.set("loglevel", "warning")
        self.cfg.set("control_socket_disable", True)
        if "TLS" in os.environ:
            self.cfg.set("certfile", os.environ["TLS"])
            self.cfg.set("ca_certs", os.environ["CALLERS"])
            self.cfg.set("cert_reqs", ssl.CERT_OPTIONAL)


def serve(load: Callable[[], Any]) -> None:
    """Serve what `load` gives to each worker, until it is ended."""
    if prefix():
        os.environ["SCRIPT_NAME"] = prefix()
    _Application(load).run()
