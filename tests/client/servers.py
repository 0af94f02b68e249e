"""Scriptable HTTP servers on loopback: an authorization server and an API that remember every byte they were sent.

The authorization server checks assertions with PyJWT and joserfc, never with our own code.
"""

import json
import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import jwt
from joserfc import jws
from joserfc.jwk import OKPKey

from groat.protocol.jwk import PublicKey

Body = bytes | str | dict[str, Any] | list[Any]
METADATA_PATH = "/.well-known/oauth-authorization-server"


@dataclass(frozen=True)
class Seen:
    """One request as it came over the socket. `certificate`: what its caller has shown in the handshake, in DER."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    certificate: bytes | None = None

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def form(self) -> dict[str, str]:
        pairs = parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs), "a form field was repeated"
        return dict(pairs)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Reply:
    """What to answer. `drip`: seconds before each single byte of the body. Status 0 hangs up without a word."""

    status: int = 200
    body: Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drip: float = 0.0

    @property
    def raw(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


class Server:
    """A threaded HTTP server on a free loopback port. Override `answer`; replies in `script` come first."""

    scripted_path = "/"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.script: deque[Reply] = deque()
        self.failures: list[Exception] = []
        self._lock = threading.Lock()
        self._http = _HttpServer(self.receive)
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        scheme = "https" if tls is not None else "http"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)
        assert not self.failures, self.failures

    def receive(self, request: Seen) -> Reply:
        """Handle; a failed check of ours fails the test when the server is left."""
        try:
            return self.handle(request)
        except Exception as failure:
            self.failures.append(failure)
            return Reply(400, "the test's server failed")

    def handle(self, request: Seen) -> Reply:
        with self._lock:
            self.seen.append(request)
            if request.path == self.scripted_path and self.script:
                return self.script.popleft()
        return self.answer(request)

    def answer(self, request: Seen) -> Reply:
        return Reply(404, "<h1>not here</h1>")

    def seen_at(self, path: str) -> list[Seen]:
        return [request for request in self.seen if request.path == path]


class AuthorizationServer(Server):
    """Issues opaque tokens for good assertions of one client; `members` overrides members of the token response."""

    scripted_path = "/token"

    def __init__(self, client_id: str, key: PublicKey, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.client_id = client_id
        self.key = key
        self.metadata: Body = {"issuer": self.url, "token_endpoint": f"{self.url}/token"}
        self.members: dict[str, Any] = {}
        self.issued: dict[str, dict[str, str]] = {}
        self.assertions: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.jtis: set[str] = set()
        self.gate: threading.Event | None = None

    @property
    def token_requests(self) -> list[Seen]:
        return self.seen_at("/token")

    @property
    def claims(self) -> list[dict[str, Any]]:
        return [claims for _, claims in self.assertions]

    def answer(self, request: Seen) -> Reply:
        if request.path == METADATA_PATH:
            return Reply(200, self.metadata, {"Content-Type": "application/json"})
        if request.path != "/token":
            return super().answer(request)
        if self.gate is not None:
            assert self.gate.wait(30)
        return self.issue(request)

    def handle(self, request: Seen) -> Reply:
        if request.path == "/token":
            self.judge(request)
        return super().handle(request)

    def judge(self, request: Seen) -> None:
        """Verify the assertion of any token request, also of one whose answer is scripted."""
        header, claims = verify_assertion(request.form["client_assertion"], self.key)
        with self._lock:
            self.assertions.append((header, claims))
            assert claims["jti"] not in self.jtis, "a jti came twice"
            self.jtis.add(claims["jti"])

    def issue(self, request: Seen) -> Reply:
        form = request.form
        token = f"opaque/{secrets.token_urlsafe(24)}"
        with self._lock:
            self.issued[token] = {"scope": form.get("scope", ""), "resource": form.get("resource", "")}
        body = {"access_token": token, "token_type": "Bearer", "expires_in": 600, **self.members}
        kept = {name: value for name, value in body.items() if value is not ...}
        return Reply(200, kept, {"Content-Type": "application/json", "Cache-Control": "no-store"})


class Api(Server):
    """Accepts the tokens that `issuer` made, but for those in `revoked`."""

    def __init__(self, issuer: AuthorizationServer) -> None:
        super().__init__()
        self.issuer = issuer
        self.revoked: set[str] = set()

    @property
    def tokens(self) -> list[str | None]:
        """The tokens that came, in order; None for a request without."""
        values = [request.header("authorization") for request in self.seen]
        return [None if value is None else value.removeprefix("Bearer ") for value in values]

    def answer(self, request: Seen) -> Reply:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if not token:
            return Reply(401, {}, {"WWW-Authenticate": 'Bearer realm="api"'})
        if scheme != "Bearer" or token not in self.issuer.issued or token in self.revoked:
            return INVALID_TOKEN
        return Reply(200, {"scope": self.issuer.issued[token]["scope"], "bytes": len(request.body)})


INVALID_TOKEN = Reply(401, {}, {"WWW-Authenticate": 'Bearer realm="api", error="invalid_token"'})


def verify_assertion(assertion: str, key: PublicKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the signature with a library that is not ours; returns header and claims. Times are the tests' business."""
    header = jwt.get_unverified_header(assertion)
    if header["alg"] == "Ed25519":  # PyJWT knows it as EdDSA only
        bare = OKPKey.import_key({name: key.jwk[name] for name in ("kty", "crv", "x")})
        claims = json.loads(jws.deserialize_compact(assertion, bare, algorithms=["Ed25519"]).payload)
        return dict(header), dict(claims)
    options: Any = {"verify_signature": True, "verify_exp": False, "verify_iat": False, "verify_aud": False}
    names = ["EdDSA" if name == "Ed25519" else name for name in key.algorithms]
    return dict(header), dict(jwt.decode(assertion, key.native, algorithms=names, options=options))


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def __init__(self, receive: Callable[[Seen], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.receive = receive

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        shown = self.connection.getpeercert(True) if isinstance(self.connection, ssl.SSLSocket) else None
        reply = self.server.receive(Seen(self.command, self.path, tuple(self.headers.items()), body, shown))
        if reply.status == 0:
            self.close_connection = True
            return
        self.send_response_only(reply.status)  # without a Date of its own
        for name, value in {**reply.headers, "Content-Length": str(len(reply.raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self._write(reply)

    def _write(self, reply: Reply) -> None:
        if not reply.drip:
            self.wfile.write(reply.raw)
            return
        for at in range(len(reply.raw)):
            time.sleep(reply.drip)
            self.wfile.write(reply.raw[at : at + 1])

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
