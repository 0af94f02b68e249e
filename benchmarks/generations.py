"""Three generations of signing keys under the load of `benchmarks.token_endpoint`, at default settings.

    python -m benchmarks.generations [--speed 200] [--connections 16]

The server is left alone; its clock, the clients' and the verifier's is turned: from one takeover to the next it jumps,
and around each takeover (400 seconds before to 2000 after, so that the old key is destroyed, too) it runs `speed` times
as fast while wrk asks for tokens without a pause. Beside that load every token of a sample is verified again and again
as long as it lives, by a verifier that polls and by one that was just made. Any refusal or failure ends with status 1.
"""

import argparse
import asyncio
import contextlib
import http.client
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.app_server import serve_by_clock
from benchmarks.load.driver import LoadResult, presign_bodies, run_wrk
from benchmarks.servers import CLIENT, RESOURCE, SCOPE, free_port, run_groat, wait_for
from groat.keys.files import read_private_key
from groat.keys.ring.keyring import HELD
from groat.protocol import jose, strict_json
from groat.protocol.jwk import PrivateKey
from groat.server.settings.config import load_config
from groat.server.store.sqlite.store import SqliteStore
from groat.verifier import Clocks, Verifier

GENERATIONS = 3
BEFORE, AFTER = 400, 2000
ASSERTION_SECONDS = 3600
TOKENS_PER_SECOND = 6000  # more bodies than any server here can take: the clock ends the run, not the file
SAMPLE_SECONDS = 0.05
STEP = 43_200
LOOKS_SECONDS = 0.15  # in which the rotator has looked twice
HEADER = """| generation | tokens issued under load | refused | verifications | failed | keys that signed |
|---|---|---|---|---|---|"""
_PACE = struct.Struct("ddd")


