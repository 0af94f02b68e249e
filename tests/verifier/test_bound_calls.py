"""Bound tokens end to end: a real server gives one, the client library calls the example API, a thief does too."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from groat.client import MachineClient
from groat.demo import example_api
from tests.conftest import Groat
from tests.ports import free_port
from tests.waiting import wait_until


def up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


@dataclass(frozen=True)
class Sides:
    """An issuer that gives bound tokens only, the URL of an API, and the client's key."""

    issuer: str
    api: str
    key: Path


@contextmanager
def running(directory: Path, *program: str, **env: str) -> Iterator[Sides]:
    """A real server, and this program as the API; PORT says where it listens."""
    groat, port, at = Groat(directory), free_port(), free_port()
    issuer, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{at}"
    strict = {"GROAT_LOG__FORMAT": "json", "GROAT_PROFILE": "fapi2"}
    groat.run("init", "--issuer", issuer, check=True, **strict)
    scopes = ("--scope", "orders:read", "--scope", "orders:write")
    groat.run("api", "add", "orders", "--audience", api, *scopes, check=True, **strict)
    granted = ("--allow", "orders=orders:read,orders:write")
    groat.run("client", "add", "billing", *granted, "--new-key", "b.json", check=True, **strict)
    server = groat.serve(env=strict, port=port)
    told = {**os.environ, "GROAT_ISSUER": issuer, "GROAT_AUDIENCE": api, "PORT": str(at), **env}
    process = subprocess.Popen([sys.executable, *program], env=told)
    try:
        wait_until(lambda: up(api), 30)
        yield Sides(issuer, api, directory / "b.json")
    finally:
        process.terminate()
        process.wait(20)
        assert server.stop() == 0


WANTED: Final = ["orders:read", "orders:write"]


@pytest.mark.rule("RS-DP-01", "RS-DP-04", "RS-DP-09")
def test_a_stolen_token_is_worthless(tmp_path: Path) -> None:
    """Under the strict profile; the route behind two guards judges the proof once."""
    with running(tmp_path, str(example_api.__file__)) as sides:
        api = sides.api
        with MachineClient(sides.issuer, "billing", sides.key, dpop=True) as machine:
            with httpx.Client(auth=machine.auth(resource=api, scopes=WANTED)) as http:
                assert [http.get(f"{api}/protected?x=1").status_code for _ in range(3)] == [200] * 3
                placed = http.post(f"{api}/orders")
                assert placed.status_code == 201
            sent = dict(placed.request.headers)
            token = machine.token(resource=api, scopes=WANTED).value
        stolen = {name: sent[name] for name in ("authorization", "dpop")}
        assert httpx.post(f"{api}/orders", headers=stolen).status_code == 401
        assert httpx.get(f"{api}/protected", headers=stolen).status_code == 401
        for scheme in ("Bearer", "DPoP"):
            assert httpx.get(f"{api}/protected", headers={"Authorization": f"{scheme} {token}"}).status_code == 401


DEMANDING: Final = """
import os
import uvicorn
from groat.demo.example_api import create_app
from groat.verifier import Dpop, Verifier

proofs = Dpop(required=True, nonces="required", nonce_secret=os.environ["SECRET"])
uvicorn.run(create_app(Verifier.from_env(dpop=proofs)), port=int(os.environ["PORT"]), log_level="warning")
"""


@pytest.mark.rule("RS-DP-08", "RS-DP-16")
def test_an_api_that_demands_nonces(tmp_path: Path) -> None:
    """The client is told once, and remembers."""
    with running(tmp_path, "-c", DEMANDING, SECRET="0123456789abcdef") as sides:
        with MachineClient(sides.issuer, "billing", sides.key, dpop=True) as machine:
            with httpx.Client(auth=machine.auth(resource=sides.api, scopes=WANTED)) as http:
                assert [http.get(f"{sides.api}/protected").status_code for _ in range(3)] == [200] * 3
                assert http.post(f"{sides.api}/orders").status_code == 201
        refused = httpx.get(f"{sides.api}/protected")
        assert refused.headers["www-authenticate"].startswith("DPoP ")
