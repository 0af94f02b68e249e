"""The token verifier for MCP servers of the Python SDK. The SDKs' own clients ask in tests/interop/test_mcp.py."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import uvicorn
from mcp.client import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from pydantic import ValidationError

from groat.testing import FakeIssuer
from groat.verifier import Certificates, ConfigError, Dpop, KeysUnavailable
from groat.verifier.mcp import McpTokenVerifier, caller
from tests.leaves import CallerCertificate, caller_certificate, written
from tests.waiting import wait_until

URL: Final = "https://orders.example.com/mcp"
SCOPES: Final = ["orders:read"]


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer(audience=URL)


def server(
    issuer: FakeIssuer, url: str = URL, *, install: bool = True, certificates: Certificates | None = None
) -> Any:
    """An MCP server with two tools that say who calls, and with what token."""
    tokens = McpTokenVerifier(issuer.verifier(url, certificates=certificates))
    mcp = MCPServer("orders", token_verifier=tokens, auth=tokens.settings(SCOPES))

    @mcp.tool()
    def who() -> str:
        """In a thread."""
        return f"{caller().client_id} {caller().token_id}"

    @mcp.tool()
    async def what() -> str:
        """On the event loop."""
        return " ".join(sorted(caller().scopes))

    app = mcp.streamable_http_app()
    return tokens.install(app) if install else app


def ask(app: Any, path: str = "/mcp", token: str | None = None, method: str = "POST", **more: str) -> httpx2.Response:
    async def request() -> httpx2.Response:
        headers = {**more, **({"Authorization": f"Bearer {token}"} if token else {})}
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
            return await client.request(method, path, headers=headers, json={} if method == "POST" else None)

    return asyncio.run(request())


@pytest.mark.rule("RS-01", "RS-03")
def test_what_the_sdk_is_told(issuer: FakeIssuer) -> None:
    """Who it is, for what, until when: in the SDK's own words, which also say whose sessions are whose."""
    token = issuer.token("billing", ["orders:read", "orders:write"], tenant="acme")
    found = asyncio.run(McpTokenVerifier(issuer.verifier(URL)).verify_token(token))
    assert found is not None
    assert (found.client_id, found.subject, found.resource) == ("billing", "billing", URL)
    assert found.scopes == ["orders:read", "orders:write"]
    assert found.claims is not None
    assert (found.claims["iss"], found.claims["tenant"]) == (issuer.url, "acme")
    assert found.expires_at == found.claims["exp"]
    assert found.model_copy().model_dump()["client_id"] == "billing"


@pytest.mark.rule("RS-04", "RS-05")
def test_what_is_not_good(issuer: FakeIssuer) -> None:
    """None, whatever is wrong with it; never an exception that would be a 500."""
    verifier = McpTokenVerifier(issuer.verifier(URL))
    bad = {
        **issuer.bad_tokens(),
        "no token": "",
        "two words": "a b",
        "newline": "a\nb",
        "no ASCII": "é",
        "long": "x" * 99_999,
    }
    assert len(bad) > 8
    assert {name: asyncio.run(verifier.verify_token(token)) for name, token in bad.items()} == dict.fromkeys(bad)


@pytest.mark.rule("RS-21", "R17")
def test_keys_unavailable(issuer: FakeIssuer) -> None:
    """503 and Retry-After, no challenge; where the SDK is left alone with it a 500, and never a 401."""
    token = issuer.token("billing", SCOPES)
    issuer.down()
    got = ask(server(issuer), token=token)
    assert (got.status_code, "www-authenticate" in got.headers) == (503, False)
    assert int(got.headers["retry-after"]) >= 1
    assert got.json()["error"] == "temporarily_unavailable"
    assert ask(server(issuer, install=False), token=token).status_code == 500
    with pytest.raises(KeysUnavailable):
        asyncio.run(McpTokenVerifier(issuer.verifier(URL)).verify_token(token))


