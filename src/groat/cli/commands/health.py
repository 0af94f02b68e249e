"""`groat health`: is a server ready? The exit code says it, so that containers need no shell and no curl."""

import re
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

import click

from groat.cli.session import Exit, Session
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.uris import check_endpoint, in_url

SECONDS: Final = 3.0
READY_PATH: Final = "/readyz"
MAX_BYTES: Final = 4096
_REASON: Final = re.compile("[a-z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a server said: the beginning of its body, and what it calls the request in its log."""

    status: int
    body: bytes
    request_id: str | None


@click.command()
@click.argument("url", required=False)
@click.pass_obj
def health(session: Session, url: str | None) -> None:
    """Ask whether a server is ready: the one of this configuration, or whatever answers at URL.

    Exit code 0: it answered 200. 7: it answered otherwise. 5: it did not answer, or its certificate is not trusted.
    """
    asked, answer = _own_server(session) if url is None else _elsewhere(url)
    facts = {"url": asked, "status": answer.status, "outcome": "ok" if answer.status == 200 else "not ready"}
    if answer.status != 200:
        told = {"reason": unready_reason(answer.body), "request_id": answer.request_id}
        facts |= {name: value for name, value in told.items() if value}
    session.show(facts, str(answer.status))
    if answer.status != 200:
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


def unready_reason(body: bytes) -> str:
    """The reason that /readyz gives; empty where something else answered."""
    try:
        reason = str(strict_json.loads_object(body).get("reason", ""))
    except JoseError:
        return ""
    return reason if _REASON.fullmatch(reason) else ""


def _own_server(session: Session) -> tuple[str, Answered]:
    """The listener itself, wherever the public name leads; its certificate must still be for the public name."""
    config = session.config()
    host, port = config.listener.local_address
    name = urlsplit(config.policy.issuer).hostname if config.listener.tls is not None else None
    scheme = "http" if name is None else "https"
    return f"{scheme}://{in_url(host)}:{port}{READY_PATH}", _asked(host, port, name, READY_PATH)


def _elsewhere(url: str) -> tuple[str, Answered]:
    parts = urlsplit(check_endpoint(url))
    host, secure = parts.hostname or "", parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return url, _asked(host, parts.port or (443 if secure else 80), host if secure else None, path)


def _asked(host: str, port: int, tls_name: str | None, path: str) -> Answered:
    """The answer to one GET. Raises ServerUnreachable."""
    from groat.client import ServerUnreachable
    from groat.client.errors import request_id

    connection = HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.sock = socket.create_connection((host, port), SECONDS)
        if tls_name is not None:
            # SSL_CERT_FILE names a private authority.
            connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=tls_name)
        connection.request("GET", path, headers={"User-Agent": "groat-health"})
        answer = connection.getresponse()
        named = request_id({name.lower(): value for name, value in answer.getheaders()})
        return Answered(answer.status, answer.read(MAX_BYTES), named)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or type(error).__name__
        raise ServerUnreachable(f"{host}:{port}{path}: {reason}") from None
    finally:
        connection.close()
