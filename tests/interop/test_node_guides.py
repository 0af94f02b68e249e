"""The Node.js programs of the guides (jose, Express, Fastify, openid-client), as a reader copies them, against real servers."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guide_pages import programs
from tests.ports import free_port

from .conftest import CLIENT, IssuerOf
from .foreign_keys import key_pair, private_jwk
from .other_apis import KEY, check_lies, check_tokens_of_groat
from .processes import ENVIRONMENT, NODE, RESOURCE, SCOPES, GroatServer, run_node
from .toolchains import api

PROTECT = "protect-an-api-other-languages.md"
CALL = "call-an-api-other-languages.md"
pytestmark = pytest.mark.usefixtures("node_peers")


def write(directory: Path, sources: Mapping[str, str]) -> None:
    """The programs in a directory that has the packages."""
    for name, source in sources.items():
        (directory / name).write_text(source)
    if not (directory / "node_modules").exists():
        (directory / "node_modules").symlink_to(NODE / "node_modules")


class Orders:
    """The API of the guide with one of its frameworks."""

    def __init__(self, framework: str, directory: Path) -> None:
        self._framework, self._directory = framework, directory

    @contextmanager
    def __call__(self, issuer: str) -> Iterator[str]:
        write(self._directory, programs(PROTECT, "javascript", issuer))
        port = free_port()
        with api(["node", f"{self._framework}.mjs"], port, self._directory, PORT=str(port)) as origin:
            yield origin


@pytest.mark.rule("AT-01", "AT-05")
@pytest.mark.parametrize("framework", ["express", "fastify"])
def test_node_api_takes_our_tokens(guided: GroatServer, tmp_path: Path, framework: str) -> None:
    """Both frameworks around the one function of the page."""
    check_tokens_of_groat(Orders(framework, tmp_path), guided)


@pytest.mark.parametrize("framework", ["express", "fastify"])
def test_node_api_refuses_what_it_must(tmp_path: Path, framework: str) -> None:
    """Types, audiences, scopes, and keys that cannot be had."""
    check_lies(Orders(framework, tmp_path), without_keys=503)


@pytest.mark.rule("AS-CA-06", "AS-CA-10", "AS-MD-01")
@pytest.mark.parametrize("program", ["call.mjs", "call_oauth4webapi.mjs"])
def test_node_caller_gets_tokens_and_calls(guided: GroatServer, tmp_path: Path, program: str) -> None:
    """The programs of the two pages meet each other."""
    write(tmp_path, programs(CALL, "javascript", guided.issuer))
    (tmp_path / KEY).write_text((guided.directory / KEY).read_text())
    with Orders("express", tmp_path)(guided.issuer) as origin:
        done = subprocess.run(
            ["node", program],
            cwd=tmp_path,
            env={**ENVIRONMENT, "API": f"{origin}/orders"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == '200 ["an order of billing"]\n', done.stderr


@pytest.mark.rule("FO-23", "AS-MC-01", "AS-MD-01")
@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
@pytest.mark.parametrize("form", ["oidc", "oauth2"])
def test_openid_client_discovers_by_either_document(issuer_of: IssuerOf, form: str, algorithm: str) -> None:
    """Its default is the OpenID document; both say what it needs, and what it then asks for is granted."""
    server = issuer_of(algorithm)
    key = {**private_jwk(CLIENT, "ES256"), "kid": key_pair(CLIENT, "ES256")["kid"]}
    asked = {"issuer": server.issuer, "client_id": CLIENT, "alg": "ES256", "resource": RESOURCE, "scope": SCOPES[0]}
    question = {**asked, "private_jwk": key, "discovery": form, "show_metadata": True}
    metadata, answer = run_node("get_token_openid_client.mjs", [question])
    assert answer["scope"] == SCOPES[0], json.dumps(answer)
    expected = {
        "authorization_endpoint": f"{server.issuer}/authorize",
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm],
    }
    assert {name: metadata[name] for name in expected} == expected
