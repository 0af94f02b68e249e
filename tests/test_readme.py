"""The README does what it says: its commands are typed and its snippets run, against a real server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from groat.protocol.jwk import generate_private_key
from groat.verifier import Verifier
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent


CLIENTS = (ROOT / "docs" / "clients.md").read_text("utf-8")


def _blocks(language: str, page: str = README) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [body for name, body in fences if name == language]


@contextmanager
def _real_use(directory: Path, issuer: str, audience: str) -> Iterator[dict[str, str]]:
    """The "Real use" block, typed line by line; only the names are ones that this machine can reach."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "GROAT_SERVER__PORT": issuer.rpartition(":")[2]}
    (block,) = [block for block in _blocks("") if "groat serve" in block]
    block = block.replace("https://auth.example.com", issuer).replace("https://orders.example.com", audience)
    server = None
    try:
        for line in block.splitlines():
            if line == "groat serve":
                server = subprocess.Popen(line.split(), cwd=directory, env=env, stderr=subprocess.DEVNULL)
                _wait(f"{issuer}/readyz")
            else:
                subprocess.run(line, shell=True, cwd=directory, env=env, check=True, capture_output=True)
        yield env
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            server.wait(15)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """An installation made by the "Real use" block, with its server."""
    directory = tmp_path_factory.mktemp("readme")
    url = f"http://127.0.0.1:{free_port()}"
    with _real_use(directory, url, "https://orders.example.com"):
        yield directory, url


@pytest.mark.rule("DEMO-29")
def test_it_can_be_tried_on_one_machine(tmp_path: Path) -> None:
    """The demo's API and the example that calls it, with the reader's own keys; the ports are free ones."""
    issuer, api = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    (block,) = [block for block in _blocks("") if "example_api.py" in block]
    block = block.replace("http://127.0.0.1:3001", issuer).replace("http://127.0.0.1:3002", api)
    settings, serving, calling = block.replace("python ", f"python {ROOT}/").splitlines()
    with _real_use(tmp_path, issuer, api) as env:
        env = {**env, **dict(word.split("=", 1) for word in settings.split()[1:]), "PORT": api.rpartition(":")[2]}
        server = subprocess.Popen(serving.split(), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
        try:
            _wait(f"{api}/health")
            called = subprocess.run(
                calling, shell=True, cwd=tmp_path, env=env, check=True, capture_output=True, text=True
            )
        finally:
            server.terminate()
            server.wait(15)
    assert called.stdout.startswith("200 {'message': 'protected data', 'client': 'billing'")


@pytest.mark.rule("AS-CA-10", "AS-CA-06", "KEY-23")
def test_authlib_as_the_guide_shows_it(issuer: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens by one method object, also while the client has two keys that fit."""
    directory, url = issuer
    monkeypatch.chdir(directory)
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    add = ["client", "key", "add", "billing", "next.jwk"]
    (directory / "next.jwk").write_text(json.dumps(dict(generate_private_key("ES256").public.jwk)))
    subprocess.run([BIN / "groat", *add], cwd=directory, check=True, capture_output=True)
    names: dict[str, object] = {}
    *made, asking = _blocks("python", CLIENTS)
    for block in (*made, asking, asking):
        exec(block.replace("https://auth.example.com", url), names)
        if "client" in names:
            names["client"].close()  # type: ignore[attr-defined]
    token = str(names["token"]["access_token"])  # type: ignore[index]
    assert Verifier(url, "https://orders.example.com").verify(token, ["orders:read"]).client_id == "billing"


def _wait(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(url)


@pytest.mark.rule("AS-MD-17", "DEMO-29")
def test_the_snippets_work_together(issuer: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller's snippet makes gets a token, and what the API's snippet makes accepts it."""
    directory, url = issuer
    monkeypatch.chdir(directory)
    verifying, calling = (block.replace("https://auth.example.com", url) for block in _blocks("python"))
    names: dict[str, object] = {}
    exec(calling, names)
    machine = names["machine"]
    token = machine.token(resource="https://orders.example.com", scopes=["orders:read"]).value  # type: ignore[attr-defined]
    names["api"].close()  # type: ignore[attr-defined]
    machine.close()  # type: ignore[attr-defined]
    names["token"] = token
    exec(verifying, names)
    assert names["caller"].client_id == "billing"  # type: ignore[attr-defined]


@pytest.mark.rule("AS-MD-17")
def test_the_two_commands_exist() -> None:
    """`make demo` and `make test` are targets, and every file that the README links to is there."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
