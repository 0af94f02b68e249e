"""The examples that bring their own server run as programs, configured by the environment."""

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
from tests.verifier.tokens import AUD
from tests.waiting import wait_until

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
