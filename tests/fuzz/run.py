"""Sends mutated requests to a server over sockets, and holds each answer against what the judge allows."""

import re
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from groat.keys.files import read_private_key
from groat.protocol import jose
from tests.cli.running import Home, Server
from tests.ports import free_port

from .drafts import Draft, Party
from .judge import Reading, Registered, World, readings
from .mutators import MUTATORS, Mutator

ROOT: Final = Path(__file__).parent.parent.parent
ISSUER: Final = "https://as.example"
AUDIENCE: Final = "https://orders.example"
ALGORITHMS: Final = {"es": "ES256", "ed": "Ed25519", "rs": "RS256", "ps": "PS256"}
WORKERS: Final = 6
CONTROL_EVERY: Final = 10
PATIENCE: Final = 2.0
# A jti is for once as long as its assertion lives (RFC 7523 3); the server keeps it for ten minutes more.
REMEMBERED_SECONDS: Final = 590.0
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Breach:
    """One broken promise; enough to see and to send it again."""

    what: str
    number: int
    mutators: tuple[str, ...]
    sent: bytes
    answer: bytes

    def __str__(self) -> str:
        names = " ".join(self.mutators) or "control"
        return f"request {self.number} ({names}): {self.what}\nsent: {self.sent!r}\nanswer: {self.answer[:300]!r}"


