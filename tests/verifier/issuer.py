"""A real issuer on a real socket: metadata and JWKS, a counter for every path, and answers that can be spoilt."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set
from groat.verifier import RFC9068, Clocks, Dialect, TrustedIssuer, VerificationError, Verifier
from groat.verifier.verifier import Options
from tests.verifier.tokens import AUD, claims, signed

JWKS: Final = "/.well-known/jwks.json"
METADATA: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; `drip`: seconds between single bytes, from the first byte of the status line."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = "application/json"
    drip: float = 0.0
    declared_length: int | None = None

    def raw(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Length: {self.declared_length or len(self.body)}"]
        lines += [f"Content-Type: {self.content_type}"] if self.content_type is not None else []
        lines += [f"{name}: {value}" for name, value in self.headers.items()] + ["Connection: close", "", ""]
        return "\r\n".join(lines).encode() + self.body


def json_answer(document: Any, **changes: Any) -> Answer:
    return Answer(json.dumps(document).encode(), **changes)


class Clock:
    """A clock that stands still until it is moved; for wall time and monotonic time alike."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # many tests come with many at once


class Issuer:
    """Serves until closed. `overrides`: path -> a function that gives the answer for each request to that path.

    `routes`: the same for what looks at a request: path (without its query), whole target, headers and body.
    """

    def __init__(self, algorithm: str = "ES256", path: str = "") -> None:
        self.keys: list[PrivateKey] = [generate_private_key(algorithm)]
        self.requests: Counter[str] = Counter()
        self.seen_headers: list[tuple[str, Mapping[str, str]]] = []
        self.overrides: dict[str, Callable[[], Answer]] = {}
        self.routes: dict[str, Callable[[str, Mapping[str, str], bytes], Answer]] = {}
        self.max_age = 300
        self.etag: str | None = None
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = self.origin + path
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def key(self) -> PrivateKey:
        return self.keys[-1]

    @property
    def fetches(self) -> int:
        return self.requests[JWKS]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def document(self) -> dict[str, Any]:
        return public_key_set([key.public for key in self.keys])

    def metadata(self) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": self.origin + JWKS, "token_endpoint": self.url + "/token"}

    def rotate(self, algorithm: str = "ES256") -> PrivateKey:
        """A new key, published and signing at once, as foreign servers do it."""
        self.keys.append(generate_private_key(algorithm))
        return self.key

    def spoil(self, path: str, answer: Answer | Callable[[], Answer]) -> None:
        self.overrides[path] = answer if callable(answer) else lambda: answer

    def mend(self) -> None:
        self.overrides.clear()

    def token(
        self, key: PrivateKey | None = None, *, typ: str | None = "at+jwt", kid: str | None = "", **changes: Any
    ) -> str:
        """A good token with changes; claims set to ABSENT are left out, `kid=""` means the key's own."""
        key = key or self.key
        return signed(claims(self.url, **changes), key, typ=typ, kid=key.kid if kid == "" else kid)

    def verifier(self, *, dialect: Dialect = RFC9068, **options: Any) -> Verifier:
        """One for this issuer; `clock` and `monotonic` are turned into its clocks."""
        named = {"clock": "now", "monotonic": "monotonic"}
        turned = {named[name]: options.pop(name) for name in named if name in options}
        chosen: Options = {**options, "clocks": Clocks(**turned) if turned else None}  # type: ignore[typeddict-item]
        return Verifier(TrustedIssuer(self.url, dialect=dialect), AUD, **chosen)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        bare = path.partition("?")[0]
        if bare in self.overrides:
            return self.overrides[bare]()
        if bare in self.routes:
            return self.routes[bare](path, headers, body)
        if path == JWKS:
            return self._jwks(headers)
        if path in (METADATA + self.url[len(self.origin) :], self.url[len(self.origin) :] + OPENID):
            return json_answer(self.metadata())
        return Answer(status=404)

    def _jwks(self, headers: Mapping[str, str]) -> Answer:
        extra = {"Cache-Control": f"public, max-age={self.max_age}"}
        if self.etag is not None:
            extra["ETag"] = self.etag
            if headers.get("If-None-Match") == self.etag:
                return Answer(status=304, headers=extra, content_type=None)
        return json_answer(self.document(), headers=extra, content_type="application/jwk-set+json")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests[self.path.partition("?")[0]] += 1
                issuer.seen_headers.append((self.path, dict(self.headers)))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = issuer.answer(self.path, dict(self.headers), body)
                self.close_connection = True
                try:
                    self._send(answer)
                except OSError:
                    return  # the reader had enough

            do_POST = do_GET

            def _send(self, answer: Answer) -> None:
                if not answer.drip:
                    self.wfile.write(answer.raw())
                    return
                for byte in answer.raw():
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(answer.drip)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        return Handler


@contextmanager
def serving(**options: Any) -> Iterator[Issuer]:
    issuer = Issuer(**options)
    try:
        yield issuer
    finally:
        issuer.close()


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that a background thread does; fails if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def closed_port() -> Iterator[str]:
    """An origin at which nobody listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_port
    server.server_close()
    yield f"http://127.0.0.1:{port}"


class Gate:
    """An answer that is held back until the gate opens."""

    def __init__(self, issuer: Issuer, path: str = JWKS) -> None:
        self._issuer, self._path = issuer, path
        self._opened = threading.Event()
        issuer.spoil(path, self._answer)

    def _answer(self) -> Answer:
        assert self._opened.wait(20)
        self._issuer.overrides.pop(self._path, None)
        return self._issuer.answer(self._path, {})

    def open(self) -> None:
        self._opened.set()


@contextmanager
def held(issuer: Issuer, path: str = JWKS) -> Iterator[Gate]:
    gate = Gate(issuer, path)
    try:
        yield gate
    finally:
        gate.open()


def outcome(act: Callable[[], object]) -> str:
    """Why it is refused, or "accepted"."""
    try:
        act()
    except VerificationError as error:
        return error.reason
    return "accepted"