@pytest.mark.rule("RS-MT-01", "RS-MT-02")
def test_tokens_that_are_bound_to_a_certificate(issuer: FakeIssuer, tmp_path: Path) -> None:
    """`install` says over what a request came, which the SDK does not; without it such a token is refused."""
    mine, other = (caller_certificate(tmp_path, name) for name in ("mine", "other"))
    token = issuer.token("billing", SCOPES, cnf=mine.cnf)
    named = Certificates("127.0.0.1", "nginx")

    def status(certificate: CallerCertificate | None, *, install: bool = True, certificates: Any = named) -> int:
        app = server(issuer, install=install, certificates=certificates)
        headers = dict([] if certificate is None else [written("nginx", certificate)])
        return ask(app, token=token, **headers).status_code

    # Whoever is let in meets a server whose sessions nobody has started.
    assert status(mine) == ask(server(issuer), token=issuer.token("billing", SCOPES)).status_code == 500
    assert status(other) == 401
    assert status(None) == 401
    assert status(mine, install=False) == 401
    assert status(mine, certificates=None) == 401


@pytest.mark.rule("RS-02", "RS-09", "RS-MD-06", "RS-MD-07")
def test_what_the_sdk_answers(issuer: FakeIssuer) -> None:
    """With these settings: its 401 and 403 name the metadata, and these the server and its issuer, to the letter."""
    app = server(issuer)
    for token, status, error in (
        (None, 401, "invalid_token"),
        (issuer.token("billing", ["x"]), 403, "insufficient_scope"),
    ):
        got = ask(app, token=token)
        assert (got.status_code, got.json()["error"]) == (status, error)
        metadata = "https://orders.example.com/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{metadata}"' in got.headers["www-authenticate"]
    assert ask(app, "/.well-known/oauth-protected-resource/mcp", method="GET").json() == {
        "resource": URL,
        "authorization_servers": [issuer.url],
        "scopes_supported": SCOPES,
        "bearer_methods_supported": ["header"],
    }


def test_mistakes_are_found_when_they_are_made(issuer: FakeIssuer) -> None:
    """One string for a list of scopes, and a server whose name is no URL."""
    with pytest.raises(ConfigError, match="required_scopes must be a list"):
        McpTokenVerifier(issuer.verifier(URL)).settings("orders:read")
    with pytest.raises(ValidationError):
        McpTokenVerifier(issuer.verifier("orders")).settings(SCOPES)
    assert McpTokenVerifier(issuer.verifier(URL)).settings().required_scopes is None


def test_no_caller_outside_of_a_call() -> None:
    """The words say where it belongs."""
    with pytest.raises(LookupError, match="McpTokenVerifier"):
        caller()


@contextmanager
def listening() -> Iterator[tuple[FakeIssuer, str]]:
    """The server on a real socket."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        issuer = FakeIssuer(audience=url)
        running = uvicorn.Server(uvicorn.Config(server(issuer, url), log_level="error", log_config=None))
        thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: running.started)
        yield issuer, url
        running.should_exit = True
        thread.join(20)


@pytest.mark.rule("RS-01")
def test_the_caller_of_each_call() -> None:
    """A session lives longer than a token: what a tool sees is the token of this call. Nobody else gets into it."""
    with listening() as (issuer, url):
        tokens = [issuer.token("billing", ["orders:read", more], jti=f"{more:->32}") for more in ("a", "b")]
        sent = {"token": tokens[0]}

        async def authorise(request: httpx2.Request) -> None:
            request.headers["Authorization"] = f"Bearer {sent['token']}"

        async def scene() -> list[str]:
            seen = []
            http = httpx2.AsyncClient(event_hooks={"request": [authorise]}, trust_env=False)
            async with http, streamable_http_client(url, http_client=http) as (read, write):
                async with ClientSession(read, write) as session:
                    await session.initialize()
                    for sent["token"] in tokens:
                        for tool in ("who", "what"):
                            answer: Any = await session.call_tool(tool, {})
                            seen.append(answer.content[0].text)
                    sent["token"] = issuer.token("stranger", SCOPES)
                    with pytest.raises(Exception, match="Session not found"):
                        await session.call_tool("who", {})
                    sent["token"] = tokens[0]
            return seen

        assert asyncio.run(scene()) == [
            f"billing {'a':->32}", "a orders:read", f"billing {'b':->32}", "b orders:read",
        ]  # fmt: skip


@pytest.mark.rule("RS-DP-04")
def test_bound_tokens_alone_cannot_be_demanded(issuer: FakeIssuer) -> None:
    """The SDK hands on no proofs: said when it is built, with the way out. Other words on proofs are taken."""
    with pytest.raises(ConfigError, match=r"required=True.*GroatMiddleware"):
        McpTokenVerifier(issuer.verifier(dpop=Dpop(required=True)))
    McpTokenVerifier(issuer.verifier(dpop=Dpop()))
