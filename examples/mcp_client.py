"""Call a tool of an MCP server as a machine, with groat's token.

    export GROAT_ISSUER=https://auth.example.com GROAT_CLIENT_ID=billing GROAT_KEY_FILE=billing.key.json
    python examples/mcp_client.py https://orders.example.com/mcp list_orders

Without a tool it lists them; SCOPE is what to ask for. All that MachineClient.from_env() knows does here, too: a
workload without a key (GROAT_WORKLOAD=kubernetes), tokens that are bound to a key (GROAT_DPOP=1), for servers that take
such. Needs: pip install ".[mcp,client]" in a clone
"""

import asyncio
import os
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from groat.client import ClientError, MachineClient


async def use(machine: MachineClient, server: str, scopes: list[str], tool: str | None = None) -> list[str]:
    """The names of the server's tools, or what this one says. Raises ClientError where there is no token."""
    # The URL of the server is the name of its API at the issuer. In the SDK's tasks an error would come in a group.
    await machine.atoken(resource=server, scopes=scopes)
    auth = machine.auth(resource=server, scopes=scopes)
    async with httpx2.AsyncClient(auth=auth, timeout=httpx2.Timeout(30, read=300)) as http:
        async with Client(streamable_http_client(server, http_client=http)) as session:
            if tool is None:
                return [found.name for found in (await session.list_tools()).tools]
            answer = await session.call_tool(tool, {})
            return [str(getattr(part, "text", part)) for part in answer.content]


def main(server: str, tool: str | None = None) -> int:
    with MachineClient.from_env() as machine:
        try:
            print(*asyncio.run(use(machine, server, os.environ.get("SCOPE", "orders:read").split(), tool)), sep="\n")
        except ClientError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]) if len(sys.argv) in (2, 3) else __doc__)
