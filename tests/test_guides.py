"""The guides for APIs and their callers do what they say: their snippets run, and their words are those of the code."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from django.test import Client

from groat.client import MachineClient
from groat.protocol import strict_json
from groat.protocol.jwk import generate_private_key
from groat.testing import FakeIssuer
from tests.client.servers import Api, AuthorizationServer
from tests.verifier import django_site
from tests.verifier.issuer import serving

GUIDES = Path(__file__).parent.parent / "docs" / "guides"
ISSUER = "https://auth.example.com"


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (GUIDES / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(name: str, names: dict[str, Any], issuer: str) -> dict[str, dict[str, Any]]:
    """Run the page; each section has names of its own beside those from above the first heading."""
    text = (GUIDES / name).read_text("utf-8")
    start, *sections = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    _execute(start, names, issuer)
    found = {title: dict(names) for title in sections[::2]}
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        _execute(section, found[title], issuer)
    return found


def _execute(text: str, names: dict[str, Any], issuer: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(block.replace(ISSUER, issuer), names)


def wsgi_status(app: Any, path: str, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="https://orders.example.com") as http:
        return http.get(path, headers=headers).status_code


def django_statuses(section: dict[str, Any], tokens: list[str | None], *paths: str, **settings: Any) -> list[int]:
    """Of the project that a section's URLs make with these settings: each path by each token."""
    sent = [{"Authorization": f"Bearer {token}"} if token else {} for token in tokens]
    with django_site.project(section["urlpatterns"], **settings):
        return [Client().get(path, headers=headers).status_code for path in paths for headers in sent]


def of_the_settings(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name == "MIDDLEWARE" or name.startswith("GROAT_")}


def status(app: Any, path: str, token: str | None = None) -> int:
    async def ask() -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://orders.example.com") as http:
            return (await http.get(path, headers=headers)).status_code

    return asyncio.run(ask())


async def aiohttp_answers(app: web.Application, path: str, tokens: list[str]) -> list[int]:
    """The statuses of aiohttp's own server, one for each token."""
    client: TestClient[web.Request, web.Application] = TestClient(TestServer(app))
    async with client:
        sent = [await client.get(path, headers={"Authorization": f"Bearer {token}"}) for token in tokens]
        return [response.status for response in sent]


def grpc_answers(server: grpc.Server, method: str, tokens: list[str]) -> list[bytes | grpc.StatusCode]:
    """What a method says, or the status, for each token."""
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    answers: list[bytes | grpc.StatusCode] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(method)
        for token in tokens:
            try:
                answers.append(call(b"oats", metadata=[("authorization", f"Bearer {token}")], timeout=20))
            except grpc.RpcError as error:
                answers.append(error.code())
    server.stop(None).wait(10)
    return answers


@pytest.mark.rule("ST-12", "OP-6", "CL-5")
def test_protect_an_api() -> None:
    """The verifier, the guard, the middleware and the turned clock of the guide, one after the other."""
    with serving() as issuer:
        base: dict[str, Any] = {"__name__": "a_program", "token": issuer.token()}
        found = run("protect-an-api.md", base, issuer.url)
        assert base["caller"].client_id == "billing"
        names = found["What is covered"]
        assert [status(names["app"], path) for path in ("/orders", "/docs", "/nowhere")] == [401, 200, 404]
        assert [status(names["everything"], path) for path in ("/orders", "/docs", "/nowhere")] == [401] * 3
        assert status(names["everything"], "/health") == 404
        assert status(names["everything"], "/orders", issuer.token()) == 200
        orders, other = found["MCP"]["app"], issuer.token(aud="https://orders.example.com/mcp", scope="orders:write")
        assert [status(orders, "/mcp", token) for token in (None, issuer.token(), other)] == [401, 401, 403]
        shop = found["aiohttp"]["shop"]
        assert asyncio.run(aiohttp_answers(shop, "/stock", ["garbage", issuer.token()])) == [401, 200]
        answers = grpc_answers(found["gRPC"]["server"], "/shop.Orders/Get", [issuer.token(), "garbage"])
        assert answers == [b"oats for billing", grpc.StatusCode.UNAUTHENTICATED]
        flask = found["Flask"]["app"]
        assert [wsgi_status(flask, "/orders", token) for token in (None, issuer.token())] == [401, 200]
        django, drf, tokens = found["Django"], found["Django REST framework"], [None, issuer.token()]
        settings = of_the_settings(django)
        assert django_statuses(django, tokens, "/orders", "/orders/7", "/health", **settings) == [
            401,
            200,
            401,
            200,
            404,
            404,
        ]
        for changes in (settings, {**settings, "MIDDLEWARE": []}):
            assert django_statuses(drf, tokens, "/orders", **changes) == [401, 200]
        late = issuer.token(iat=1_800_086_399, exp=1_800_086_401)
        assert found["In tests"]["tomorrow"].verify(late).client_id == "billing"


def metadata_of_a_call(credentials: grpc.CallCredentials) -> dict[str, Any]:
    """What a server on this machine sees of a call with these credentials."""
    seen: dict[str, Any] = {}

    def see(request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.update(context.invocation_metadata())
        return request

    with ThreadPoolExecutor() as pool:
        server = grpc.server(pool)
        handlers: dict[str, Any] = {"See": grpc.unary_unary_rpc_method_handler(see)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
        port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
        server.start()
        composed = grpc.composite_channel_credentials(grpc.local_channel_credentials(), credentials)
        with grpc.secure_channel(f"127.0.0.1:{port}", composed) as channel:
            call: Any = channel.unary_unary("/a.B/See")
            call(b"", timeout=20)
        server.stop(None).wait(10)
    return seen


@pytest.mark.rule("FO-3", "OP-12")
def test_call_an_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet of the guide has a token to show."""
    key = generate_private_key("ES256")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "billing.key.json"
    path.write_bytes(strict_json.dumps(key.private_jwk()))
    path.chmod(0o600)
    names: dict[str, Any] = {}
    with AuthorizationServer("billing", key.public) as issuer:
        for block in blocks("call-an-api.md"):
            exec(block.replace(ISSUER, issuer.url), names)
        assert isinstance(names["machine"], MachineClient)
        assert names["machine"].token().value in issuer.issued
        with Api(issuer) as api:
            # The guide's API is another host; what answers here is taken for it.
            names["session"].auth = names["MachineAuth"](names["machine"], resource=api.url, scopes=["orders:read"])
            assert names["session"].get(api.url).json()["scope"] == "orders:read"
        names["session"].close()
        assert metadata_of_a_call(names["credentials"])["authorization"].removeprefix("Bearer ") in issuer.issued
        names["channel"].close()
        names["api"].close()
        names["machine"].close()


@pytest.mark.rule("UT-1", "UT-2", "UT-4")
def test_the_tests_of_an_api() -> None:
    """The tests that the guide shows pass, one issuer after another under the application of its beginning."""
    audience = "https://orders.example.com"
    with FakeIssuer(ISSUER, audience=audience).installed() as issuer:
        base = {"__name__": "a_program", "token": issuer.token("billing", ["orders:read"])}
        found = run("protect-an-api.md", base, ISSUER)
        names = found["In tests"]
        names["app"] = found["What is covered"]["app"]
        assert names["tomorrow"].verify(issuer.token(iat=1_800_086_399, expires_in=2)).client_id == "test-client"
    tests = [names[name] for name in names if name.startswith("test_")]
    for test in tests:
        with FakeIssuer(ISSUER, audience=audience).installed() as issuer:
            test(issuer)
    assert len(tests) == 5
