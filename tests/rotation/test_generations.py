"""A real server at default settings, left alone for three months on a clock that the test turns; clients that follow."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.app_server import app_server
from groat.app import Clockwork, create_app
from groat.client import MachineClient
from groat.keys.files import private_key_bytes
from groat.keys.ring.keyring import PUBLISH_LEAD
from groat.protocol.jwk import PrivateKey, base64url_decode, generate_private_key
from groat.server import operations
from groat.server.log.event_log import EventLog
from groat.server.operations.operator import Operator
from groat.server.settings.config import load_config
from groat.server.store.sqlite.store import SqliteStore
from groat.verifier import Clocks, Verifier

from .soak import AUDIENCE, ISSUER, Load, prepare, quiet

DAY: Final = 86_400
START: Final = 1_800_000_000
DEFAULTS: Final = f'issuer = "{ISSUER}"\n[throttle]\nclient_failures = 1000000\nsource_failures = 1000000\n'


@dataclass(slots=True)
class World:
    """The clock of everybody, and how often the rotator has looked."""

    now: float = START
    looks: int = 0
    address: tuple[str, int] = ("", 0)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert 15 <= seconds <= 45
        self.looks += 1
        await asyncio.sleep(0.001)

    def move(self, to: float) -> None:
        """Turn the clock, and let the rotator look once more, as it does twice a minute."""
        self.now = to
        seen, deadline = self.looks, time.monotonic() + 10
        while self.looks < seen + 2:
            assert time.monotonic() < deadline, "the rotator has stopped"
            time.sleep(0.0005)


@contextlib.contextmanager
def serving(directory: Path, world: World, settings: str = DEFAULTS) -> Iterator[Load]:
    """The app in a thread, on a free port; yields what asks it for tokens."""
    config, key = prepare(directory, world.clock, settings)
    with socket.create_server(("127.0.0.1", 0)) as listener, (directory / "log").open("a") as stream:
        world.address = listener.getsockname()[:2]
        log = EventLog(stream, "info", False)
        app = create_app(
            config, SqliteStore.open(config.database), Clockwork(world.clock, world.clock, world.sleep), log
        )
        server = app_server(app)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield Load([world.address], key, world.clock, 100.0, [])
        finally:
            server.should_exit = True
            thread.join(15)


def expiry(token: str) -> float:
    """When a token expires, unverified."""
    return float(json.loads(base64url_decode(token.split(".")[1]))["exp"])


def moments() -> list[float]:
    """Twice a day for a hundred days; every minute around each takeover and each removal."""
    coarse = {START + hour * 3600 for hour in range(0, 100 * 24, 12)}
    takeovers = (START - 3600 + n * 30 * DAY for n in (1, 2, 3))
    fine = {at + second for at in takeovers for second in range(-240, 960, 60)}
    early = {START - 3600 + n * 30 * DAY - PUBLISH_LEAD + s for n in (1, 2, 3) for s in (-60, 0, 30, 60)}
    return sorted(at for at in coarse | fine | early if at >= START)


@pytest.mark.rule("KEY-19", "KEY-20", "KEY-22", "AS-MD-15", "I4", "I5")
def test_left_alone_at_default_settings_it_rotates_three_times(tmp_path: Path) -> None:
    """Every token that lives is verified at every moment, by a verifier that polls and by one that just came."""
    world = World()
    with serving(tmp_path, world) as load:
        uri = f"http://127.0.0.1:{world.address[1]}/.well-known/jwks.json"

        def verifier() -> Verifier:
            return Verifier(ISSUER, AUDIENCE, jwks_uri=uri, clocks=Clocks(world.clock, world.clock))

        old, tokens = verifier(), list[str]()
        connection = http.client.HTTPConnection(*world.address, timeout=10)
        for moment in moments():
            world.move(moment)
            for _ in range(2):
                load.ask(connection)
            tokens = [token for token in [*tokens, *load.tokens] if expiry(token) > moment]
            load.tokens.clear()
            fresh = verifier()
            for token in tokens:
                old.verify(token)
                fresh.verify(token)
            fresh.close()
        connection.close()
    assert load.refused == []
    assert len(load.first_iat) == 4
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert [events.count(f"key.{what}") for what in ("published", "rotation_failed")] == [4, 0]
    assert events.count("key.destroyed") in (2, 3)  # the last waits until its uses are purged, which takes real time


@pytest.mark.rule("KEY-22", "KEY-23", "CL-23")
def test_a_client_follows_its_key_file_under_load(tmp_path: Path) -> None:
    """Twenty times the next key is registered, the file replaced, the old key removed; eight threads notice nothing."""
    world = World(time.time())
    with serving(tmp_path, world) as load:
        file = tmp_path / "client.key.json"
        _replace(file, load.key)
        scopes = [f"s{n}" for n in range(4000)]
        operate(tmp_path, world, lambda op: operations.update_api(op, "orders", operations.ApiWish(add_scopes=scopes)))
        operate(tmp_path, world, lambda op: operations.update_client(op, "load", allow={"orders": ["read", *scopes]}))
        endpoint = "http://{}:{}/token".format(*world.address)
        client = MachineClient(ISSUER, "load", file, token_endpoint=endpoint)
        stop, used, failures = threading.Event(), iter(scopes), list[str]()

        asked = [0] * 8

        def ask(number: int) -> None:
            # Every wish is another one, so that no cache answers.
            while not stop.is_set() and (scope := next(used, None)) is not None:
                world.now = time.time()
                try:
                    client.token(AUDIENCE, [scope])
                except Exception as error:
                    failures.append(repr(error))
                asked[number] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        current = load.key
        for _ in range(20):
            fresh = generate_private_key("ES256")
            operate(tmp_path, world, lambda op, k=fresh: operations.add_client_keys(op, "load", (k.public,)))  # type: ignore[misc]
            _replace(file, fresh)
            before, deadline = list(asked), time.monotonic() + 20
            while any(now < then + 2 for now, then in zip(asked, before, strict=True)):  # old assertions arrive
                assert time.monotonic() < deadline
                time.sleep(0.005)
            operate(tmp_path, world, lambda op, k=current: operations.remove_client_key(op, "load", k.kid))  # type: ignore[misc]
            current = fresh
        stop.set()
        for thread in threads:
            thread.join(15)
        client.close()
        issued = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if "token.issued" in line]
    assert failures == []
    assert len({line["key"] for line in issued}) >= 19
    assert len(issued) > 200


def _replace(file: Path, key: PrivateKey) -> None:
    """Put another key under this name at once, as a deployment would."""
    temporary = file.with_suffix(".new")
    temporary.touch(0o600)
    temporary.write_bytes(private_key_bytes(key))
    temporary.rename(file)


def operate(directory: Path, world: World, work: Callable[[Operator], Coroutine[Any, Any, Any]]) -> None:
    """Run one operation as another process would."""

    async def run() -> None:
        config = load_config(directory / "groat.toml", {})
        store = SqliteStore.open(config.database)
        try:
            await work(Operator(store, config.policy, quiet(), world.clock))
        finally:
            await store.close()

    asyncio.run(run())
