"""A deployment under test: one database, any number of real `groat serve` processes, each with its own configuration."""

import contextlib
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from benchmarks.load.connection import Target
from benchmarks.load.history import Caller, Presentation
from groat.keys.files import read_private_key
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
GROAT: Final = str(Path(sys.executable).with_name("groat"))
ISSUER: Final = "https://as.example"
AUDIENCE: Final = "https://orders.example"
SCOPE: Final = "orders:read"
UNREACHABLE: Final = 5  # the exit code
ASSERTION_LIFETIME: Final = 3600  # so that a whole run can be presented again at its end
START_SECONDS: Final = 90.0  # sixteen processes that start at once on two busy cores take their time
NO_SOURCE_LIMIT: Final = {
    "GROAT_THROTTLE__CLIENT_FAILURES": "100000000",
    "GROAT_THROTTLE__SOURCE_FAILURES": "100000000",
    "GROAT_SERVER__SOURCE_CONNECTIONS": "4096",
}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that would steer groat."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
    return {**plain, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), **(extra or {})}


def wait_until(condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.02) -> float:
    """Wait for a condition; returns how long it took. Raises AssertionError."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(pause)
    return time.monotonic() - begun


@dataclass(slots=True)
class Replica:
    """One server process: where it listens, its directory with configuration and logs."""

    name: str
    directory: Path
    port: int
    env: Mapping[str, str]
    entry: Sequence[str] = (GROAT,)
    process: subprocess.Popen[bytes] | None = None
    tls: ssl.SSLContext | None = None  # whom to trust, where it speaks https

    @property
    def target(self) -> Target:
        return Target(self.name, "localhost" if self.tls else "127.0.0.1", self.port, self.tls)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.target.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "serve.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> float:
        """Start it; returns the seconds until it was ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.entry, "serve", "--port", str(self.port)],
                cwd=self.directory,
                env=environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.wait_ready() if wait else 0.0

    def wait_ready(self, seconds: float = START_SECONDS) -> float:
        def ready() -> bool:
            assert self.running, self.log.read_text()[-2000:]
            return self.status("/readyz") == 200

        return wait_until(ready, seconds, f"{self.name} ready")

    def status(self, path: str, seconds: float = 2.0) -> int:
        """The status of a GET; 0 where no answer came."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=seconds, context=self.tls) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def kill(self) -> None:
        """As a power cut would end it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> float:
        """Ask it to end; returns the seconds that it took."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.terminate()
        self.process.wait(20)
        return time.monotonic() - begun

    def signal(self, sent: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sent)

    def events(self) -> list[dict[str, Any]]:
        """Every whole log line; those that a kill cut off are left out."""
        found = []
        for line in self.log.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


@dataclass(slots=True)
class Deployment:
    """One database and what serves it."""

    directory: Path
    url: str
    replicas: list[Replica] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: dict(NO_SOURCE_LIMIT))
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def on_sqlite(cls, directory: Path) -> "Deployment":
        return cls(directory, f"sqlite:///{directory}/data/groat.db")

    @classmethod
    def on_postgres(cls, directory: Path, url: str) -> "Deployment":
        """On a database whose URL holds a password: it travels in the environment alone."""
        parts = urlsplit(url)
        plain = f"postgresql://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"
        return cls(directory, plain, secrets={"PGPASSWORD": parts.password or ""})

    def through(self, port: int) -> str:
        """The URL of the database by way of a proxy on this port."""
        parts = urlsplit(self.url)
        return f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0].replace("postgresql", "postgres")

    @property
    def targets(self) -> list[Target]:
        return [replica.target for replica in self.replicas]

    @property
    def faulty(self) -> tuple[str, ...]:
        """The command of a replica with a fault built in: see `entry.py`."""
        return (sys.executable, "-m", "tests.faults.entry")

    @property
    def database_name(self) -> str:
        """The name of a PostgreSQL database."""
        return self.url.rpartition("/")[2]

    @property
    def database(self) -> Path:
        """The file of a SQLite deployment."""
        return Path(self.url.removeprefix("sqlite:///"))

    def run(self, *arguments: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """One operator's command."""
        done = subprocess.run(
            [GROAT, *arguments],
            cwd=cwd or self.directory,
            env=environment(self.secrets),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"groat {' '.join(arguments)}: {done.stderr}"
        return done

    def initialise(self, *clients: str) -> list[Caller]:
        """The first start, one API, and these clients with long-lived assertions."""
        self._set_up("init", "--issuer", ISSUER, "--database", self.url)
        self._set_up("api", "add", "orders", "--audience", AUDIENCE, "--scope", SCOPE)
        return [self.add_client(client) for client in clients]

    def _set_up(self, *arguments: str) -> None:
        """One command, again where the disk of a busy machine was too slow for it: exit 5 may have been a success."""
        for _ in range(5):
            done = self.run(*arguments, check=False)
            if done.returncode != UNREACHABLE:
                break
            time.sleep(1.0)
        assert done.returncode == 0 or "exists" in done.stderr, f"groat {' '.join(arguments)}: {done.stderr}"

    def add_client(self, client_id: str) -> Caller:
        file = f"{client_id}.key.json"
        lifetime = ("--max-assertion-lifetime", str(ASSERTION_LIFETIME))
        self.run("client", "add", client_id, "--allow", f"orders={SCOPE}", "--new-key", file, *lifetime)
        jwk = read_private_key(self.directory / file).private_jwk()
        return Caller(client_id, ISSUER, AUDIENCE, SCOPE, jwk)

    def add_replica(
        self, url: str | None = None, entry: Sequence[str] = (GROAT,), env: Mapping[str, str] | None = None
    ) -> Replica:
        """A further replica, not started yet; `url` is its own way to the database."""
        name = f"replica-{len(self.replicas) + 1}"
        directory = self.directory / name
        directory.mkdir()
        key = self.directory / "data" / "key-encryption.key"
        (directory / "groat.toml").write_text(
            f'issuer = "{ISSUER}"\n[storage]\nurl = "{url or self.url}"\n[keys]\nencryption_key_file = "{key}"\n'
        )
        replica = Replica(name, directory, free_port(), {**self.secrets, **self.env, **(env or {})}, entry)
        self.replicas.append(replica)
        return replica

    def start(self, count: int, **options: Any) -> list[Replica]:
        """So many further replicas, ready to serve."""
        started = [self.add_replica(**options) for _ in range(count)]
        for replica in started:
            replica.start(wait=False)
        for replica in started:
            replica.wait_ready()
        return started

    def stop(self) -> None:
        """End every replica, whatever state it is in."""
        for replica in self.replicas:
            if replica.running:
                replica.signal(signal.SIGCONT)
                replica.kill()

    def hints(self) -> dict[str, int]:
        """Why requests were refused, by the logs: for whoever has to find out."""
        refusals = [e for replica in self.replicas for e in replica.events() if e["event"] != "token.issued"]
        return dict(
            Counter(f"{e['event']} {e.get('reason')} {e.get('hint')} {e.get('message')}"[:160] for e in refusals)
        )

    def rows(self) -> dict[bytes, str]:
        """Every remembered use: digest and token id."""
        sql = "SELECT digest, token_id FROM used_once"
        if self.kind == "postgres":
            with self.connect() as connection:
                return {bytes(digest): str(token_id) for digest, token_id in connection.execute(sql).fetchall()}
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(sql).fetchall())

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection to the PostgreSQL database, committing each statement."""
        password = self.secrets["PGPASSWORD"]
        return psycopg.connect(self.url, password=password, autocommit=True, connect_timeout=5)

    def published_keys(self) -> dict[str, Any]:
        """The JWKS, from the first replica that answers."""
        for replica in self.replicas:
            with contextlib.suppress(OSError):
                url = f"{replica.url}/.well-known/jwks.json"
                with urllib.request.urlopen(url, timeout=5, context=replica.tls) as answer:
                    return dict(json.load(answer))
        raise AssertionError("no replica publishes its keys")


@contextlib.contextmanager
def ended(deployment: Deployment) -> Iterator[Deployment]:
    """See to it that no process outlives its test."""
    try:
        yield deployment
    finally:
        deployment.stop()


def share(history: Sequence[Presentation], *statuses: int) -> float:
    """The part of a history with one of these statuses."""
    return sum(presentation.status in statuses for presentation in history) / max(1, len(history))
