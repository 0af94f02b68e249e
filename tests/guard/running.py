"""A guard as people run it: the command in a process of its own, asked over real sockets."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.verifier.tokens import AUD
from tests.waiting import wait_until

GROAT: Final = Path(sys.executable).parent / "groat"
Headers = Sequence[tuple[str, str]]
IDENTITY: Final = ("x-groat-client", "x-groat-subject", "x-groat-scopes", "x-groat-expires")


@dataclass(frozen=True)
class Got:
    """An answer, as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def one(self, name: str) -> str | None:
        """The one value of a header; None where it is absent."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    @property
    def identity(self) -> list[str | None]:
        """Client, subject, scopes, expiry."""
        return [self.one(name) for name in IDENTITY]


@dataclass
class Guard:
    """A running guard."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.events if line["event"] == event]

    @property
    def port(self) -> int:
        return int(self.told("guard.started")[0]["address"].rpartition(":")[2])

    def ask(self, target: str, token: str | None = None, headers: Headers = (), method: str = "GET") -> Got:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, target)
        for name, value in (*headers, *([("Authorization", f"Bearer {token}")] if token else [])):
            connection.putheader(name, value)
        if method == "POST":
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        got = Got(answer.status, answer.getheaders(), answer.read())
        connection.close()
        return got

    def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes until the guard has no more to say for a moment, or closes."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(request)
            connection.settimeout(1.0)
            answer = b""
            try:
                while chunk := connection.recv(65536):
                    answer += chunk
            except TimeoutError:
                pass
            return answer

    def metric(self, name: str, **labels: str) -> float | None:
        shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        series = f"{name}{{{shown}}}" if labels else name
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.ask("/metrics").body.decode(), re.MULTILINE)
        return float(found[1]) if found else None

    def wait_for(self, event: str) -> None:
        wait_until(lambda: bool(self.told(event)) or self.process.poll() is not None, 30)
        assert self.told(event), self.log.read_text()


def environment(issuer: str, **extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
    return {**kept, "GROAT_ISSUER": issuer, "GROAT_AUDIENCE": AUD, **extra}


@contextmanager
def guarding(folder: Path, env: Mapping[str, str], *arguments: str, event: str = "guard.ready") -> Iterator[Guard]:
    """`groat guard serve` with these arguments, once it has told this event."""
    log = folder / "guard.log"
    command = [str(GROAT), "guard", "serve", "--port", "0", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, env=dict(env), stdout=file, stderr=file)
    guard = Guard(process, log)
    try:
        guard.wait_for("guard.started")
        guard.wait_for(event)
        yield guard
    finally:
        process.terminate()
        process.wait(20)
