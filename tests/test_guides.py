"""The guides for APIs and their callers do what they say: their snippets run, and their words are those of the code."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from groat.client import MachineClient
from groat.protocol import strict_json
from groat.protocol.jwk import generate_private_key
from tests.client.servers import AuthorizationServer
from tests.verifier.issuer import serving

GUIDES = Path(__file__).parent.parent / "docs" / "guides"
ISSUER = "https://auth.example.com"


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (GUIDES / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)


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


@pytest.mark.rule("ST-12", "OP-6", "CL-5")
def test_protect_an_api() -> None:
    """The verifier, the guard, the middleware and the turned clock of the guide, one after the other."""
    with serving() as issuer:
        names: dict[str, Any] = {"token": issuer.token()}
        for block in blocks("protect-an-api.md"):
            exec(block.replace(ISSUER, issuer.url), names)
        assert names["caller"].client_id == "billing"
        assert [status(names["app"], path) for path in ("/orders", "/docs", "/nowhere")] == [401, 200, 404]
        assert [status(names["everything"], path) for path in ("/orders", "/docs", "/nowhere")] == [401] * 3
        assert status(names["everything"], "/health") == 404
        assert status(names["everything"], "/orders", issuer.token()) == 200
        assert asyncio.run(aiohttp_answers(names["shop"], "/stock", ["garbage", issuer.token()])) == [401, 200]
        late = issuer.token(iat=1_800_086_399, exp=1_800_086_401)
        assert names["tomorrow"].verify(late).client_id == "billing"


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
        names["api"].close()
        names["machine"].close()
