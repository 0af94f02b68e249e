"""The examples that bring their own server run as programs, configured by the environment."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from groat.testing import FakeIssuer
from tests.ports import free_port
from tests.verifier.issuer import Issuer
from tests.verifier.tokens import AUD
from tests.waiting import wait_until

SCOPES: Final = ("orders:read", "orders:write")
EXAMPLES: Final = Path(__file__).parents[2] / "examples"


def environment(**names: str) -> dict[str, str]:
    """That of this machine without what a developer set for groat himself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
    return {**kept, "NO_PROXY": "127.0.0.1", **names}


@contextmanager
def running(name: str, path: str, **names: str) -> Iterator[str]:
    """The example as a program; yields its URL once something answers at `path`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / f"{name}.py")], env=environment(PORT=str(port), **names), stdout=subprocess.PIPE
    )

    def up() -> bool:
        assert process.poll() is None, f"{name} ended"
        try:
            return httpx.get(url + path, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    try:
        wait_until(up, 60)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.rule("RS-02", "RS-08", "RS-09", "RS-22")
def test_aiohttp(issuer: Issuer) -> None:
    """/health is open; readers read, and to write needs both scopes."""
    reader, writer = issuer.token(), issuer.token(scope="orders:read orders:write")
    with running("aiohttp_api", "/health", GROAT_ISSUER=issuer.url, GROAT_AUDIENCE=AUD) as url:
        with httpx.Client(base_url=url, trust_env=False) as api:
            api.headers["Authorization"] = f"Bearer {reader}"
            assert api.get("/protected").json() == {"message": "Hello, billing", "client": "billing"}
            assert api.get("/orders").json() == ["1 sack of groats"]
            assert api.post("/orders/add?order=oats").status_code == 403
            api.headers["Authorization"] = f"Bearer {writer}"
            assert api.post("/orders/add?order=oats").json() == {"order": "oats", "by": "billing"}
            api.headers["Authorization"] = "Bearer garbage"
            assert api.get("/orders").status_code == 401


def module(name: str) -> Any:
    """The example as a module, with nothing of it run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.rule("RS-03", "RS-09")
def test_grpc() -> None:
    """The caller of the example asks its server; to add an order a token needs another scope."""
    example, issuer = module("grpc_api"), FakeIssuer(audience=AUD)
    server = example.create_server(issuer.verifier(AUD))
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    server.start()
    with issuer.machine("billing", ["orders:read"]) as machine:
        hello = {"message": "Hello, billing", "client": "billing"}
        assert example.call(machine, f"127.0.0.1:{port}") == [hello, ["1 sack of groats"]]
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.local_channel_credentials()) as channel:
        add: Any = channel.unary_unary("/shop.Orders/Add", example.dumps, json.loads)
        metadata = [[("authorization", f"Bearer {issuer.token('billing', [scope])}")] for scope in SCOPES]
        with pytest.raises(grpc.RpcError) as refused:
            add({"order": "oats"}, metadata=metadata[0], timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert add({"order": "oats"}, metadata=metadata[1], timeout=20) == {"order": "oats", "by": "billing"}
    server.stop(None).wait(10)


def test_grpc_as_a_program() -> None:
    """Where the environment says too little, it says what is missing."""
    command = [sys.executable, str(EXAMPLES / "grpc_api.py"), "call"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "GROAT_CLIENT_ID is not set" in done.stderr