class TurnedClock:
    """Epoch seconds from a file that several processes share: what it was, since when, and how fast it goes."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(_PACE.size)
            self._pace = mmap.mmap(file.fileno(), _PACE.size)

    def __call__(self) -> float:
        now, since, speed = _PACE.unpack_from(self._pace)
        return float(now + (time.monotonic() - since) * speed)

    def turn(self, now: float, speed: float) -> None:
        """From here on, so fast."""
        _PACE.pack_into(self._pace, 0, now, time.monotonic(), speed)

    async def sleep(self, seconds: float) -> None:
        """Sleep on this clock; while it stands, look now and then."""
        speed = _PACE.unpack_from(self._pace)[2]
        await asyncio.sleep(seconds / speed if speed else 0.05)


@dataclass(slots=True)
class Sample:
    """Tokens taken beside the load, each verified as long as it lives."""

    issuer: str
    key: PrivateKey
    clock: TurnedClock
    stop: threading.Event = field(default_factory=threading.Event)
    verified: int = 0
    kids: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        host = self.issuer.removeprefix("http://")
        connection, polling = http.client.HTTPConnection(host, timeout=10), self._verifier()
        alive: list[tuple[float, str]] = []
        while not self.stop.wait(SAMPLE_SECONDS):
            try:
                alive.append(self._token(connection))
                alive = [(expires_at, token) for expires_at, token in alive if expires_at > self.clock() + 60]
                fresh = self._verifier()
                self._verify(polling, alive)
                self._verify(fresh, alive[:1] + alive[-1:])
                fresh.close()
            except Exception as error:
                self.failures.append(repr(error))
        polling.close()
        connection.close()

    def _verifier(self) -> Verifier:
        uri = f"{self.issuer}/.well-known/jwks.json"
        return Verifier(self.issuer, RESOURCE, jwks_uri=uri, clocks=Clocks(self.clock, self.clock), clock_tolerance=60)

    def _token(self, connection: http.client.HTTPConnection) -> tuple[float, str]:
        now = int(self.clock())
        claims = {
            "iss": CLIENT,
            "sub": CLIENT,
            "aud": self.issuer,
            "iat": now,
            "exp": now + 300,
            "jti": os.urandom(9).hex(),
        }
        assertion = jose.sign_jwt(claims, self.key, "client-authentication+jwt")
        body = (
            f"grant_type=client_credentials&client_assertion={assertion}&client_assertion_type="
            "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        )
        connection.request("POST", "/token", body, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = strict_json.loads_object(connection.getresponse().read())
        return now + float(answer["expires_in"]), str(answer["access_token"])

    def _verify(self, verifier: Verifier, tokens: list[tuple[float, str]]) -> None:
        for _, token in tokens:
            verifier.verify(token)
            self.kids.add(str(jose.parse_jwt(token).header.kid))
            self.verified += 1


def prepare(directory: Path, issuer: str) -> PrivateKey:
    """A server at default settings, one API and one client, whose assertions may live for an hour."""
    run_groat(directory, "init", "--issuer", issuer)
    run_groat(directory, "api", "add", "orders", "--audience", RESOURCE, "--scope", SCOPE)
    options = ["--default-scope", SCOPE, "--max-assertion-lifetime", str(ASSERTION_SECONDS), "--new-key", "key.json"]
    run_groat(directory, "client", "add", CLIENT, "--allow", f"orders={SCOPE}", *options)
    return read_private_key(directory / "key.json")


@contextlib.contextmanager
def running(directory: Path, issuer: str) -> Iterator[None]:
    """The server in a process of its own."""
    with socket.create_server(("127.0.0.1", int(issuer.rpartition(":")[2])), backlog=512) as listener:
        command = [sys.executable, "-m", __spec__.name, "--serve", str(directory), str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
    try:
        wait_for(f"{issuer}/readyz")
        yield
    finally:
        process.terminate()
        process.wait(15)


def leave_alone(directory: Path, clock: TurnedClock) -> float:
    """Half a day at a time, until the rotator has fixed the next takeover; returns when that is."""
    while not (planned := [at for at in asyncio.run(takeovers(directory)) if clock() < at < HELD]):
        clock.turn(clock() + STEP, 0)
        time.sleep(LOOKS_SECONDS)
    return min(planned)


async def takeovers(directory: Path) -> list[float]:
    """When each key starts to sign, as the store has it."""
    store = SqliteStore.open(load_config(directory / "groat.toml", {}).database)
    keys = await store.signing_keys()
    await store.close()
    return [key.activates_at for key in keys]


def pass_takeover(
    directory: Path, issuer: str, key: PrivateKey, clock: TurnedClock, at: float, speed: float, connections: int
) -> LoadResult:
    """Turn the clock past one takeover while wrk asks."""
    begin, seconds = at - BEFORE, (BEFORE + AFTER) / speed
    clock.turn(begin, 0)
    presign_bodies(
        directory / "bodies", int(seconds * TOKENS_PER_SECOND), client_id=CLIENT, private_jwk=key.private_jwk(),
        alg="ES256", issuer=issuer, resource=RESOURCE, scope=SCOPE, lifetime=ASSERTION_SECONDS, now=begin,
    )  # fmt: skip
    clock.turn(begin, speed)
    result = run_wrk(f"{issuer}/token", directory / "bodies", connections, seconds)
    clock.turn(clock(), 0)
    return result


def measure(speed: float, connections: int) -> int:
    """Print one line a generation; returns 1 if anything was refused or a live token not verified."""
    failed = False
    with tempfile.TemporaryDirectory(prefix="groat-generations-") as name:
        directory, issuer = Path(name), f"http://127.0.0.1:{free_port()}"
        key, clock = prepare(directory, issuer), TurnedClock(directory / "clock")
        clock.turn(time.time(), 1)
        with running(directory, issuer):
            print(HEADER)
            for generation in range(1, GENERATIONS + 1):
                at = leave_alone(directory, clock)
                clock.turn(at - BEFORE, 0)
                sample = Sample(issuer, key, clock)
                thread = threading.Thread(target=sample.run)
                thread.start()
                result = pass_takeover(directory, issuer, key, clock, at, speed, connections)
                sample.stop.set()
                thread.join()
                refused = result.requests - result.accepted + result.socket_errors
                failed |= bool(refused or sample.failures or len(sample.kids) != 2)
                print(
                    f"| {generation} | {result.accepted:,} | {refused} | {sample.verified:,} | {len(sample.failures)} "
                    f"| {len(sample.kids)} |", *sample.failures[:3], flush=True,
                )  # fmt: skip
    return int(failed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=200.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        clock = TurnedClock(Path(options.serve[0]) / "clock")
        serve_by_clock(Path(options.serve[0]), int(options.serve[1]), clock, clock.sleep)
        return 0
    return measure(options.speed, options.connections)


if __name__ == "__main__":
    sys.exit(main())
