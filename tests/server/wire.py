"""Requests as odd as a test wants them, over a real socket, and what every answer must look like."""

import http.client
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

FORM: Final = "application/x-www-form-urlencoded"
CHARSET: Final = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749 5.2
CODES: Final = frozenset(
    [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_token_type",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "unsupported_response_type",
        "temporarily_unavailable",
        "server_error",
        "invalid_dpop_proof",
        "use_dpop_nonce",
    ]
)
Address = tuple[str, int]
Headers = Sequence[tuple[str, str]]
Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete response; header names are lower case, in order, repeats kept."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def request_id(self) -> str:
        return self.header("x-request-id") or ""

    def header(self, name: str) -> str | None:
        """The one value of a header; None if absent. Repeats fail."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    def comparable(self) -> tuple[object, ...]:
        """Everything that must not differ between two causes of one refusal."""
        moving = {"date", "x-request-id"}
        return self.status, tuple(h for h in self.headers if h[0] not in moving), self.body


class Connection:
    """One kept-alive connection."""

    def __init__(self, address: Address, timeout: float = 20.0) -> None:
        self._http = http.client.HTTPConnection(*address, timeout=timeout)

    def connect(self) -> None:
        self._http.connect()

    def ask(self, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Answer:
        """Send exactly these headers besides Host and Content-Length, which are added where they are missing."""
        names = {name.lower() for name, _ in headers}
        self._http.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
        for name, value in headers:
            self._http.putheader(name, value.encode("utf-8"))
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders(body)
        response = self._http.getresponse()
        received = tuple((name.lower(), value) for name, value in response.getheaders())
        return Answer(response.status, received, response.read())

    def close(self) -> None:
        self._http.close()

    def abort(self) -> None:
        """End it while somebody waits for an answer."""
        if self._http.sock is not None:
            self._http.sock.shutdown(socket.SHUT_RDWR)


def send(address: Address, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    connection = Connection(address)
    try:
        return connection.ask(method, target, headers, body)
    finally:
        connection.close()


def post(address: Address, body: bytes, headers: Headers = (("Content-Type", FORM),), target: str = "/token") -> Answer:
    """One token request of any body."""
    return send(address, "POST", target, headers, body)


def raw(address: Address, data: bytes, timeout: float = 5.0) -> bytes:
    """Send bytes as they are and read until the server closes or falls silent."""
    received = bytearray()
    with socket.create_connection(address, timeout) as connection:
        try:
            connection.sendall(data)
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
    return bytes(received)


def encoded(fields: Fields) -> bytes:
    """A form body."""
    return urlencode(fields).encode()


def check_private_json(answer: Answer) -> None:
    """What holds for every answer of the token endpoint, good or bad (AS-TE-18, AS-TE-32)."""
    assert answer.header("content-type") == "application/json"
    assert "no-store" in (answer.header("cache-control") or "")
    assert answer.header("pragma") == "no-cache"
    assert re.fullmatch(r"[A-Za-z0-9_-]{16,64}", answer.request_id)
    names = {name for name, _ in answer.headers}
    assert not names & {"set-cookie", "location", "etag", "server", "x-powered-by"}
    assert not any(name.startswith("access-control-") for name in names)


def check_ok(answer: Answer) -> dict[str, Any]:
    """OK: 200 with a token response of exactly the allowed members; returns it."""
    assert answer.status == 200, answer
    check_private_json(answer)
    document = answer.json
    assert document.keys() <= {"access_token", "token_type", "expires_in", "scope"}
    assert {"access_token", "token_type", "expires_in"} <= document.keys()
    return document


def check_refused(answer: Answer, code: str, status: int = 400) -> None:
    """E(code): that status and code, JSON of the allowed members and characters, and nothing else."""
    assert (answer.status, answer.json.get("error")) == (status, code), answer
    check_private_json(answer)
    document = answer.json
    assert document.keys() <= {"error", "error_description", "error_uri"}
    assert code in CODES
    assert all(isinstance(value, str) and CHARSET.fullmatch(value) for value in document.values())
    if status in (429, 503):
        assert int(answer.header("retry-after") or "0") >= 1


EC_BODY: Final = b'{"error":"invalid_client","error_description":"Client authentication failed."}'


def check_ec(answer: Answer) -> None:
    """EC: the one appearance of every failed authentication; no challenge, as no header was used (D1)."""
    check_refused(answer, "invalid_client", 401)
    assert answer.body == EC_BODY
    assert answer.header("www-authenticate") is None
