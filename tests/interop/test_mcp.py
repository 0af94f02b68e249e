"""The MCP SDKs end to end: their clients fetch tokens at `groat serve` and call the tools of an MCP server, the example.

Everything in between is theirs: the 401, the metadata of the server and of the issuer, the assertion, the token request.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthFlowError, OAuthTokenError
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from tests.guide_pages import programs
from tests.ports import free_port
from tests.waiting import wait_until

from .foreign_keys import private_jwk, private_pem, public_jwks
from .processes import ENVIRONMENT, NODE, GroatServer, run_node, stop

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
ALGORITHM: Final = "ES256"


@dataclass(frozen=True)
class Mcp:
    """The example of an MCP server, and the issuer that its API is registered with."""

    url: str
    server: GroatServer

    def client(self, name: str, *scopes: str) -> str:
        """Register a client that may ask for these scopes of the server, and for no other."""
        file = self.server.directory / f"{name}.jwks.json"
        file.write_text(json.dumps({"keys": public_jwks(name, [ALGORITHM])}))
        self.server.run("client", "add", name, "--allow", f"mcp={','.join(scopes)}", "--jwks", str(file))
        return name


@pytest.fixture(scope="module")
def mcp(server: GroatServer) -> Iterator[Mcp]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    scopes = ("--scope", "orders:read", "--scope", "orders:write")
    server.run("api", "add", "mcp", "--audience", url, *scopes)
    command = [sys.executable, "-m", "uvicorn", "mcp_server:app", "--app-dir", str(EXAMPLES), "--port", str(port)]
    env = {**ENVIRONMENT, "GROAT_ISSUER": server.issuer, "GROAT_AUDIENCE": url}
    process = subprocess.Popen([*command, "--log-level", "warning"], env=env)

    def up() -> bool:
        assert process.poll() is None
        try:
            return httpx2.get(url, trust_env=False).status_code == 401
        except httpx2.TransportError:
            return False

    try:
        wait_until(up, 60)
        yield Mcp(url, server)
    finally:
        stop(process)


class Memory:
    """Where the Python SDK keeps its token."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError("nobody registers here")


Answer = dict[str, Any]
Caller = Callable[..., Answer]


def statement(client: str) -> SignedJWTParameters:
    """The SDK's own way to sign assertions."""
    return SignedJWTParameters(
        issuer=client, subject=client, signing_key=private_pem(client, ALGORITHM), signing_algorithm=ALGORITHM
    )


def by_python(mcp: Mcp, client: str, tool: str, arguments: dict[str, str]) -> Answer:
    """The Python SDK's client and PrivateKeyJWTOAuthProvider."""
    provider = PrivateKeyJWTOAuthProvider(
        server_url=mcp.url, storage=Memory(), client_id=client, assertion_provider=statement(client).create_assertion_provider(),
        issuer=mcp.server.issuer,
    )  # fmt: skip

    async def call() -> Answer:
        async with httpx2.AsyncClient(auth=provider, trust_env=False) as http:
            async with Client(streamable_http_client(mcp.url, http_client=http)) as session:
                tools = [tool.name for tool in (await session.list_tools()).tools]
                answer: Any = await session.call_tool(tool, arguments)
                return {"tools": tools, "text": answer.content[0].text, "failed": answer.is_error}

    try:
        return asyncio.run(call())
    except (OAuthFlowError, OAuthTokenError, BaseExceptionGroup) as error:
        return _refusal(error)


def _refusal(error: BaseException) -> Answer:
    """What the SDK gave up with, below the groups of its tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OAuthFlowError | OAuthTokenError), error
    return {"error": type(error).__name__, "message": str(error)}


def by_typescript(mcp: Mcp, client: str, tool: str, arguments: dict[str, str]) -> Answer:
    """The TypeScript SDK's client and PrivateKeyJwtProvider, which asks for the scope that it is told and no other."""
    config = {
        "url": mcp.url, "issuer": mcp.server.issuer, "client_id": client, "alg": ALGORITHM, "scope": "orders:read",
        "private_jwk": private_jwk(client, ALGORITHM), "tool": tool, "arguments": arguments,
    }  # fmt: skip
    (answer,) = run_node("mcp_call.mjs", [config])
    return answer


SDKS: Final[dict[str, Caller]] = {"python": by_python, "typescript": by_typescript}


@pytest.fixture(params=SDKS)
def call(request: pytest.FixtureRequest) -> Caller:
    if request.param == "typescript":
        request.getfixturevalue("node_peers")
    return SDKS[request.param]


