"""`groat demo` as a command, in a temporary directory that shows what it leaves behind."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.files import read_private_key
from groat.keys.ring.keyring import active_key
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.jose import sign_jwt
from groat.protocol.jwk import PrivateKey
from groat.server.settings.config import load_config
from groat.server.settings.open_store import open_store

GROAT: Final = Path(sys.executable).with_name("groat")
MARK: Final = "DEMO_TEST_MARK"
# Waits until whoever started it is gone, however that happened, and takes the marked processes and their files along.
GUARD: Final = """
import contextlib, os, shutil, signal, sys, time
from pathlib import Path
sys.stdin.read()
needle = sys.argv[1].encode()
def marked():
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if needle in path.read_bytes().split(b"\\0"):
                yield int(path.parent.name)
for _ in range(50):  # the demo itself may still be starting servers
    for pid in marked():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.02)
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""
LIKE_A_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]+")


@dataclass(slots=True)
class Demo:
    """One way to run the demo: an own temporary directory, and a mark that its processes inherit."""

    directory: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    @contextlib.contextmanager
    def guarded(self) -> Iterator["Demo"]:
        """Leave no process behind, even if this one is killed."""
        command = [sys.executable, "-c", GUARD, f"{MARK}={self.mark}", str(self.directory)]
        guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield self
        finally:
            self.clean()
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(20)

    def env(self, extra: dict[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GROAT_", "NO_COLOR"))}
        return {**inherited, "TMPDIR": str(self.directory), MARK: self.mark, **extra}

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end, without a terminal."""
        return subprocess.run(
            [str(GROAT), "demo", *arguments],
            env=self.env(extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def begin(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start it; the caller reads its output."""
        return subprocess.Popen(
            [str(GROAT), "demo", *arguments],
            env=self.env(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def processes(self) -> list[int]:
        """The living processes that descend from it."""
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if needle in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def assert_nothing_left(self) -> None:
        """Neither a process nor a file."""
        deadline = time.monotonic() + 5
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.processes() == []
        assert list(self.directory.iterdir()) == []

    def clean(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for entry in self.directory.iterdir():
            shutil.rmtree(entry)


def steps_of(output: str) -> dict[str, dict[str, Any]]:
    """The JSON objects of `--json` by their names; fails where a line is none."""
    return {step["name"]: step for step in map(json.loads, output.splitlines())}


@dataclass(frozen=True, slots=True)
class Kept:
    """A demo that was left running, and the means to talk to it."""

    steps: dict[str, dict[str, Any]]
    output: str
    http: httpx2.Client

    @property
    def directory(self) -> Path:
        return Path(self.steps["kept"]["directory"])

    @property
    def issuer(self) -> str:
        url: str = self.steps["kept"]["server"]["url"]
        return url

    @property
    def api(self) -> str:
        url: str = self.steps["kept"]["api"]["url"]
        return url

    @property
    def billing_key(self) -> PrivateKey:
        return read_private_key(self.directory / "billing.key.json")

    def signing_key(self) -> PrivateKey:
        """The issuer's own key, as only the server can have it."""
        config = load_config(self.directory / "groat.toml", {})
        kek = KeyEncryptionKey.load(config.key_files.encryption_key_file)

        async def unseal() -> PrivateKey:
            store = open_store(config)
            try:
                key = active_key(await store.signing_keys(), time.time())
                assert key is not None
                return kek.unseal(key.sealed, key.kid)
            finally:
                await store.close()

        return asyncio.run(unseal())

    def assertion(self, **changes: Any) -> str:
        """A good assertion of billing with some claims changed, or left out where None is given."""
        now = int(time.time())
        claims = {"iss": "billing", "sub": "billing", "aud": self.issuer, "iat": now, "exp": now + 60}
        given = {**claims, "jti": secrets.token_urlsafe(16), **changes}
        return sign_jwt({k: v for k, v in given.items() if v is not None}, self.billing_key, ASSERTION_TYP)

    def form(self, **changes: str | None) -> dict[str, str]:
        """A good token request with some fields changed, or left out where None is given."""
        fields: dict[str, str | None] = {
            "grant_type": "client_credentials",
            "client_assertion_type": JWT_BEARER,
            "client_assertion": self.assertion(),
            "resource": "https://orders.demo",
            "scope": "orders:read",
            **changes,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def ask(self, form: dict[str, str] | None = None) -> httpx2.Response:
        """Make a token request."""
        return self.http.post(f"{self.issuer}/token", data=self.form() if form is None else form)

    def token(self) -> str:
        token: str = self.ask().json()["access_token"]
        return token

    def call(self, authorization: str | None, path: str = "/protected", method: str = "GET") -> httpx2.Response:
        """Call the example API."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return self.http.request(method, self.api + path, headers=headers)

    def logs(self) -> str:
        return "".join(Path(self.steps["kept"][name]["log"]).read_text() for name in ("server", "api"))
