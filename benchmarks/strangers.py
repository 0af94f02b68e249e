"""What strangers cost: the memory of one `groat serve` under each form of attack, and what honest callers notice.

    python -m benchmarks.strangers [--forms pipelined silent ...] [--seconds 6] [--tree DIRECTORY] [--files 65536]

Each form meets a fresh server on loopback. Meanwhile an honest client asks for a token on a new connection, again and
again. Peak memory is the kernel's own count (VmHWM); the last column is looked at ten seconds after the end. `--tree`
measures the sources of another commit: a worktree of it.
"""

import argparse
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load.connection import post_request
from benchmarks.load.driver import presign_bodies, rss_bytes
from benchmarks.load.strangers import FORMS, Form
from benchmarks.servers import CLIENT, RESOURCE, SCOPE, Server, groat_server

PAUSE_SECONDS: Final = 0.05
PATIENCE: Final = 10.0
AFTER_SECONDS: Final = 10.0
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What one form did: memory in bytes, the times of honest requests in seconds, how many of them had no token."""

    form: Form
    before: int
    peak: int
    after: int
    honest: Sequence[float]
    failed: int

    def __str__(self) -> str:
        memory = " | ".join(f"{size / MEGABYTE:.0f}" for size in (self.before, self.peak, self.after))
        median, worst = statistics.median(self.honest), max(self.honest)
        times = f"{median * 1000:.0f} ms | {worst * 1000:.0f} ms | {self.failed} of {len(self.honest)}"
        return f"| {self.form.name} | {self.form.connections} | {memory} | {times} |"


def peak_bytes(pid: int) -> int:
    """The most memory that this process ever had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def ask(address: tuple[str, int], body: bytes) -> tuple[float, bool]:
    """One honest request on a connection of its own: seconds, and whether there was a token."""
    began = time.monotonic()
    try:
        with socket.create_connection(address, PATIENCE) as connection:
            connection.sendall(post_request(body))
            answer = connection.recv(65536)
    except OSError:
        answer = b""
    return time.monotonic() - began, answer.startswith(b"HTTP/1.1 200 ")


def measure(server: Server, form: Form, seconds: float, bodies: Iterator[bytes]) -> Cost:
    """One form against one server, with honest requests beside it."""
    (pid,) = server.pids
    port = int(server.issuer.rpartition(":")[2])
    address = ("127.0.0.1", port)
    for _ in range(20):
        ask(address, next(bodies))
    before = rss_bytes(pid)
    command = [sys.executable, "-m", "benchmarks.load.strangers", form.name, *map(str, (*address, seconds))]
    honest = []
    attack = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while attack.poll() is None:
        honest.append(ask(address, next(bodies)))
        time.sleep(PAUSE_SECONDS)
    time.sleep(AFTER_SECONDS)
    times = [taken for taken, _ in honest]
    return Cost(form, before, peak_bytes(pid), rss_bytes(pid), times, sum(not done for _, done in honest))


def _bodies(server: Server, count: int) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        file, jwk = Path(folder) / "bodies", server.client_key.private_jwk()
        presign_bodies(
            file, count, client_id=CLIENT, private_jwk=jwk, alg=server.algorithm, issuer=server.issuer,
            resource=RESOURCE, scope=SCOPE,
        )  # fmt: skip
        yield from file.read_bytes().splitlines()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--forms", nargs="+", choices=sorted(FORMS), default=list(FORMS))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--files", type=int, help="soft limit of descriptors for the server; default: as it is here")
    options = parser.parse_args(arguments)
    env = {"PYTHONPATH": str(options.tree.absolute() / "src")} if options.tree else {}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if options.files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.files, hard))
    print("| form | connections | MB before | MB at most | MB 10 s after | honest median | slowest | without token |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.forms:
        with groat_server("ES256", env={**env, "PATH": os.environ["PATH"]}) as server:
            print(measure(server, FORMS[name], options.seconds, _bodies(server, 2000)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
