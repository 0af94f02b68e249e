"""An MCP server for machines: its tools are for clients with `orders:read`.

    export GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com/mcp
    uvicorn mcp_server:app

Needs: pip install ".[mcp]" in a clone

GROAT_AUDIENCE is the URL at which MCP clients find the server, with its path: the name of the API at the issuer. A
client of the MCP SDKs (PrivateKeyJWTOAuthProvider, PrivateKeyJwtProvider) finds all the rest by itself.
"""

import os

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings

from groat.verifier import Verifier
from groat.verifier.mcp import McpTokenVerifier, caller

tokens = McpTokenVerifier(Verifier.from_env())
mcp = MCPServer("orders", token_verifier=tokens, auth=tokens.settings(["orders:read"]))
orders: list[str] = ["1 sack of groats"]


@mcp.tool()
def list_orders() -> list[str]:
    """The orders there are."""
    return orders


@mcp.tool()
def add_order(order: str) -> str:
    """Add an order; for clients with `orders:write` as well."""
    if "orders:write" not in caller().scopes:
        raise ToolError("this tool needs the scope orders:write")
    orders.append(order)
    return f"{order}, ordered by {caller().client_id}"


# The SDK answers to the host names of this machine alone, unless it is told which others it goes by.
hosts = TransportSecuritySettings(allowed_hosts=os.environ.get("HOSTS", "127.0.0.1:*,localhost:*").split(","))
app = tokens.install(mcp.streamable_http_app(transport_security=hosts))
