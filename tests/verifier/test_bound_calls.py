"""Bound tokens end to end: a real server gives one, the client library calls the example API, a thief does too."""

import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.rule("RS-DP-01", "RS-DP-04", "RS-DP-09")
def test_a_stolen_token_is_worthless(tmp_path: Path) -> None:
    """Under the strict profile; the route behind two guards judges the proof once."""
    groat, port, at = Groat(tmp_path), free_port(), free_port()
    issuer, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{at}"
    env = {"GROAT_LOG__FORMAT": "json", "GROAT_PROFILE": "fapi2"}
    groat.run("init", "--issuer", issuer, check=True, **env)
    scopes = ("--scope", "orders:read", "--scope", "orders:write")
    groat.run("api", "add", "orders", "--audience", api, *scopes, check=True, **env)
    granted = ("--allow", "orders=orders:read,orders:write")
    groat.run("client", "add", "billing", *granted, "--new-key", "b.json", check=True, **env)
    server = groat.serve(env=env, port=port)
    told = {**os.environ, "GROAT_ISSUER": issuer, "GROAT_AUDIENCE": api, "PORT": str(at)}
    program = subprocess.Popen([sys.executable, str(example_api.__file__)], env=told)
    try:
        wait_until(lambda: up(api), 30)
        wanted = ["orders:read", "orders:write"]
        with MachineClient(issuer, "billing", tmp_path / "b.json", dpop=True) as machine:
            with httpx.Client(auth=machine.auth(resource=api, scopes=wanted)) as http:
                assert [http.get(f"{api}/protected?x=1").status_code for _ in range(3)] == [200] * 3
                placed = http.post(f"{api}/orders")
                assert placed.status_code == 201
            sent = dict(placed.request.headers)
            token = machine.token(resource=api, scopes=wanted).value
        stolen = {name: sent[name] for name in ("authorization", "dpop")}
        assert httpx.post(f"{api}/orders", headers=stolen).status_code == 401
        assert httpx.get(f"{api}/protected", headers=stolen).status_code == 401
        for scheme in ("Bearer", "DPoP"):
            assert httpx.get(f"{api}/protected", headers={"Authorization": f"{scheme} {token}"}).status_code == 401
    finally:
        program.terminate()
        program.wait(20)
        assert server.stop() == 0
