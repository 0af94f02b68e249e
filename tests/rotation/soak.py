"""Rotation under load: two replicas, four verifier processes, a new signing key every second.

python -m tests.rotation.soak [SECONDS] [TOKENS_PER_SECOND]

The servers, the verifiers and the store are the real ones; their clock runs sixty times as fast, because no setting
allows tokens of ten seconds or key sets that are good for one. Seconds on that clock are called "fast" below.
"""

import asyncio
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks.app_server import serve_by_clock
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.ring.schedule import MAX_PUBLISHED
from groat.protocol import jose, strict_json
from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import InvalidToken, KeysUnavailable
from groat.protocol.jwk import PrivateKey, base64url_decode, base64url_encode, generate_private_key
from groat.server import operations
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations.first_start import begin_memory
from groat.server.operations.operator import Operator
from groat.server.settings.config import Config, load_config
from groat.server.store.sqlite.store import SqliteStore
from groat.verifier import Clocks, Verifier

ROOT: Final = Path(__file__).parents[2]
ISSUER: Final = "https://as.example"
AUDIENCE: Final = "https://orders.example"
SPEED: Final = 60
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SETTINGS: Final = f"""issuer = "{ISSUER}"
[tokens]
lifetime = 600
[assertions]
max_lifetime = 600
[keys]
rotate_every = 60
jwks_max_age = 60
verifier_cache = 60
[throttle]
client_failures = 1000000
source_failures = 1000000
"""


@dataclass(frozen=True, slots=True)
class FastClock:
    """Epoch seconds that run faster since `origin`; `error`: how far this clock is off."""

    origin: float
    error: float = 0.0

    def __call__(self) -> float:
        return self.origin + (time.time() - self.origin) * SPEED + self.error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)


# One verifier


@dataclass(slots=True)
class Verdicts:
    """What one verifier saw. `failures`: reasons for which tokens inside their lifetime were refused."""

    verified: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    revoked_at: float | None = None
    last_accepted_revoked: float = 0.0


def verify_forever(jwks_uri: str, clock: FastClock, mode: str) -> None:
    """Verify each token of standard input when it comes and again just before it expires; print the verdicts.

    Modes: `plain`; `polling`: unknown kids never cause a fetch; `flooded`: a token with a random kid before each.
    """
    cooldown = 1e12 if mode == "polling" else 30
    verifier = Verifier(
        ISSUER, AUDIENCE, jwks_uri=jwks_uri, clocks=Clocks(clock, clock), refresh_cooldown=cooldown, clock_tolerance=60
    )
    if mode == "polling":  # the first unknown kid is free, so it is spent here
        with suppress(InvalidToken, KeysUnavailable):
            verifier.verify(_unknown())
    verdicts, later = Verdicts(), deque[tuple[float, str]]()
    for line in sys.stdin:
        token = line.strip()
        if mode == "flooded":
            with suppress(InvalidToken, KeysUnavailable):
                verifier.verify(_unknown())
        expires_at = _claims(token)["exp"]
        later.append((expires_at - 60, token))
        _judge(verifier, token, expires_at, clock, verdicts)
        while later and later[0][0] <= clock():
            _, old = later.popleft()
            _judge(verifier, old, _claims(old)["exp"], clock, verdicts)
    sys.stdout.write(json.dumps({"verified": verdicts.verified, "failures": verdicts.failures}))


def _judge(verifier: Verifier, token: str, expires_at: float, clock: FastClock, verdicts: Verdicts) -> None:
    try:
        verifier.verify(token)
        verdicts.verified += 1
    except (InvalidToken, KeysUnavailable) as error:
        if clock() < expires_at:  # afterwards a refusal is right
            verdicts.failures[error.reason] = verdicts.failures.get(error.reason, 0) + 1


def _claims(token: str) -> dict[str, Any]:
    return dict(json.loads(base64url_decode(token.split(".")[1])))


def _kid(token: str) -> str:
    return str(json.loads(base64url_decode(token.split(".")[0]))["kid"])


