"""The README does what it says: its commands are typed and its snippets run, against a real server."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent


def _blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [body for name, body in fences if name == language]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The "Real use" block, typed line by line; only the issuer's name is one that this machine can reach."""
    directory = tmp_path_factory.mktemp("readme")
    url = f"http://127.0.0.1:{free_port()}"
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "GROAT_SERVER__PORT": url.rpartition(":")[2]}
    (block,) = [block for block in _blocks("") if "groat serve" in block]
    server = None
    try:
        for line in block.replace("https://auth.example.com", url).splitlines():
            if line == "groat serve":
                server = subprocess.Popen(line.split(), cwd=directory, env=env, stderr=subprocess.DEVNULL)
                _wait(f"{url}/readyz")
            else:
                subprocess.run(line, shell=True, cwd=directory, env=env, check=True, capture_output=True)
        yield directory, url
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            server.wait(15)


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
