"""The guide's lines for curl, typed into a shell: a real server, and the example API beside it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from groat.client import IssuerNotTrusted, MachineClient
from tests.ports import free_port
from tests.test_readme import BIN, _real_use, _wait

ROOT: Final = Path(__file__).parent.parent
GUIDE: Final = (ROOT / "docs" / "guides" / "call-an-api.md").read_text("utf-8")
Place = tuple[Path, str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An installation as the README makes it, its issuer, and the FastAPI example as its API."""
    directory = tmp_path_factory.mktemp("curl")
    issuer, api = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with _real_use(directory, issuer, api) as env:
        env = {**env, "GROAT_ISSUER": issuer, "GROAT_AUDIENCE": api}
        port = api.rpartition(":")[2]
        command = [sys.executable, "-m", "uvicorn", "--port", port, "--log-level", "error", "fastapi_api:app"]
        with subprocess.Popen(command, cwd=ROOT / "examples", env=env) as server:
            try:
                _wait(f"{api}/health")
                yield directory, issuer, api
            finally:
                server.terminate()


def typed(place: Place, *blocks: str) -> str:
    """What a shell prints for these blocks, one after another; the first that fails ends it."""
    directory, issuer, api = place
    script = "\n".join(("set -eu", *blocks))
    script = script.replace("https://auth.example.com", issuer).replace("https://orders.example.com", api)
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_PROXY": "*"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=directory, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(language: str) -> list[str]:
    section = GUIDE.split("## With curl")[1].split("\n## ")[0]
    return [body for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S) if name == language]


@pytest.mark.rule("DEMO-29", "AS-CA-10", "OP-12")
def test_the_lines_for_curl(place: Place) -> None:
    """A token and what the API says to it; the same assertion again, and the refusal that the guide prints."""
    calling, twice = shown("sh")
    assert json.loads(typed(place, calling)) == ["1 sack of groats"]
    printed = typed(place, calling, twice).partition("]")[2]
    head, _, body = printed.replace("\r", "").partition("\n\n")
    (promised,) = shown("")
    for line in promised.splitlines():
        assert line.partition(" 019")[0] in head + body
    assert body.strip() == promised.splitlines()[-1]
    assert re.search(r"^x-request-id: \S{8,}$", head, re.M)


def test_the_lines_of_groat_call(place: Place) -> None:
    """A plain call and a bound one, by the example's own metadata."""
    section = GUIDE.split("## From a terminal")[1].split("\n## ")[0]
    (lines,) = re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)
    answers = typed(place, lines)
    assert answers == '["1 sack of groats"]' * 2


@pytest.mark.rule("DEMO-29")
def test_no_secret_is_an_argument(place: Place) -> None:
    """Neither assertion nor token stands in a command line, where other users of the machine could read it."""
    spy = 'curl() { printf "ARGV %s\\n" "$*" >> argv; command curl "$@"; }'
    typed(place, spy, *shown("sh"))
    seen = (place[0] / "argv").read_text("utf-8")
    assert seen.count("ARGV") == 4
    assert "eyJ" not in seen


@pytest.mark.rule("CL-33", "RS-MD-04", "RS-MD-05")
def test_an_api_of_another_issuer(place: Place) -> None:
    """The example's own metadata, over its own 401: they name the real server, so another client learns of it."""
    import httpx2

    directory, issuer, api = place
    with MachineClient(issuer, "billing", directory / "billing.key.json") as machine:
        response = httpx2.get(f"{api}/orders", trust_env=False)
        assert response.status_code == 401
        assert machine.check_api(api, response).scopes == ("orders:read", "orders:write")
    with MachineClient("http://127.0.0.1:9", "billing", directory / "billing.key.json") as stranger:
        with pytest.raises(IssuerNotTrusted) as caught:
            stranger.check_api(api, response)
        assert caught.value.issuers == (issuer,)
