"""An installation of groat on SQLite or on a real PostgreSQL of its own, whose server is started again and again."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load.driver import process_tree
from benchmarks.servers import CLIENT, GROAT, RESOURCE, SCOPE, free_port, wait_for
from groat.keys.files import read_private_key
from groat.protocol.jwk import PrivateKey
from tests.postgres import PostgresServer


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its process and its port."""

    pid: int
    port: int


@dataclass(slots=True)
class Place:
    """A directory with a configuration and one client; `postgres` is the server behind it, if there is one."""

    directory: Path
    issuer: str
    port: int
    database_url: str
    password: str = field(default="", repr=False)
    postgres: PostgresServer | None = field(default=None, repr=False)
    key: PrivateKey | None = field(default=None, repr=False)
    settings: dict[str, str] = field(default_factory=dict)  # for the environment of the next server

    @property
    def engine(self) -> str:
        return "sqlite" if self.postgres is None else "postgres"

    @property
    def postgres_pids(self) -> tuple[int, ...]:
        """The postmaster and its backends; none on SQLite."""
        process = self.postgres.process if self.postgres is not None else None
        return process_tree(process.pid) if process is not None else ()

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    @property
    def env(self) -> Mapping[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
        return {**plain, **self.settings, **({"PGPASSWORD": self.password} if self.password else {})}

    def run(self, *arguments: str) -> None:
        """One operator's command."""
        subprocess.run([GROAT, *arguments], cwd=self.directory, env=self.env, check=True, capture_output=True)

    def initialise(self) -> None:
        self.run("init", "--issuer", self.issuer, "--database", self.database_url)
        self.run("api", "add", "orders", "--audience", RESOURCE, "--scope", SCOPE)
        self.run("client", "add", CLIENT, "--allow", f"orders={SCOPE}", "--new-key", "client.key.json")
        self.key = read_private_key(self.directory / "client.key.json")

    @contextmanager
    def serve(self) -> Iterator[Served]:
        """`groat serve` at the issuer's own port, ready."""
        with self.serve_on(self.port) as served:
            yield served

    @contextmanager
    def serve_on(self, port: int) -> Iterator[Served]:
        """One more `groat serve` on the same database, ready."""
        with (self.directory / f"serve-{port}.log").open("wb") as log:
            command = [GROAT, "serve", "--port", str(port)]
            process = subprocess.Popen(command, cwd=self.directory, env=self.env, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/readyz")
            yield Served(process.pid, port)
        finally:
            process.terminate()
            process.wait(15)


@contextmanager
def sqlite_place() -> Iterator[Place]:
    """On a SQLite file in a directory that is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="groat-bench-"))
    try:
        yield _made(directory, f"sqlite:///{directory}/data/groat.db")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def postgres_place() -> Iterator[Place]:
    """On a PostgreSQL of its own with room for a large table in memory."""
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
    directory = Path(tempfile.mkdtemp(prefix="groat-bench-"))
    try:
        with PostgresServer.running(settings) as server:
            parts = urlsplit(server.database())
            url = f"postgresql://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"
            place = _made(directory, url, parts.password or "")
            place.postgres = server
            yield place
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _made(directory: Path, url: str, password: str = "") -> Place:
    port = free_port()
    place = Place(directory, f"http://127.0.0.1:{port}", port, url, password)
    place.initialise()
    return place
