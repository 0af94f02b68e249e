"""An API server of Kubernetes as far as TokenReview goes, over TLS: it answers as its `says`, and keeps what it was asked.

What it sends is that of a real one: `kubectl create -f` of a TokenReview against Kubernetes 1.34, status 201.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tests.certificates import self_signed, serving

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
ALLOWED: Final = "token-that-may-review"


def good(spec: dict[str, Any]) -> dict[str, Any]:
    """The status of a token that counts."""
    user = {"username": "system:serviceaccount:billing:worker", "uid": "14ee3fa4", "groups": ["system:authenticated"]}
    return {"authenticated": True, "user": user, "audiences": spec["audiences"]}


@dataclass(slots=True)
class ApiServer:
    """`says`: the status for a spec; `status`: of HTTP; `pause`: seconds before each answer; `asked`: specs so far."""

    says: Callable[[dict[str, Any]], Any] = good
    status: int = 201
    pause: float = 0.0
    kind: str = "TokenReview"
    asked: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def answer(self, path: str, bearer: str, question: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path != PATH or question.get("apiVersion") != "authentication.k8s.io/v1":
            return 404, {"kind": "Status", "code": 404}
        if bearer != f"Bearer {ALLOWED}":
            return 401, {"kind": "Status", "code": 401}
        self.asked.append(question["spec"])
        time.sleep(self.pause)
        return self.status, {**question, "kind": self.kind, "status": self.says(question["spec"])}


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, document = server.answer(self.path, self.headers["authorization"], json.loads(body))
            sent = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    return Handler


class _Listening(ThreadingHTTPServer):
    """The handshake is the business of the connection's own thread, so that a broken one is in nobody's way."""

    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.context.wrap_socket(request, server_side=True) as stream:
                super().finish_request(stream, client_address)
        except OSError:
            return  # the peer does not trust this one, or has gone


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """A running one, whose authority is ca.pem in the folder."""
    _, both = self_signed(folder)
    server = ApiServer()
    listening = _Listening(("127.0.0.1", 0), _handler(server))
    listening.context = serving(both)
    server.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join(5)
