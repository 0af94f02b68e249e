"""The client that the MCP conformance suite tests: the example of an MCP client, set up as each scenario wants it.

The suite starts it with the URL of its MCP server, and says in the environment which scenario it is and what the client
knows. SCOPE is what to ask for; REFUSAL the error that is then to come, and that nothing follows.
"""

import asyncio
import base64
import hashlib
import json
import os
import runpy
import secrets
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2

from groat.client import MachineClient, TokenRequestRefused, WorkloadIdentity
from groat.keys.files import parse_private_key
from groat.protocol.jwk import generate_private_key

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "mcp_client.py"
REDIRECT: Final = "http://127.0.0.1/callback"


class CodeGrant(httpx2.HTTPTransport):
    """Sends a token request as one with a code, and everything else of it as it was, the proof above all.

    The DPoP scenarios give a token to whoever proves a key, but note the proofs of this grant alone.
    """

    def __init__(self, issuer: str) -> None:
        super().__init__()
        self._verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).decode().rstrip("=")
        query = {"response_type": "code", "client_id": "machine", "redirect_uri": REDIRECT}
        query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        httpx2.get(f"{issuer}/authorize", params=query, follow_redirects=False, trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            form = dict(parse_qsl(request.read().decode()))
            form |= {"grant_type": "authorization_code", "code": "test-auth-code", "code_verifier": self._verifier}
            kept = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
            request = httpx2.Request("POST", request.url, headers=kept, content=urlencode(form).encode())
        return super().handle_request(request)


def issuer_of(server: str) -> str:
    """As the server names it. A program has it from whoever set it up, never from what it calls."""
    parts = urlsplit(server)
    address = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    return str(httpx2.get(address, trust_env=False).json()["authorization_servers"][0])


def machine(scenario: str, issuer: str, known: dict[str, Any]) -> MachineClient:
    """As whoever sets up a program makes it."""
    if scenario == "auth/client-credentials-jwt":
        key = parse_private_key(known["private_key_pem"].encode(), "the key of the scenario")
        return MachineClient(issuer, known["client_id"], key)
    if scenario == "auth/wif-jwt-bearer":
        with NamedTemporaryFile("w", suffix=".jwt", delete=False) as file:
            file.write(known["valid_jwt"])
        return MachineClient(issuer, key=WorkloadIdentity.file(file.name))
    # Its metadata offer public clients alone, which machines are not; nobody looks at the assertion.
    how: dict[str, Any] = {"http": httpx2.Client(transport=CodeGrant(issuer)), "token_endpoint": f"{issuer}/token"}
    return MachineClient(issuer, "machine", generate_private_key("ES256"), dpop=True, **how)


def main() -> None:
    server, expected = sys.argv[1], os.environ.get("REFUSAL")
    known = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    use = runpy.run_path(str(EXAMPLE))["use"]
    with machine(os.environ["MCP_CONFORMANCE_SCENARIO"], issuer_of(server), known) as ours:
        try:
            print(asyncio.run(use(ours, server, os.environ.get("SCOPE", "").split())))
        except TokenRequestRefused as refusal:
            if refusal.code != expected:
                raise
            print(f"refused: {refusal.code}")
        else:
            assert expected is None, f"no {expected}"


if __name__ == "__main__":
    main()
