"""The middleware in a real server, as people run it: uvicorn with its own logging and nothing configured."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.verifier.issuer import Issuer
from tests.verifier.tokens import AUD
from tests.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def url(self) -> str:
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", self.text)
        return found[1] if found else ""

    def ask(self, path: str, token: str | None = None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.get(self.url + path, headers=headers, trust_env=False).status_code


Start = Callable[..., Running]


@pytest.fixture
def start(running: Issuer, tmp_path: Path) -> Iterator[Start]:
    """Starts `uvicorn asgi_api:app` with these arguments; ends it afterwards."""
    with ExitStack() as stack:

        def run(*arguments: str) -> Running:
            log = tmp_path / "uvicorn.log"
            command = [sys.executable, "-m", "uvicorn", "asgi_api:app", "--port", "0", *arguments]
            kept = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
            env = {**kept, "GROAT_ISSUER": running.url, "GROAT_AUDIENCE": AUD, "NO_COLOR": "1"}
            with log.open("wb") as file:
                process = subprocess.Popen(command, cwd=EXAMPLES, env=env, stdout=file, stderr=subprocess.STDOUT)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            server = Running(process, log)
            wait_until(lambda: bool(server.url) or process.poll() is not None, 30)
            assert server.url, server.text
            return server

        yield run


@pytest.mark.rule("OP-6", "RS-25", "I8")
def test_the_reason_of_a_refusal_shows_by_itself(running: Issuer, start: Start) -> None:
    """Without any logging configured the log says why, once per reason for a while, and holds no token."""
    server = start()
    expired, foreign = running.token(exp=1_700_000_000), running.token(aud=AUD + "/")
    assert [server.ask("/protected", token) for token in (None, foreign, *[expired] * 20)] == [401] * 22
    assert server.ask("/protected", running.token(scope="other")) == 403
    wait_until(lambda: "reason=scope" in server.text)
    lines = [line for line in server.text.splitlines() if line.startswith("refused: ")]
    assert [re.findall(r"reason=(\w+)", line)[0] for line in lines] == ["missing", "audience", "expired", "scope"]
    assert "they differ by the trailing slash only" in lines[1]
    assert "exp is" in lines[2]
    assert 'client=billing hint="orders:read" is not granted' in lines[3]
    for token in (expired, foreign):
        assert not [part for part in token.split(".") if part in server.text]


@pytest.mark.rule("FO-6")
@pytest.mark.parametrize("arguments", [(), ("--root-path", "/api"), ("--root-path", "/api/")])
def test_an_exempt_path_under_a_root_path(running: Issuer, start: Start, arguments: tuple[str, ...]) -> None:
    """/health is open wherever a proxy has put the application, and nothing else is."""
    server = start(*arguments)
    assert server.ask("/health") == 200
    assert server.ask("/protected") == 401
    assert server.ask("/api/protected") == 401
    assert server.ask("/protected", running.token()) == 200
