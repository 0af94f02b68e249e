"""Where WSGI has what of a request (PEP 3333), for the frameworks that are run by it."""

import re
import ssl
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from groat.protocol.grammar import PATH_CHARS, TOKEN
from groat.verifier.certificates import Connection
from groat.verifier.protected_resource import ApiRequest, ProtectedResource

Environ = dict[str, Any]
WsgiApp = Callable[[Environ, Any], Iterable[bytes]]

_MARK: Final = re.compile(r'\\.|[",]')
# One more parameter of the credentials before it, such as realm="x" in Digest: no scheme has its = there.
_PARAMETER: Final = re.compile(rf"[ \t]*{TOKEN}[ \t]*=[ \t]*[^=]")


def api_request(environ: Environ) -> ApiRequest:
    """What of a request decides who is let in: the one place that says where WSGI has it."""

    def lines(name: str) -> list[str]:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else field_lines(value)

    # A server writes bytes as latin-1; what a test client wrote otherwise is no name that anybody looks for.
    query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    method = environ.get("REQUEST_METHOD", "")
    return ApiRequest(lines, query, method, lambda: _target(environ), lambda: environ, lambda: _connection(environ))


def _connection(environ: Environ) -> Connection:
    """Over what it came, whatever Werkzeug's ProxyFix has made of it since."""

    def whole(name: str) -> list[str]:
        # Lines that a server has joined stay one: no dialect but Traefik's has a comma, and a part would pass for all.
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [value]

    before = environ.get("werkzeug.proxy_fix.orig") or environ
    return Connection(str(before.get("REMOTE_ADDR") or ""), _leaf(environ), whole)


def _leaf(environ: Environ) -> bytes | str | None:
    """The certificate that the server itself has seen: PEP 3333 has no place for it, so each has its own.

    mod_wsgi (ExportCertData) and Werkzeug write SSL_CLIENT_CERT, gunicorn hands over its socket.
    """
    if written := environ.get("SSL_CLIENT_CERT"):
        return str(written)
    connection = environ.get("gunicorn.socket")
    return connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None


def _target(environ: Environ) -> str:
    """The path as it was sent, where the server kept it and nobody has changed it since; else as it must have been."""
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1", "replace")
    for name in ("RAW_URI", "REQUEST_URI"):
        sent = str(environ.get(name) or "").partition("?")[0]
        if sent.startswith("/") and unquote_to_bytes(sent) == path:
            return sent
    return quote(path, safe=PATH_CHARS)


def field_lines(value: str) -> list[str]:
    """The header lines that a server may have joined with commas to this value.

    Several credentials in one line look the same and are as wrong (RFC 9110 11.6.2). Commas in quotes and before
    further parameters of the same credentials (Digest) divide nothing. No token has a comma, so that whatever is cut
    here, it lets nobody in who was refused whole.
    """
    lines: list[str] = []
    for part in _parts(value) if "," in value else [value]:
        if lines and _PARAMETER.match(part):
            lines[-1] += "," + part
        else:
            lines.append(part)
    return lines


def _parts(value: str) -> list[str]:
    """The value, cut at each comma outside of quotes; in one pass, since strangers choose its length."""
    parts, start, quoted = [], 0, False
    for mark in _MARK.finditer(value):
        if mark[0] == '"':
            quoted = not quoted
        elif mark[0] in (",", "\\,") and not quoted:
            parts.append(value[start : mark.end() - 1])
            start = mark.end()
    return [*parts, value[start:]]


def paths(environ: Environ) -> tuple[str, str]:
    """The path inside of the application, and the one that was sent, as far as the server knows."""
    inside = environ.get("PATH_INFO", "")
    return _text(inside), _text(environ.get("SCRIPT_NAME", "") + inside)


def _text(value: str) -> str:
    return value.encode("latin-1", "replace").decode("utf-8", "replace")


class Public:
    """Around an application: the metadata of the API are served to anybody, before anything else is asked."""

    def __init__(self, app: WsgiApp, resource: ProtectedResource) -> None:
        self._app = app
        self._resource = resource

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        answer = self._resource.public(environ["REQUEST_METHOD"], *paths(environ))
        if answer is None:
            return self._app(environ, start_response)
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


__all__ = ["Public", "api_request", "field_lines", "paths"]
