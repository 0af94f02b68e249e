"""Where the demo plays: a private directory and two server processes, all gone afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from groat.demo.interrupts import Interrupts

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
_TAIL_LINES: Final = 15


class DemoFailed(Exception):
    """Something did not come out as it must; the message says what, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Service:
    """One server process with the file that its log goes to."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def ended(self) -> bool:
        return self.process.poll() is not None

    def tail(self) -> list[str]:
        """The last lines of its log."""
        return self.log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]


class Stage:
    """Owns the directory and the processes. `kept`: leave them alone when the demo ends."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.directory = Path()
        self.services: list[Service] = []
        self.kept = False

    def open(self) -> None:
        """Make the directory; nobody else can look into it (mode 0700)."""
        with self._interrupts.held():
            self.directory = Path(tempfile.mkdtemp(prefix="groat-demo-"))

    def start(self, name: str, port: int, arguments: Sequence[str], variables: Mapping[str, str]) -> Service:
        """Start a Python process on a port of loopback; see `wait_ready`."""
        log = self.directory / f"{name}.log"
        # -P: modules come from the installation, never from the directory that the demo is run in.
        command = [sys.executable, "-P", *arguments]
        with self._interrupts.held(), log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                command,
                env={**_neutral_environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends them in order
            )
            service = Service(name, f"http://{HOST}:{port}", log, process)
            self.services.append(service)
        return service

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """A block that signals do not cut in half, such as a transaction; keep it short."""
        return self._interrupts.held()

    def close(self) -> None:
        """End the processes and remove the directory; signals wait until that is done."""
        with self._interrupts.held():
            _end([service.process for service in self.services])
            if self.directory != Path():
                shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def new_stage(interrupts: Interrupts) -> Iterator[Stage]:
    """A stage that leaves nothing behind, whatever happens, unless it is marked as kept."""
    stage = Stage(interrupts)
    try:
        stage.open()
        yield stage
    finally:
        if not stage.kept:
            stage.close()


def wait_ready(service: Service, path: str) -> None:
    """Ask until it answers 200, for 10 s at most. Raises DemoFailed if it does not, or ends."""
    deadline = time.monotonic() + READY_SECONDS
    with httpx2.Client(trust_env=False, timeout=1.0) as http:
        while time.monotonic() < deadline:
            if service.ended():
                raise DemoFailed(f"the {service.name} ended with exit code {service.process.returncode}")
            with contextlib.suppress(httpx2.HTTPError):
                if http.get(service.url + path).status_code == 200:
                    return
            time.sleep(_POLL_SECONDS)
    raise DemoFailed(f"the {service.name} was not ready within {READY_SECONDS:.0f} s: {service.url}{path}")


def free_ports(*preferred: int) -> list[int]:
    """These ports of loopback; in place of one that somebody has, a free one. Somebody may still be faster than us."""
    with contextlib.ExitStack() as probes:
        return [_bound_port(probes.enter_context(socket.socket()), port) for port in preferred]


def _bound_port(probe: socket.socket, port: int) -> int:
    # As the servers do it, so that connections which are still closing do not count.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
    except OSError:
        probe.bind((HOST, 0))
    probe.listen()  # Linux lets others bind the same port until somebody listens
    found: int = probe.getsockname()[1]
    return found


def _neutral_environment() -> dict[str, str]:
    """Our environment without settings of groat: those may be for production, and may hold keys."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
