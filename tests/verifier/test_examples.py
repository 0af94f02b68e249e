"""The examples run as they are, configured by the environment."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.verifier.issuer import Issuer
from tests.verifier.tokens import AUD

EXAMPLES: Final = Path(__file__).parents[2] / "examples"


@pytest.fixture
def configured(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    for name in ("GROAT_JWKS_URI", "GROAT_ALGORITHMS", "GROAT_ALLOW_HTTP_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GROAT_ISSUER", issuer.url)
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    return issuer


def load(name: str) -> Any:
    """Run the file as a module of its own and give its application."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def ask(app: Any, method: str, path: str, token: str | None = None) -> httpx.Response:
    async def request() -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="https://orders.example.com"
        ) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(request())


@pytest.mark.rule("RS-02", "RS-08", "RS-09", "DEMO-14")
@pytest.mark.parametrize("name", ["fastapi_api", "asgi_api"])
def test_who_may_ask(configured: Issuer, name: str) -> None:
    """/health is open, /protected says who called, and strangers get their 401."""
    app = load(name)
    assert ask(app, "GET", "/health").json() == {"status": "ok"}
    assert ask(app, "GET", "/protected", configured.token()).json() == {
        "message": "Hello, billing",
        "client": "billing",
    }
    assert ask(app, "GET", "/protected").status_code == 401
    assert ask(app, "GET", "/protected", "garbage").status_code == 401


@pytest.mark.rule("RS-09", "RS-22")
def test_scopes_of_the_fastapi_example(configured: Issuer) -> None:
    """Reading and writing need their own scope."""
    app = load("fastapi_api")
    reader, writer = configured.token(), configured.token(scope="orders:write")
    assert ask(app, "GET", "/orders", reader).json() == ["1 sack of groats"]
    assert ask(app, "POST", "/orders?order=oats", reader).status_code == 403
    assert ask(app, "POST", "/orders?order=oats", writer).json() == {"order": "oats", "by": "billing"}


@pytest.mark.rule("RS-09", "RS-22")
def test_scopes_of_the_asgi_example(configured: Issuer) -> None:
    """The middleware demands its scope everywhere."""
    assert ask(load("asgi_api"), "GET", "/", configured.token(scope="other")).status_code == 403
