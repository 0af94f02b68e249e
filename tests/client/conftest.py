"""Fixtures: a client, an authorization server, an API, clocks to turn, and four ways to send a request."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import MachineClient
from groat.protocol import strict_json
from groat.protocol.jwk import PrivateKey, generate_private_key

from .clocks import Clock
from .servers import Api, AuthorizationServer

CLIENT_ID = "billing"
MakeMachine = Callable[..., MachineClient]


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    return generate_private_key("ES256")


@pytest.fixture
def key_file(key: PrivateKey, tmp_path: Path) -> Path:
    return write_key(tmp_path / "billing.key.json", strict_json.dumps(key.private_jwk()))


def write_key(path: Path, raw: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(raw)
    path.chmod(mode)
    return path


@pytest.fixture
def issuer(key: PrivateKey) -> Iterator[AuthorizationServer]:
    with AuthorizationServer(CLIENT_ID, key.public) as server:
        yield server


@pytest.fixture
def api(issuer: AuthorizationServer) -> Iterator[Api]:
    with Api(issuer) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(issuer: AuthorizationServer, key: PrivateKey) -> Iterator[MakeMachine]:
    """Makes MachineClients for the authorization server of this test and closes them."""
    with ExitStack() as stack:

        def machine(**options: Any) -> MachineClient:
            defaults = {"issuer": issuer.url, "client_id": CLIENT_ID, "key": key}
            return stack.enter_context(MachineClient(**{**defaults, **options}))

        yield machine


@pytest.fixture
def machine(make: MakeMachine, clock: Clock) -> MachineClient:
    """The usual client, on a clock that only the test moves."""
    return make(**clock.options)


@dataclass(frozen=True)
class Call:
    """Send one request over one of the libraries: call(auth, method, url, **options of the library)."""

    library: Any
    is_async: bool

    def __call__(self, auth: Any, method: str, url: str, *, follow_redirects: bool = False, **options: Any) -> Any:
        settings = {"auth": auth, "follow_redirects": follow_redirects}
        if self.is_async:
            return asyncio.run(self._async(settings, method, url, options))
        with self.library.Client(**settings) as client:
            return client.request(method, url, **options)

    async def _async(self, settings: dict[str, Any], method: str, url: str, options: dict[str, Any]) -> Any:
        async with self.library.AsyncClient(**settings) as client:
            return await client.request(method, url, **options)


@pytest.fixture(params=["httpx2", "httpx2-async", "httpx", "httpx-async"])
def call(request: pytest.FixtureRequest) -> Call:
    name, _, way = request.param.partition("-")
    return Call({"httpx": httpx, "httpx2": httpx2}[name], bool(way))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback requests must not leave through a proxy of the machine that runs the tests."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.startswith("GROAT_")]:
        monkeypatch.delenv(name)
