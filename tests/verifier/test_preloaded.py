"""WSGI examples in gunicorn with --preload: the application is loaded, and has its keys, before workers are forked."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.ports import free_port
from tests.verifier.issuer import Issuer
from tests.verifier.test_framework_examples import EXAMPLES, environment
from tests.verifier.tokens import AUD
from tests.waiting import wait_until

# What each calls its verifier; the master has the keys, and whatever fetched them, when it forks.
VERIFIERS: Final = {"flask_api": "from flask_api import verifier"}
SETTINGS: Final = """
def when_ready(server):
    {verifier}
    verifier.warm_sync()

def pre_request(worker, request):
    with open({seen!r}, "a") as file:
        file.write(f"{{worker.pid}}\\n")
"""


@contextmanager
def preloaded(name: str, issuer: Issuer, folder: Path, *arguments: str) -> Iterator[str]:
    settings, port = folder / "gunicorn.py", free_port()
    settings.write_text(SETTINGS.format(verifier=VERIFIERS[name], seen=str(folder / "seen")))
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gunicorn", "--preload", "-c", str(settings), "-b", f"127.0.0.1:{port}"]
    command += ["--no-control-socket", *arguments, f"{name}:app"]
    env = environment(GROAT_ISSUER=issuer.url, GROAT_AUDIENCE=AUD, PYTHONWARNINGS="default")
    process = subprocess.Popen(command, cwd=EXAMPLES, env=env)

    def up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(url + "/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(up, 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.rule("RS-20", "RS-21")
@pytest.mark.parametrize("worker", ["sync", "gthread"])
@pytest.mark.parametrize("name", VERIFIERS)
def test_workers_that_were_forked(issuer: Issuer, tmp_path: Path, name: str, worker: str) -> None:
    """Each has the keys of before, and each finds a new one by itself."""
    with preloaded(name, issuer, tmp_path, "--workers", "2", "--worker-class", worker, "--threads", "2") as url:
        assert issuer.fetches == 1
        seen = tmp_path / "seen"

        def ask(token: str) -> int:
            return httpx.get(
                url + "/protected", headers={"Authorization": f"Bearer {token}"}, trust_env=False
            ).status_code

        def until_both_answered(token: str) -> None:
            seen.write_text("")

            def both() -> bool:
                assert ask(token) == 200
                return len(set(seen.read_text().split())) == 2

            wait_until(both, 20)

        until_both_answered(issuer.token())
        assert issuer.fetches == 1
        assert str(os.getpid()) not in seen.read_text()
        issuer.rotate()
        until_both_answered(issuer.token())
        assert issuer.fetches == 3
        assert ask("garbage") == 401
