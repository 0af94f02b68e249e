"""The examples run as they are, configured by the environment."""

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from flask import Flask

from groat.testing import FakeIssuer

WSGI: Final = (Flask,)
EXAMPLES: Final = Path(__file__).parents[2] / "examples"


AUD: Final = "https://orders.example.com"


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIssuer]:
    """As the guide shows it, for an installation that may not know the fixture `groat_issuer` yet."""
    fake = FakeIssuer("https://auth.example.com", audience=AUD)
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    with fake.installed():
        yield fake


def load(name: str) -> Any:
    """Run the file as a module of its own and give its application."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def ask(app: Any, method: str, path: str, token: str | None = None) -> httpx.Response:
    if isinstance(app, WSGI):
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(transport=httpx.WSGITransport(app), base_url="https://orders.example.com") as api:
            return api.request(method, path, headers=sent)

    async def request() -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="https://orders.example.com"
        ) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(request())


@pytest.mark.rule("RS-02", "RS-08", "RS-09", "DEMO-14")
@pytest.mark.parametrize("name", ["fastapi_api", "asgi_api", "flask_api"])
def test_who_may_ask(issuer: FakeIssuer, name: str) -> None:
    """/health is open, /protected says who called, and strangers get their 401."""
    app = load(name)
    assert ask(app, "GET", "/health").json() == {"status": "ok"}
    assert ask(app, "GET", "/protected", issuer.token("billing", ["orders:read"])).json() == {
        "message": "Hello, billing",
        "client": "billing",
    }
    assert ask(app, "GET", "/protected").status_code == 401
    for token in issuer.bad_tokens("billing", ["orders:read"]).values():
        assert ask(app, "GET", "/protected", token).status_code == 401


@pytest.mark.rule("RS-21", "UT-2")
@pytest.mark.parametrize("name", ["fastapi_api", "asgi_api", "flask_api"])
def test_while_the_issuer_is_down(issuer: FakeIssuer, name: str) -> None:
    """503 with Retry-After until there are keys, and then 200."""
    app = load(name)
    with issuer.down():
        refused = ask(app, "GET", "/protected", issuer.token(scopes="orders:read"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "www-authenticate" not in refused.headers
    assert ask(app, "GET", "/protected", issuer.token(scopes="orders:read")).status_code == 200


@pytest.mark.rule("RS-09", "RS-22")
@pytest.mark.parametrize("name", ["fastapi_api", "flask_api"])
def test_scopes_of_the_examples(issuer: FakeIssuer, name: str) -> None:
    """Reading and writing need their own scope."""
    app = load(name)
    reader, writer = issuer.token("billing", ["orders:read"]), issuer.token("billing", ["orders:write"])
    assert ask(app, "GET", "/orders", reader).json() == ["1 sack of groats"]
    assert ask(app, "POST", "/orders?order=oats", reader).status_code == 403
    assert ask(app, "POST", "/orders?order=oats", writer).json() == {"order": "oats", "by": "billing"}


@pytest.mark.rule("RS-09", "RS-22")
def test_scopes_of_the_asgi_example(issuer: FakeIssuer) -> None:
    """The middleware demands its scope everywhere."""
    assert ask(load("asgi_api"), "GET", "/", issuer.token(scopes="other")).status_code == 403
