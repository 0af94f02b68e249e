"""The WSGI examples in gunicorn, with --preload too: then the application is loaded, and has its keys, before workers are forked."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
SETTINGS_OF_DJANGO: Final = "from groat.verifier import django_settings; verifier = django_settings.resource().verifier"
VERIFIERS: Final = {
    "flask_api": "from flask_api import verifier",
    "django_api": SETTINGS_OF_DJANGO,
    "drf_api": SETTINGS_OF_DJANGO,
}
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
    command = ["gunicorn", "--preload", "-c", str(settings), "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    with program(issuer, url, *command, *arguments, f"{name}:app"):
        yield url


@contextmanager
def program(issuer: Issuer, url: str, *command: str) -> Iterator[None]:
    """A server of the examples, once it answers."""
    env = environment(GROAT_ISSUER=issuer.url, GROAT_AUDIENCE=AUD)
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=EXAMPLES, env=env)

    def up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(url + "/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(up, 60)
        yield
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
                with ThreadPoolExecutor(4) as pool:  # so that one worker alone cannot take them all
                    assert set(pool.map(ask, [token] * 8)) == {200}
                return len(set(seen.read_text().split())) == 2

            wait_until(both, 20)

        until_both_answered(issuer.token())
        assert issuer.fetches == 1
        assert str(os.getpid()) not in seen.read_text()
        issuer.rotate()
        until_both_answered(issuer.token())
        assert issuer.fetches == 3
        assert ask("garbage") == 401


@pytest.mark.rule("RS-02", "RS-08", "RS-09", "RS-22", "DEMO-14")
@pytest.mark.parametrize("name", ["flask_api:app", "django_api:app", "django_api:asgi", "drf_api:app"])
def test_the_examples(issuer: Issuer, name: str) -> None:
    """/health is open, /protected says who called, and reading and writing need their own scope."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = ["uvicorn", "--port", str(port)] if name.endswith("asgi") else ["gunicorn", "-b", f"127.0.0.1:{port}"]
    with program(issuer, url, *server, name), httpx.Client(base_url=url, trust_env=False) as api:
        assert api.get("/health").json() == {"status": "ok"}
        assert [api.get(path).status_code for path in ("/protected", "/orders")] == [401, 401]
        api.headers["Authorization"] = f"Bearer {issuer.token()}"
        assert api.get("/protected").json() == {"message": "Hello, billing", "client": "billing"}
        assert api.get("/orders").json() == ["1 sack of groats"]
        assert api.post("/orders?order=oats").status_code == 403
        api.headers["Authorization"] = f"Bearer {issuer.token(scope='orders:write')}"
        assert api.post("/orders?order=oats").json() == {"order": "oats", "by": "billing"}
        assert api.get("/orders").status_code == 403
