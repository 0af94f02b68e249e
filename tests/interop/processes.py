"""The processes of these tests: `groat serve`, npm oidc-provider, and short-lived Node.js programs.

All of them listen on loopback, on ports that were free a moment ago, and end with the context that started them.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.missing import Missing, skip
from tests.ports import free_port

NODE: Final = Path(__file__).parent / "node"
GROAT: Final = str(Path(sys.executable).with_name("groat"))
RESOURCE: Final = "https://orders.example"
OTHER_RESOURCE: Final = "https://stock.example"
SCOPES: Final = ("orders:read", "orders:write")
# A developer's own settings must not steer the servers under test.
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask a process of ours to end, and end it after ten seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@dataclass(frozen=True, slots=True)
class GroatServer:
    """A running `groat serve`: where it is, and its directory with configuration, store and log."""

    issuer: str
    algorithm: str
    directory: Path = field(repr=False)

    @property
    def token_endpoint(self) -> str:
        return f"{self.issuer}/token"

    @property
    def jwks_uri(self) -> str:
        return f"{self.issuer}/.well-known/jwks.json"

    def run(self, *arguments: str) -> str:
        """One operator's command, while the server runs; what it printed."""
        return run_groat(self.directory, *arguments)

    def add_client(self, client_id: str, public_jwks: Iterable[Mapping[str, Any]], *options: str) -> None:
        """Register a client that may ask for every scope of the first API."""
        file = self.directory / f"{client_id}.jwks.json"
        file.write_text(json.dumps({"keys": list(public_jwks)}))
        self.run("client", "add", client_id, "--allow", f"orders={','.join(SCOPES)}", "--jwks", str(file), *options)

    def log(self) -> list[dict[str, Any]]:
        """Every line that the server has logged, oldest first."""
        return [json.loads(line) for line in (self.directory / "serve.log").read_text().splitlines()]

    def last_refusal(self) -> dict[str, Any]:
        """The newest token.refused line."""
        return next(line for line in reversed(self.log()) if line["event"] == "token.refused")


def run_groat(directory: Path, *arguments: str) -> str:
    """One command in this directory; a failure shows what it said."""
    done = subprocess.run(
        [GROAT, *arguments], cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"groat {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextmanager
def groat_server(directory: Path, algorithm: str, **env: str) -> Iterator[GroatServer]:
    """`groat serve` on a fresh store whose tokens are signed with `algorithm`, with two APIs and no client.

    `env`: settings of the server by their variables.
    """
    port = free_port()
    server = GroatServer(f"http://127.0.0.1:{port}", algorithm, directory)
    server.run("init", "--issuer", server.issuer, "--algorithm", algorithm)
    server.run("api", "add", "orders", "--audience", RESOURCE, "--scope", SCOPES[0], "--scope", SCOPES[1])
    server.run("api", "add", "stock", "--audience", OTHER_RESOURCE, "--scope", "stock:read")
    with (directory / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [GROAT, "serve", "--port", str(port)], cwd=directory, env={**ENVIRONMENT, **env}, stdout=log, stderr=log
        )
    try:
        _await_ready(process, f"{server.issuer}/readyz", directory / "serve.log")
        yield server
    finally:
        stop(process)


def _await_ready(process: subprocess.Popen[Any], url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"groat serve did not become ready:\n{log.read_text()}")


def install_node_peers() -> None:
    """Have Node.js and the packages of `node/`, or skip with the reason; where CI is set, nothing is skipped."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        reason = f"the npm peers need {' and '.join(missing)} on the PATH (Node.js 20 or newer)"
        skip(Missing.NODE, reason)
    install_packages(NODE, ["npm"])


def install_packages(directory: Path, npm: Sequence[str | Path]) -> None:
    """Have what the lock file of this directory names, by this npm."""
    # Parallel test workers come here together; npm writes the hidden lock file last, and a pull may bring another list.
    with (directory / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = directory / "node_modules" / ".package-lock.json"
        # Of an older lock file nobody knows whether it has what is wanted today.
        if not installed.exists() or installed.stat().st_mtime < (directory / "package-lock.json").stat().st_mtime:
            done = subprocess.run([*npm, "ci"], cwd=directory, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"npm ci failed:\n{done.stderr}"


def run_node(script: str, lines: Iterable[Any], timeout: float = 60) -> list[dict[str, Any]]:
    """Give a program of `node/` JSON lines on stdin and read back its JSON lines; keys never go through argv."""
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    done = subprocess.run(
        ["node", script], cwd=NODE, input=text, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.stdout, f"{script} said nothing: {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def node_server(script: str, argument: str, log_file: Path) -> Iterator[str]:
    """A program of `node/` that says `ready` and its origin or issuer once it listens; yields that."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(["node", script, argument], cwd=NODE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield _ready_line(process, log_file)
    finally:
        stop(process)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def oidc_provider(config_file: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """npm oidc-provider with this configuration; yields its issuer."""
    config_file.write_text(json.dumps({"port": 0, **config}))
    with node_server("oidc_provider.mjs", str(config_file), config_file.with_suffix(".log")) as issuer:
        yield issuer


def _ready_line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    # readline knows no timeout, but it ends when the process does.
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    word, _, issuer = process.stdout.readline().strip().partition(" ")
    watchdog.cancel()
    assert word == "ready", f"a program of node/ did not start:\n{log.read_text()}"
    return issuer