@pytest.mark.rule("AS-MC-01", "AS-MC-02", "AS-MC-03", "FO-23", "RS-MD-07")
def test_a_tool_is_called(mcp: Mcp, call: Caller) -> None:
    """From nothing but the server's URL and the client's key: the issuer is found, the token fetched, the tool called."""
    client = mcp.client(f"caller-{call.__name__}", "orders:read")
    answer = call(mcp, client, "list_orders", {})
    assert answer == {"tools": ["list_orders", "add_order"], "text": "1 sack of groats", "failed": False}
    (issued,) = [line for line in mcp.server.log() if line["event"] == "token.issued" and line["client"] == client]
    assert issued["scope"] == "orders:read"


@pytest.mark.rule("AS-MC-03", "FO-24")
def test_a_client_without_the_scope(mcp: Mcp, call: Caller) -> None:
    """Whoever may not have what the server wants (its metadata name it) gets no token, and no tool runs."""
    client = mcp.client(f"writer-{call.__name__}", "orders:write")
    answer = call(mcp, client, "list_orders", {})
    assert answer["error"] in ("OAuthTokenError", "InvalidScopeError")
    assert "not granted to the client" in answer["message"]
    assert mcp.server.last_refusal()["client"] == client


def test_a_tool_that_asks_for_more(mcp: Mcp, call: Caller) -> None:
    """The tool knows its caller and what he may do: the answer is an error of the tool, and no order was added."""
    client = mcp.client(f"reader-{call.__name__}", "orders:read")
    answer = call(mcp, client, "add_order", {"order": "oats"})
    assert (answer["failed"], "orders:write" in answer["text"]) == (True, True)
    assert call(mcp, client, "list_orders", {})["text"] == "1 sack of groats"


@pytest.mark.rule("AS-MC-01")
@pytest.mark.usefixtures("node_peers")
def test_the_program_of_the_guide(mcp: Mcp, tmp_path: Path) -> None:
    """As a reader copies it; the Python programs of that page are run by test_mcp_guide.py."""
    client = mcp.client("reader-of-the-guide", "orders:read")
    program = programs("call-an-api-other-languages.md", "javascript", mcp.server.issuer)["call_mcp.mjs"]
    (tmp_path / "call_mcp.mjs").write_text(program.replace("clientId: 'billing'", f"clientId: '{client}'"))
    (tmp_path / "billing.key.json").write_text(json.dumps(private_jwk(client, ALGORITHM)))
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    command, env = ["node", "call_mcp.mjs"], {**ENVIRONMENT, "MCP_SERVER": mcp.url}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "1 sack of groats\n", done.stderr


@pytest.mark.rule("AS-MC-04")
def test_the_example_of_a_client(mcp: Mcp) -> None:
    """The library's own token for the same server, and a refusal in one line."""
    client = mcp.client("by-example", "orders:read")
    env = {**ENVIRONMENT, "GROAT_ISSUER": mcp.server.issuer, "GROAT_CLIENT_ID": client, "NO_PROXY": "127.0.0.1"}
    env |= {"GROAT_KEY": private_pem(client, ALGORITHM), "GROAT_KEY_ID": public_jwks(client, [ALGORITHM])[0]["kid"]}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "mcp_client.py"), mcp.url, *arguments]
        return subprocess.run(command, env={**env, **more}, capture_output=True, text=True, timeout=60, check=False)

    assert run("list_orders").stdout == "1 sack of groats\n"
    refused = run("list_orders", SCOPE="orders:write")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith("invalid_scope: ")


@pytest.mark.rule("RS-09", "RS-05")
def test_tokens_by_hand(mcp: Mcp) -> None:
    """A token for another API is refused with 401, one for this server without the scope with 403."""
    client = mcp.client("by-hand", "orders:write")
    mcp.server.run("client", "update", client, "--allow", "stock=stock:read")
    for resource, scope, status in (("https://stock.example", "stock:read", 401), (mcp.url, "orders:write", 403)):
        token = _token(mcp, client, resource, scope)
        answer = httpx2.post(mcp.url, json={}, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        assert answer.status_code == status
        assert "resource_metadata=" in answer.headers["WWW-Authenticate"]


def _token(mcp: Mcp, client: str, resource: str, scope: str) -> str:
    async def assertion() -> str:
        return await statement(client).create_assertion_provider()(mcp.server.issuer)

    form = {
        "grant_type": "client_credentials", "resource": resource, "scope": scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": asyncio.run(assertion()),
    }  # fmt: skip
    return str(httpx2.post(mcp.server.token_endpoint, data=form, trust_env=False).json()["access_token"])
