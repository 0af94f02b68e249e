"""A server of this process with its admin listener: over the socket, where this process is an operator, and over TCP."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.jwk import generate_private_key
from groat.server.operations.admin import ADMIN_API, admin_api_is_there
from tests.ports import free_port
from tests.server.builders import ISS, Party
from tests.server.lab import DEFAULTS, Lab, prepare, running
from tests.server.wire import Answer

AUDIENCE: Final = f"{ISS}/admin"
JSON: Final = ("content-type", "application/json")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path, timeout: float = 20.0) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(slots=True)
class Admin:
    """The admin listener of a lab."""

    lab: Lab
    socket: Path
    port: int
    operator: Party = field(default_factory=lambda: Party("ops", generate_private_key("ES256")))

    def over_socket(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """As a process of the server's user asks; `body` as JSON unless it is bytes."""
        return self._ask(UnixConnection(self.socket), method, path, body, headers)

    def over_tcp(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """As somebody else asks."""
        return self._ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), method, path, body, headers)

    def by_token(self, token: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return self.over_tcp(method, path, body, authorization=f"Bearer {token}", **headers)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> Answer:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if raw is not None:
            sent.setdefault("content-type", "application/json")
        with contextlib.closing(connection):
            connection.request(method, path, raw, sent)
            found = connection.getresponse()
            return Answer(found.status, tuple((k.lower(), v) for k, v in found.getheaders()), found.read())

    def token(self, scope: str = "groat:read", party: Party | None = None, **fields: Any) -> str:
        """An access token for the admin API, as the operator's client gets it."""
        chosen = party or self.operator
        return self.lab.token(chosen.assertion(), resource=AUDIENCE, scope=scope, **fields)

    def etag(self, path: str) -> str:
        answer = self.over_socket("GET", path)
        assert answer.status == 200, answer.body
        return answer.header("etag") or ""

    def change(self, method: str, path: str, body: Any = None, status: int = 200, query: str = "") -> dict[str, Any]:
        """A change by the entity tag of now."""
        answer = self.over_socket(method, path + query, body, if_match=self.etag(path))
        assert answer.status == status, answer.body
        return answer.json


@contextlib.contextmanager
def served(directory: Path, more: str = "", **env: str) -> Iterator[Admin]:
    """`more`: of the section [admin]. `env`: settings by the environment."""
    port = free_port()
    settings = f'{DEFAULTS}[admin]\nsocket = "admin.sock"\nlisten = "127.0.0.1:{port}"\n{more}\n'
    lab = prepare(directory, settings, env=env)
    lab.operate(admin_api_is_there)
    admin = Admin(lab, directory / "admin.sock", port)
    lab.add_client("ops", admin.operator.key, allow={ADMIN_API: ["groat:read", "groat:write"]})
    with running(lab):
        deadline = time.monotonic() + 10
        while not admin.socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield admin


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """One for the tests of a module, each of which makes what it changes."""
    with served(tmp_path_factory.mktemp("a")) as ready:
        yield ready
