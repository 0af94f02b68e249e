"""`groat health`: is a server ready? The exit code says it, so that containers need no shell and no curl."""

import socket
import ssl
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

import click

from groat.cli.session import Exit, Session
from groat.protocol.metadata import check_endpoint

SECONDS: Final = 3.0
READY_PATH: Final = "/readyz"


@click.command()
@click.argument("url", required=False)
@click.pass_obj
def health(session: Session, url: str | None) -> None:
    """Ask whether a server is ready: the one of this configuration, or whatever answers at URL.

    Exit code 0: it answered 200. 7: it answered otherwise. 5: it did not answer, or its certificate is not trusted.
    """
    asked, status = _own_server(session) if url is None else _elsewhere(url)
    session.show({"url": asked, "status": status, "outcome": "ok" if status == 200 else "not ready"}, str(status))
    if status != 200:
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


def _own_server(session: Session) -> tuple[str, int]:
    """The listener itself, wherever the public name leads; its certificate must still be for the public name."""
    config = session.config()
    host, port = config.local_address
    name = urlsplit(config.policy.issuer).hostname if config.tls is not None else None
    scheme = "http" if name is None else "https"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{READY_PATH}", _status(host, port, name, READY_PATH)


def _elsewhere(url: str) -> tuple[str, int]:
    parts = urlsplit(check_endpoint(url))
    host, secure = parts.hostname or "", parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return url, _status(host, parts.port or (443 if secure else 80), host if secure else None, path)


def _status(host: str, port: int, tls_name: str | None, path: str) -> int:
    """The status of one GET. Raises ServerUnreachable."""
    from groat.client import ServerUnreachable

    connection = HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.sock = socket.create_connection((host, port), SECONDS)
        if tls_name is not None:
            # SSL_CERT_FILE names a private authority.
            connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=tls_name)
        connection.request("GET", path, headers={"User-Agent": "groat-health"})
        return connection.getresponse().status
    except (OSError, HTTPException) as error:
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or type(error).__name__
        raise ServerUnreachable(f"{host}:{port}{path}: {reason}") from None
    finally:
        connection.close()
