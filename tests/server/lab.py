"""The app in this process, on a real socket, with a clock that only the test moves."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, TypeVar

from benchmarks.app_server import app_server
from groat.app import Clockwork, create_app
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.ring.keyring import Lead
from groat.protocol.client_settings import ClientSettings
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.server import operations
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations import Operator
from groat.server.settings.config import Config, load_config
from groat.server.settings.engines import create_url
from groat.server.settings.open_store import open_store
from groat.server.store import Store
from tests.server.builders import ISS, NOW, ORDERS, STOCK, Party, base
from tests.server.wire import FORM, Answer, check_ok, post, send

Result = TypeVar("Result")
DEFAULTS = "\n[throttle]\nclient_failures = 1000000\nsource_failures = 1000000\n[keys]\nrotate_every = 0\n"


@dataclass(slots=True)
class Clock:
    """Epoch seconds that stand still until a test says otherwise."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now

    @contextlib.contextmanager
    def at(self, now: float) -> Iterator[None]:
        """Another time for a while."""
        before, self.now = self.now, now
        try:
            yield
        finally:
            self.now = before


@dataclass(slots=True)
class Lab:
    """One authorization server of this process, its operator and its log."""

    directory: Path
    config: Config
    kek: KeyEncryptionKey
    clock: Clock
    log: Path
    audit: Audit
    stream: TextIO
    address: tuple[str, int] = ("", 0)
    party: Party = field(default_factory=lambda: Party("billing"))

    @property
    def database(self) -> Path:
        return self.config.database

    def operate(self, work: Callable[[Operator], Coroutine[Any, Any, Result]]) -> Result:
        """Run one operation as another process would: through a store of its own on the same registry."""

        async def run() -> Result:
            store = open_store(self.config)
            try:
                return await work(Operator(store, self.config.policy, self.audit, self.clock))
            finally:
                await store.close()

        return asyncio.run(run())

    def add_client(
        self,
        client_id: str,
        key: PrivateKey | None = None,
        /,
        allow: dict[str, list[str]] | None = None,
        **settings: Any,
    ) -> Party:
        """Register a client that may ask orders:read (and gets it by default), unless told otherwise."""
        party = Party(client_id, key or generate_private_key("ES256"))
        permissions = {"orders": ["orders:read"]} if allow is None else allow
        if allow is None:
            settings.setdefault("default_scopes", ("orders:read",))
        keys, made = (party.key.public,), ClientSettings(**settings)
        self.operate(lambda op: operations.add_client(op, client_id, permissions, keys, made))
        return party

    def rotate(self, lead: Lead | None = None, algorithm: str = "ES256") -> None:
        self.operate(lambda op: operations.rotate_signing_key(operations.Ring(op, self.kek, algorithm, lead or Lead())))

    def ask(self, assertion: str | None = None, **fields: Any) -> Answer:
        """BASE, with a fresh A of the lab's own client unless one is given, and fields changed."""
        return post(self.address, base(assertion or self.party.assertion(), **fields))

    def post(self, body: bytes, content_type: str = FORM, *headers: tuple[str, str]) -> Answer:
        return post(self.address, body, (("Content-Type", content_type), *headers))

    def get(self, target: str, *headers: tuple[str, str]) -> Answer:
        return send(self.address, "GET", target, headers)

    def token(self, assertion: str | None = None, **fields: Any) -> str:
        """The access token of a request that must succeed."""
        return str(check_ok(self.ask(assertion, **fields))["access_token"])

    def kids(self) -> list[str]:
        return [key["kid"] for key in self.get("/.well-known/jwks.json").json["keys"]]

    def lines(self) -> list[bytes]:
        """Every log line so far, as written."""
        return self.log.read_bytes().splitlines()

    def event(self, answer: Answer) -> dict[str, Any]:
        """The one log line of a request."""
        wanted = answer.request_id.encode()
        found = [json.loads(line) for line in self.lines() if wanted in line]
        assert len(found) == 1, found
        assert found[0]["request_id"] == answer.request_id
        return dict(found[0])

    def reason(self, answer: Answer) -> str:
        """Why the log says that a request was refused."""
        return str(self.event(answer)["reason"])


def prepare(
    directory: Path,
    settings: str = DEFAULTS,
    issuer: str = ISS,
    algorithm: str | None = "ES256",
    env: Mapping[str, str] = MappingProxyType({}),
) -> Lab:
    """A configuration, an empty store with two APIs and a signing key, and a clock; nothing runs yet."""
    (directory / "groat.toml").write_text(f'issuer = "{issuer}"\n{settings}')
    config = load_config(directory / "groat.toml", env)
    (directory / "data").mkdir(mode=0o700)
    kek = KeyEncryptionKey.create(config.key_files.encryption_key_file)
    asyncio.run(_create_store(config))
    log = directory / "log"
    stream = log.open("a")
    audit = Audit(EventLog(stream, "debug", False))
    lab = Lab(directory, config, kek, Clock(), log, audit, stream)
    if algorithm is not None:
        lab.rotate(algorithm=algorithm)
    lab.operate(lambda op: operations.add_api(op, "orders", ORDERS, ["orders:read", "orders:write"]))
    lab.operate(lambda op: operations.add_api(op, "stock", STOCK, ["stock:read"]))
    lab.party = lab.add_client("billing")
    return lab


async def _create_store(config: Config) -> None:
    await (await create_url(config.storage.url, config.directory)).close()


@contextlib.contextmanager
def running(lab: Lab, keep_alive: int = 5, store: Store | None = None) -> Iterator[Lab]:
    """Serve the lab's app on a free port, in a thread, with the event loop and parser of production.

    `keep_alive`: seconds after which an idle connection is closed. `store`: one on the lab's database, of a kind that
    the test needs.
    """
    app = create_app(lab.config, store or open_store(lab.config), Clockwork(lab.clock, lab.clock), lab.audit.log)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        lab.address = listener.getsockname()
        server = app_server(app, keep_alive)
        thread = threading.Thread(target=server.run, args=([listener],), name="lab")
        thread.start()
        try:
            _wait(lambda: server.started)
            yield lab
        finally:
            server.should_exit = True
            thread.join(15)
            lab.stream.close()
            assert not thread.is_alive()


def _wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
