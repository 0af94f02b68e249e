"""The guide's MCP callers before a real MCP server that asks for groat's tokens."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from mcp.server import MCPServer

from groat.verifier import Verifier
from groat.verifier.asgi import GroatMiddleware
from tests.guide_pages import ISSUER, blocks
from tests.waiting import wait_until

from .processes import GroatServer

PAGE = "call-an-api-other-languages.md"
RESOURCE = "https://mcp.example.com/mcp"


@contextmanager
def mcp_server(issuer: str) -> Iterator[str]:
    """One tool behind the middleware; yields its URL, which is its audience."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        orders = MCPServer("orders")
        orders.tool()(count)
        app = GroatMiddleware(orders.streamable_http_app(), Verifier(issuer, url), scopes=["orders:read"])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        yield url
        server.should_exit = True
        thread.join(20)


def count() -> int:
    """How many orders there are."""
    return 3


@pytest.mark.rule("AS-MC-01", "AS-CA-06")
def test_mcp_callers_of_the_guide(guided: GroatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By groat's library, and by the SDK's own provider, which finds the issuer from the server's 401."""
    monkeypatch.chdir(guided.directory)
    with mcp_server(guided.issuer) as url:
        guided.run("api", "add", "mcp", "--audience", url, "--scope", "orders:read")
        guided.run("client", "update", "billing", "--allow", "mcp=orders:read")
        names: dict[str, Any] = {}
        for block in blocks(PAGE, "python"):
            exec(block.replace(RESOURCE, url).replace(ISSUER, guided.issuer), names)
        assert asyncio.run(names["call_with_groat"]()) == {"result": 3}
        assert asyncio.run(names["call_with_the_sdk"]()) == {"result": 3}