def _unknown() -> str:
    header = base64url_encode(json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": secrets.token_hex(8)}).encode())
    claims = base64url_encode(json.dumps({"iss": ISSUER, "aud": AUDIENCE, "exp": 2**40}).encode())
    return f"{header.decode()}.{claims.decode()}.{base64url_encode(bytes(64)).decode()}"


# The load


@dataclass(slots=True)
class Load:
    """Asks both replicas in turn and hands every token to every verifier."""

    addresses: list[tuple[str, int]]
    key: PrivateKey
    clock: Callable[[], float]
    rate: float
    sinks: list[Any]
    issued: int = 0
    refused: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    first_iat: dict[str, int] = field(default_factory=dict)
    last_signed: dict[str, float] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, number: int, of: int) -> None:
        host, port = self.addresses[number % len(self.addresses)]
        connection = http.client.HTTPConnection(host, port, timeout=10)
        due = time.monotonic()
        while not self.stop.is_set():
            self.ask(connection)
            due = max(due + of / self.rate, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
        connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> None:
        """Ask for one token, and note what came."""
        form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER}
        body = urlencode({**form, "client_assertion": self._assertion()})
        sent = time.time()
        connection.request("POST", "/token", body, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            self.refused.append(f"{answer.status} {content[:100]!r}")
            return
        self._note(json.loads(content)["access_token"], sent)

    def _note(self, token: str, sent: float) -> None:
        kid, iat = _kid(token), _claims(token)["iat"]
        with self.lock:
            self.issued += 1
            self.first_iat[kid] = min(iat, self.first_iat.get(kid, iat))
            self.last_signed[kid] = max(sent, self.last_signed.get(kid, 0.0))
            self.tokens += [] if self.sinks else [token]
            for sink in self.sinks:
                sink.write(token + "\n")
                sink.flush()

    def _assertion(self) -> str:
        now = int(self.clock())
        claims = {"iss": "load", "sub": "load", "aud": ISSUER, "iat": now - 30, "exp": now + 300}
        header = jose.encode_header("ES256", self.key.kid, "client-authentication+jwt")
        data = jose.signing_input(header, strict_json.dumps({**claims, "jti": secrets.token_hex(16)}))
        return (data + b"." + base64url_encode(jose.sign(data, self.key))).decode()


@dataclass(slots=True)
class Watch:
    """Reads the JWKS of every replica again and again: when was each kid first seen, and how many were there."""

    addresses: list[tuple[str, int]]
    clock: FastClock
    first_seen: dict[str, float] = field(default_factory=dict)
    last_seen: dict[str, float] = field(default_factory=dict)
    most: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connections = [http.client.HTTPConnection(host, port, timeout=10) for host, port in self.addresses]
        while not self.stop.wait(0.1):
            for connection in connections:
                connection.request("GET", "/.well-known/jwks.json")
                kids = [key["kid"] for key in json.loads(connection.getresponse().read())["keys"]]
                self.most = max(self.most, len(kids))
                for kid in kids:
                    self.first_seen.setdefault(kid, self.clock())
                    self.last_seen[kid] = time.time()
        for connection in connections:
            connection.close()


# The whole


def prepare(directory: Path, clock: Callable[[], float], settings: str = SETTINGS) -> tuple[Config, PrivateKey]:
    """A store with a first key (from an hour ago), an API and the client that makes the load."""
    (directory / "groat.toml").write_text(settings)
    config = load_config(directory / "groat.toml", {})
    config.database.parent.mkdir(mode=0o700)
    kek, key = KeyEncryptionKey.create(config.key_files.encryption_key_file), generate_private_key("ES256")

    async def fill() -> None:
        store = SqliteStore.create(config.database)
        await begin_memory(store, clock)
        operator = Operator(store, config.policy, quiet(), lambda: clock() - 3600)
        await operations.first_signing_key(operations.Ring(operator, kek, "ES256"))
        await operations.add_api(operator, "orders", AUDIENCE, ["read"])
        defaults = ClientSettings(default_scopes=("read",))
        await operations.add_client(operator, "load", {"orders": ["read"]}, (key.public,), defaults)
        await store.close()

    asyncio.run(fill())
    return config, key


def quiet() -> Audit:
    return Audit(EventLog(sys.stderr, "error", False))


def revoke(config: Config, clock: FastClock, kid: str) -> float:
    """Revoke a key as an operator's command does; returns the real time at which that was done."""

    async def work() -> None:
        store = SqliteStore.open(config.database)
        kek = KeyEncryptionKey.load(config.key_files.encryption_key_file)
        operator = Operator(store, config.policy, quiet(), clock)
        await operations.revoke_signing_key(operations.Ring(operator, kek, "ES256", config.timing.lead), kid)
        await store.close()

    asyncio.run(work())
    return time.time()


def created_at(config: Config) -> dict[str, int]:
    async def work() -> dict[str, int]:
        store = SqliteStore.open(config.database)
        keys = await store.signing_keys()
        await store.close()
        return {key.kid: key.created_at for key in keys}

    return asyncio.run(work())


@contextmanager
def processes(directory: Path, clock: FastClock) -> Iterator[tuple[list[tuple[str, int]], list[subprocess.Popen[str]]]]:
    """Two replicas (one with a clock that is 20 fast seconds ahead) and four verifiers."""
    started: list[subprocess.Popen[str]] = []
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(2)]
    addresses: list[tuple[str, int]] = [listener.getsockname()[:2] for listener in listeners]
    try:
        for listener, error in zip(listeners, (0, 20), strict=True):
            listener.set_inheritable(True)
            words = ["serve", str(directory), str(listener.fileno()), str(clock.origin), str(error)]
            started.append(_start(words, pass_fds=(listener.fileno(),)))
        for address in addresses:
            _wait_until_ready(address)
        for number, mode in enumerate(("plain", "plain", "polling", "flooded")):
            host, port = addresses[number % 2]
            uri = f"http://{host}:{port}/.well-known/jwks.json"
            started.append(
                _start(["verify", uri, str(clock.origin), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        yield addresses, started[2:]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(15)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        for listener in listeners:
            listener.close()


def _start(words: list[str], **options: Any) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.rotation.soak", *words], cwd=ROOT, env=env, text=True, **options
    )


def _wait_until_ready(address: tuple[str, int]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError):
            connection = http.client.HTTPConnection(*address, timeout=2)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                connection.close()
                return
        time.sleep(0.1)
    raise AssertionError("a replica does not start")


@contextmanager
def threads(*works: Callable[[], None]) -> Iterator[None]:
    running = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(15)


def soak(seconds: float, rate: float) -> dict[str, Any]:
    """Run it all for that long, revoke the active key near the end, and report what was seen."""
    clock = FastClock(time.time())
    with tempfile.TemporaryDirectory(prefix="groat-soak-") as name:
        config, key = prepare(Path(name), clock)
        with processes(Path(name), clock) as (addresses, verifiers):
            load = Load(addresses, key, clock, rate, [process.stdin for process in verifiers])
            watch = Watch(addresses, clock)
            with threads(*(lambda n=n: load.run(n, 4) for n in range(4)), watch.run):  # type: ignore[misc]
                time.sleep(seconds)
                load.stop.set()
                watch.stop.set()
            outcomes = [json.loads(process.communicate(timeout=60)[0]) for process in verifiers]
            report = _report(config, load, watch, outcomes)
            report |= _revocation(config, clock, load, addresses)
        logs = "".join(path.read_text() for path in Path(name).glob("serve-*.log"))
        report["rotation_failures"] = logs.count("key.rotation_failed")
        report["server_errors"] = logs.count("server.error")
    return report


def _report(config: Config, load: Load, watch: Watch, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    made = created_at(config)
    first = min(made.values())
    leads = [iat - made[kid] for kid, iat in load.first_iat.items() if made[kid] != first]
    seen = [iat - watch.first_seen[kid] for kid, iat in load.first_iat.items() if made[kid] != first]
    return {
        "tokens": load.issued,
        "refused": load.refused[:5],
        "signers": len(load.first_iat),
        "verifications": sum(outcome["verified"] for outcome in outcomes),
        "failures": [outcome["failures"] for outcome in outcomes],
        "caches_hold": (config.timing.jwks_max_age + config.timing.verifier_cache) / SPEED,
        "promised_lead": config.timing.lead.publish / SPEED,
        "least_lead": min(leads, default=0) / SPEED,
        "least_seen_before_signing": round(min(seen, default=0) / SPEED, 2),
        "most_keys": watch.most,
    }


def _revocation(config: Config, clock: FastClock, load: Load, addresses: list[tuple[str, int]]) -> dict[str, Any]:
    """Revoke whatever signs while new load runs; for how long did anybody still sign with it or publish it?"""
    again = Load(addresses, load.key, clock, load.rate, [])
    watch = Watch(addresses, clock)
    with threads(*(lambda n=n: again.run(n, 4) for n in range(4)), watch.run):  # type: ignore[misc]
        time.sleep(1.5)
        with again.lock:
            stolen = max(again.last_signed, key=lambda kid: again.last_signed[kid])
        done = revoke(config, clock, stolen)
        time.sleep(2.5)
        again.stop.set()
        watch.stop.set()
    return {
        "signed_after_revocation_s": round(max(0.0, again.last_signed[stolen] - done), 3),
        "published_after_revocation_s": round(max(0.0, watch.last_seen[stolen] - done), 3),
        "refused_around_revocation": again.refused[:5],
    }


def faults(report: dict[str, Any]) -> list[str]:
    """Which of the promises this run broke."""
    broken = {
        "a token inside its lifetime failed": any(report["failures"]),
        "a token request failed": bool(report["refused"]),
        # Whatever was in flight with the revoked key is told to ask again; there are four callers.
        "more failed than was in flight": len(report["refused_around_revocation"]) > 4
        or any(not text.startswith("503") for text in report["refused_around_revocation"]),
        "a key signed before its lead": report["least_lead"] < report["promised_lead"],
        "a key signed before every cache could know it": report["least_seen_before_signing"] < report["caches_hold"],
        "the JWKS grew beyond its bound": report["most_keys"] > MAX_PUBLISHED,
        "a revoked key signed on": report["signed_after_revocation_s"] > 1,
        "a revoked key stayed published": report["published_after_revocation_s"] > 1,
        "nothing rotated": report["signers"] < 3,
        "a server met a bug": report["server_errors"] > 0,
    }
    return [what for what, is_so in broken.items() if is_so]


def main(words: list[str]) -> int:
    if words[:1] == ["serve"]:
        clock = FastClock(float(words[3]), float(words[4]))
        serve_by_clock(Path(words[1]), int(words[2]), clock, clock.sleep)
        return 0
    if words[:1] == ["verify"]:
        verify_forever(words[1], FastClock(float(words[2])), words[3])
        return 0
    report = soak(float(words[0]) if words else 300.0, float(words[1]) if len(words) > 1 else 180.0)
    print(json.dumps(report, indent=1))
    found = faults(report)
    print("\n".join(found) or "every promise was kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
