"""The servers under test, started as a user would start them: `groat serve`, and npm oidc-provider beside it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load.driver import process_tree
from groat.protocol.jwk import PrivateKey, generate_private_key

GROAT = str(Path(sys.executable).with_name("groat"))
NODE = Path(__file__).parent.parent / "tests" / "interop" / "node"
RESOURCE, SCOPE, CLIENT = "https://orders.example.com", "orders:read", "billing"


@dataclass(frozen=True, slots=True)
class Server:
    """A running authorization server: where it is, which processes do its work, who may ask."""

    name: str
    issuer: str
    token_url: str
    pids: tuple[int, ...]
    algorithm: str
    client_key: PrivateKey = field(repr=False)
    started_in: float
    directory: Path = Path()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, seconds: float = 15.0) -> None:
    """Poll until the URL answers 200. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.01)
    raise TimeoutError(url)


def run_groat(directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run one command in this directory and return what it printed."""
    done = subprocess.run(
        [GROAT, *arguments],
        cwd=directory,
        env={**os.environ, **(env or {})},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@contextmanager
def groat_server(
    algorithm: str,
    workers: int = 1,
    database: Path | None = None,
    storage_url: str | None = None,
    env: Mapping[str, str] | None = None,
    issuer: str | None = None,
) -> Iterator[Server]:
    """`groat serve` on a fresh SQLite store or an empty PostgreSQL database; one client with an `algorithm` key.

    `issuer`: what it calls itself, where that is not where it listens.
    """
    env = {**(env or {}), **({"GROAT_STORAGE__URL": storage_url} if storage_url else {})}
    directory = Path(tempfile.mkdtemp(prefix="groat-bench-", dir=database))
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    issuer = issuer or here
    run_groat(directory, "init", "--issuer", issuer, "--algorithm", algorithm, env=env)
    run_groat(directory, "api", "add", "orders", "--audience", RESOURCE, "--scope", SCOPE, env=env)
    key_options = ["--alg", algorithm, "--rsa-bits", "3072", "--new-key", "client.key.json"]
    run_groat(directory, "client", "add", CLIENT, "--allow", f"orders={SCOPE}", *key_options, env=env)
    command = [GROAT, "serve", "--port", str(port), "--workers", str(workers)]
    begun = time.monotonic()
    with (directory / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env={**os.environ, **env}, stderr=log, stdout=log)
    try:
        wait_for(f"{here}/readyz")
        started_in = time.monotonic() - begun
        time.sleep(0.5 if workers > 1 else 0.0)
        key = _read_key(directory / "client.key.json")
        name = "groat" if workers == 1 else f"groat, {workers} workers"
        name += ", PostgreSQL" if storage_url else ""
        pids = process_tree(process.pid)
        yield Server(name, issuer, f"{here}/token", pids, algorithm, key, started_in, directory)
    finally:
        process.terminate()
        process.wait(15)
        shutil.rmtree(directory, ignore_errors=True)


def _read_key(path: Path) -> PrivateKey:
    from groat.keys.files import read_private_key

    return read_private_key(path)


@contextmanager
def oidc_provider(algorithm: str) -> Iterator[Server]:
    """npm oidc-provider with its in-memory adapter: the same grant, authentication, algorithms and bodies."""
    client, signing = (_generate(algorithm) for _ in range(2))
    config: dict[str, Any] = {
        "port": free_port(),
        "clients": [
            {
                "client_id": CLIENT,
                "jwks": {"keys": [dict(client.public.jwk)]},
                "alg": algorithm,
                "scopes": [SCOPE],
            }
        ],
        "resource": RESOURCE,
        "scopes": [SCOPE],
        "signing_jwk": signing.private_jwk(),
        "alg": algorithm,
        "lifetime": 600,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        begun = time.monotonic()
        process = subprocess.Popen(
            ["node", "oidc_provider.mjs", file.name],
            cwd=NODE,
            env={**os.environ, "NODE_ENV": "production"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        issuer = process.stdout.readline().split()[-1]
        started_in = time.monotonic() - begun
    try:
        pids = process_tree(process.pid)
        yield Server("oidc-provider", issuer, f"{issuer}/token", pids, algorithm, client, started_in)
    finally:
        process.terminate()
        process.wait(15)


def _generate(algorithm: str) -> PrivateKey:
    return (
        generate_private_key(algorithm, 3072) if algorithm.startswith(("RS", "PS")) else generate_private_key(algorithm)
    )
