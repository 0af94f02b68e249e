"""The real `groat` command in a directory of its own: shared by every suite that talks to real processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import pytest

from tests.again import ENDED
from tests.postgres import GivenServer, PostgresServer, any_server

GROAT: Final = Path(sys.executable).with_name("groat")
ISSUER: Final = "https://as.example"
START_SECONDS: Final = 60.0


def listens(port: int) -> bool:
    """Whether somebody listens there, without a connection that would count; elsewhere than on Linux it is believed."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return not tables[0].exists() or any(r[3] == "0A" and int(r[1].rpartition(":")[2], 16) == port for r in rows)


def command_line(pid: int) -> bytes:
    """What the process was started with; empty once it is gone, which it may be at any moment."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass(slots=True)
class Server:
    """A running `groat serve`; `log` collects its stderr, one JSON object a line."""

    process: subprocess.Popen[bytes]
    log: Path
    address: tuple[str, int] = ("", 0)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def lines(self) -> list[dict[str, Any]]:
        """Every complete log line so far; raises where one is not a JSON object."""
        whole = self.log.read_bytes().rpartition(b"\n")[0]
        documents = [json.loads(line) for line in whole.splitlines()]
        assert all(isinstance(document, dict) for document in documents)
        return documents

    def workers(self) -> list[int]:
        """The process ids that answer requests: the children of the supervisor, or the one process."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = [int(pid) for pid in task.read_text().split()]
        return [pid for pid in children if b"spawn_main" in command_line(pid)] or [self.process.pid]

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns the exit code. SIGKILL takes the workers along, as a power cut would."""
        if self.process.poll() is None:
            victims = [self.process.pid, *self.workers()] if sent is signal.SIGKILL else [self.process.pid]
            for pid in victims:
                os.kill(pid, sent)
        return self.process.wait(20)


@dataclass(slots=True)
class Groat:
    """One installation: its directory, its command line, its servers."""

    directory: Path
    servers: list[Server] = field(default_factory=list)

    def run(self, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one command here, without a terminal."""
        done = subprocess.run(
            [str(GROAT), *arguments],
            cwd=self.directory,
            env=self._env(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def serve(
        self,
        workers: int = 1,
        stderr: IO[bytes] | int | None = None,
        env: Mapping[str, str] | None = None,
        limits: tuple[int, int] | None = None,
        command: Sequence[str] = (str(GROAT),),
        port: int = 0,
    ) -> Server:
        """Start `groat serve` on a free port and wait until every worker is ready (not with a `stderr` of one's own).

        `limits`: how many files it may open, soft and hard; `command`: another `groat`, with a fault built in.
        """
        log = self.directory / f"serve-{len(self.servers)}.log"
        prefix = ["prlimit", f"--nofile={limits[0]}:{limits[1]}"] if limits else []
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*prefix, *command, "serve", "--port", str(port), "--workers", str(workers)],
                cwd=self.directory,
                env=self._env(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file if stderr is None else stderr,
            )
        server = Server(process, log)
        self.servers.append(server)
        if stderr is None:
            self._wait_until_ready(server, workers)
        return server

    def _env(self, extra: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
        return {**inherited, "NO_COLOR": "1", **extra}

    def _wait_until_ready(self, server: Server, workers: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert server.process.poll() is None, server.log.read_text()
            lines = server.lines()
            ready = sum(line.get("message") == "Application startup complete." for line in lines)
            for line in lines:
                if line["event"] == "server.started":
                    parts = urlsplit(line["address"])
                    server.address = (str(parts.hostname), int(parts.port or 0))
            if ready >= workers and server.address[1] and listens(server.address[1]):
                return
            time.sleep(0.02)
        raise AssertionError(server.log.read_text())


@pytest.fixture(scope="session")
def make_groat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Groat]]:
    """Make an installation of that name with its first signing key; its servers end with the session."""
    made: list[Groat] = []

    def make(name: str) -> Groat:
        groat = Groat(tmp_path_factory.mktemp(name))
        made.append(groat)
        groat.run("init", "--issuer", ISSUER)
        return groat

    yield make
    for groat in made:
        for server in groat.servers:
            server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer | GivenServer]:
    """A real PostgreSQL, shared by the session: tests ask it for databases of their own."""
    with any_server() as server:
        yield server


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of one's own, to kill, stop and start again."""
    with PostgresServer.running() as server:
        yield server


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name random keys and objects by their argument: parallel workers must collect the same names."""
    plain = isinstance(val, (str, int, float, bool, type(None)))
    if (isinstance(val, str) and len(val) > 40) or isinstance(val, bytes) or (not plain and " at 0x" in repr(val)):
        return argname
    return None


SECRETS: Final = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|\"d\": ?\"[\w-]{20,}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Scan what every test printed or logged: a token, assertion or private key there is a failure (OPS-03, I8).

    Where a test failed, what the databases wrote goes with it: a backend that died says why only there.
    """
    report = yield
    if report.failed and (told := PostgresServer.told()):
        report.sections.append(("PostgreSQL", told))
    printed = "".join(text for title, text in report.sections if title.startswith("Captured"))
    if report.passed and SECRETS.search(printed):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} printed a secret"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave how this run ended for `python -m tests.again`; a worker's own end is not that of the run."""
    if not hasattr(session.config, "workerinput"):
        ENDED.parent.mkdir(exist_ok=True)
        ENDED.write_text(str(int(exitstatus)))


def pytest_configure() -> None:
    """Children must hear Ctrl-C, although a runner that was started in the background may have it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