@dataclass
class Result:
    """What came out of a run."""

    seed: int
    statuses: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    spent: dict[tuple[str, str], float] = field(default_factory=dict)  # and until when that is surely remembered
    proven: set[bytes] = field(default_factory=set)
    controls: int = 0
    breaches: list[Breach] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0
    rows: int = 0

    @property
    def growth(self) -> int:
        """Megabytes that the server gained after its first quarter."""
        return self.resident[-1] - self.resident[len(self.resident) // 4] if self.resident else 0

    def __str__(self) -> str:
        given = ", ".join(f"{count} x {status or 'none'}" for status, count in sorted(self.statuses.items()))
        memory = f"{self.resident[0]} to {self.resident[-1]} MB" if self.resident else "not measured"
        return (
            f"seed {self.seed}: {sum(self.statuses.values())} answers in {self.seconds:.0f} s ({given}); "
            f"{self.controls} controls, {self.tokens} tokens, {self.rows} rows of used assertions; "
            f"slowest answer {self.slowest * 1000:.0f} ms; resident memory {memory}; {len(self.breaches)} breaches"
        )


@dataclass(frozen=True)
class Target:
    """A server with clients, and what the judge and the callers know of it."""

    port: int
    database: Path
    world: World
    parties: tuple[Party, ...]
    process: int


def furnish(directory: Path) -> None:
    """An installation with an API and four clients, each with a key of another kind."""
    home = Home(directory)
    home.ok("init", "--issuer", ISSUER)
    home.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read", "--scope", "orders:write")
    for name, algorithm in ALGORITHMS.items():
        add = ("client", "add", name, "--allow", "orders=orders:read", "--new-key", f"{name}.json", "--alg", algorithm)
        home.ok(*add, "--rsa-bits", "2048")


@contextmanager
def target(directory: Path, fault: str | None = None) -> Iterator[Target]:
    """A real `groat serve` in a furnished directory; `fault` names one of `faulty.py` that is built into it."""
    port, many = free_port(), str(10**8)
    env = {"GROAT_SERVER__PORT": str(port)}
    env.update(GROAT_THROTTLE__CLIENT_FAILURES=many, GROAT_THROTTLE__SOURCE_FAILURES=many)
    home = Home(directory, env)
    keys = {name: read_private_key(directory / f"{name}.json") for name in ALGORITHMS}
    parties = tuple(Party(name, key.kid, key.algorithm, partial(jose.sign, key=key)) for name, key in keys.items())
    known = {name: Registered(name, key.public.native, _names(key.algorithm), key.kid) for name, key in keys.items()}
    if fault is not None:
        home.prefix = (sys.executable, "-m", "tests.fuzz.faulty")
        home.env.update(GROAT_TEST_FAULT=fault, PYTHONPATH=str(ROOT))
    with home.serving(port=port) as server:
        _silence(home, server)
        world = World(ISSUER, AUDIENCE, frozenset({"orders:read"}), known)
        yield Target(port, directory / "data" / "groat.db", world, parties, server.process.pid)


def _names(algorithm: str) -> frozenset[str]:
    return frozenset({algorithm, "EdDSA"} if algorithm == "Ed25519" else {algorithm})


def _silence(home: Home, server: Server) -> None:
    """A line for each of a million refusals is not wanted; the line that says that the server is ready was."""
    path = home.directory / "groat.toml"
    path.write_text(path.read_text("utf-8") + '\n[log]\nlevel = "error"\n', "utf-8")
    server.process.send_signal(signal.SIGHUP)


@dataclass
class Fuzz:
    """One run; the requests follow from the seed and their number alone, but for keys, times and jtis."""

    target: Target
    result: Result
    mutators: Sequence[Mutator] = MUTATORS
    started: float = field(default_factory=time.time)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, requests: int, seconds: float = 3600.0) -> Result:
        """Send so many requests, or as many as the time allows."""
        began = time.monotonic()
        numbers = iter(range(requests))

        def work() -> None:
            while time.monotonic() - began < seconds:
                with self.lock:
                    number = next(numbers, None)
                    if number is not None and number % max(1, requests // 20) == 0:
                        self.result.resident.append(_resident(self.target.process))
                if number is None:
                    return
                self.case(number)

        with ThreadPoolExecutor(WORKERS) as pool:
            for future in [pool.submit(work) for _ in range(WORKERS)]:
                future.result()
        self.result.seconds = time.monotonic() - began
        self._check_rows()
        return self.result

    def case(self, number: int) -> None:
        """One control or mutated request, with those that it wants to have before it."""
        random = Random(f"{self.result.seed}:{number}")
        party = random.choice(self.target.parties)
        others = tuple(other for other in self.target.parties if other is not party)
        draft = Draft(random, party, others, ISSUER, AUDIENCE)
        control = number % CONTROL_EVERY == 0
        chosen = (
            []
            if control
            else sorted(
                random.sample(range(len(self.mutators)), min(random.choice((1, 1, 1, 2, 3)), len(self.mutators)))
            )
        )
        for index in chosen:
            self.mutators[index](draft)
        names = tuple(self.mutators[index].__name__ for index in chosen)
        for raw in (*draft.before, draft.message()):
            self._present(number, names, raw, control=control)

    def _present(self, number: int, names: tuple[str, ...], raw: bytes, *, control: bool) -> None:
        now = time.time()
        allowed = readings(raw, self.target.world, now)
        began = time.monotonic()
        answer = exchange(self.target.port, raw, len(allowed))
        took = time.monotonic() - began
        # Seconds pass while a slow answer comes: what was not yet or still good then is judged by both ends.
        if took > 0.5:
            late = readings(raw, self.target.world, time.time())
            allowed = tuple(a if a.proven else b for a, b in zip(allowed, late, strict=True))
        with self.lock:
            for what in self._judge(allowed, answer, control=control):
                self.result.breaches.append(Breach(what, number, names, raw, answer))
            self.result.controls += control
            if allowed:
                self.result.slowest = max(self.result.slowest, took if took < PATIENCE else 0)

    def _judge(self, allowed: Sequence[Reading], answer: bytes, *, control: bool) -> Iterator[str]:
        statuses = [int(status) for status in _STATUS.findall(answer)]
        self.result.statuses.update(statuses or [0])
        self.result.proven.update(reading.digest for reading in allowed if reading.digest is not None)
        tokens = answer.count(b'"access_token"')
        spent, now = self.result.spent, time.time()
        grants = {
            reading.proven: reading.ends_at + REMEMBERED_SECONDS
            for reading in allowed
            if reading.granted and reading.proven and spent.get(reading.proven, 0.0) < now
        }
        if tokens > len(grants):
            yield f"{tokens} tokens where {len(grants)} may be given"
        spent.update({proven: until for proven, until in grants.items() if proven in _winners(allowed, statuses)})
        self.result.tokens += tokens
        for status in statuses:
            early = any(reading.proven and reading.signed_at < self.started + 2 for reading in allowed)
            if status >= 500 and not (status == 503 and early):
                yield f"status {status}"
        if control and tokens != 1:
            yield "an unmutated request got no token"

    def _check_rows(self) -> None:
        """Nothing is remembered of an assertion that was not good; every token has its row."""
        with closing(sqlite3.connect(self.target.database)) as connection:
            rows = {bytes(row[0]) for row in connection.execute("SELECT digest FROM used_once")}
        self.result.rows = len(rows)
        if stray := rows - self.result.proven:
            self.result.breaches.append(Breach(f"{len(stray)} rows of refused assertions", -1, (), b"", b""))


def _winners(allowed: Sequence[Reading], statuses: Sequence[int]) -> set[tuple[str, str] | None]:
    """Whose assertions were used up for a token: answers come in the order of the requests (RFC 9112 9.3.2).

    Where their numbers differ, of a token it cannot be told whose it is; then no assertion counts as used.
    """
    finals = [status for status in statuses if status >= 200]
    pairs = zip(allowed, finals, strict=True) if len(finals) == len(allowed) else ()
    return {reading.proven for reading, status in pairs if status == 200}


def exchange(port: int, raw: bytes, expected: int) -> bytes:
    """Send one connection's bytes; what comes back until as many answers are there, or the server ends or falls silent."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.sendall(raw)
            if (
                not expected
            ):  # perhaps incomplete: the end tells the server that no more comes, after a moment to refuse
                connection.settimeout(0.05)
            while answers(received) < max(1, expected) and (chunk := connection.recv(65536)):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
        try:
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(PATIENCE)
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
    return bytes(received)


def answers(received: bytes | bytearray) -> int:
    """How many complete responses there are."""
    count, rest = 0, bytes(received)
    while True:
        head, end, rest = rest.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(rest) < (size := int(length[1]) if length else 0):
            return count
        count, rest = count + (not head.startswith(b"HTTP/1.1 1")), rest[size:]


def _resident(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0
