"""The guide for workloads does what it says: its commands are typed, and its program gets a token by them."""

import contextlib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from groat.client import MachineClient, WorkloadIdentity
from groat.client.workload import KUBERNETES_PATH
from groat.protocol import jose
from groat.protocol.key_set import public_key_set
from tests.certificates import Wish, issued
from tests.cli.running import AUDIENCE, ISSUER, Home
from tests.cli.test_workload_tokens import issue, signer
from tests.client.platforms import Runner
from tests.ports import free_port

from .guide_pages import GUIDES, blocks

PAGE: Final = "workloads.md"


def typed(section: str) -> list[list[str]]:
    """The commands of groat in the blocks of a section."""
    text = (GUIDES / PAGE).read_text("utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    fences = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for fence in fences for line in fence.splitlines() if line.startswith("groat ")]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An installation with the API of the guide, and the key sets that its reader has fetched."""
    made = Home(tmp_path, {"GROAT_SERVER__PORT": str(free_port())})
    run(made, typed("What comes before"))
    made.file("cluster.json", json.dumps(public_key_set([signer("kubernetes").public])))
    return made


def run(home: Home, commands: list[list[str]], **instead: str) -> None:
    """`instead`: what a name of the page is on this machine."""
    for command in commands:
        home.ok(*(part for word in command for part in (shlex.split(instead[word]) if word in instead else [word])))


def test_stand_ins(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program makes goes through the commands of both platforms, is taken offline, and by a server."""
    (program,) = [block for block in blocks(PAGE, "python") if "FakeIssuer" in block]
    with contextlib.chdir(home.directory):
        monkeypatch.setattr(sys, "argv", ["stand_in.py"])
        exec(program, {})
    run(home, typed("Kubernetes"))
    run(home, typed("GitHub Actions"), **{"--discovery": "--jwks github.json"})
    port = int(home.env["GROAT_SERVER__PORT"])
    with home.serving(port=port):
        for trust, file, client, scope in (
            ("prod", "token.jwt", "billing", "orders:read"),
            ("github", "job.jwt", "deploy", "orders:write"),
        ):
            told = home.ok("--json", "trust", "test", trust, "--token", file).json
            assert (told["outcome"], told["client_id"]) == ("accepted", client)
            identity = WorkloadIdentity.file(home.directory / file)
            address = f"http://127.0.0.1:{port}/token"
            with MachineClient(ISSUER, key=identity, token_endpoint=address) as machine:
                assert machine.token(AUDIENCE, [scope]).scopes == (scope,)


@pytest.mark.rule("AS-SP-04")
def test_an_svid_in_the_handshake(home: Home) -> None:
    """The command for a workload that has an X.509-SVID."""
    home.file("bundle.pem", issued(Wish("O=SPIRE", authority=True)).pem)
    (block,) = blocks(PAGE, "sh")
    home.ok(*shlex.split(block.replace("\\\n", ""))[1:])
    shown = home.ok("--json", "client", "show", "spiffe://prod.example/billing").json
    assert (shown["certificate_uri"], shown["binding"]) == ("spiffe://prod.example/billing", "mtls")


@pytest.mark.rule("CL-31", "AS-JB-06")
def test_kubernetes(home: Home) -> None:
    """From the commands to a token, by the program of the page."""
    run(home, typed("Kubernetes"))
    path = home.file("token", issue("kubernetes", ISSUER))
    port = int(home.env["GROAT_SERVER__PORT"])
    (program,) = [block for block in blocks(PAGE, "python") if "WorkloadIdentity.kubernetes()" in block]
    # What differs here: the pod's file lies elsewhere, and the issuer has no name on this machine.
    program = program.replace("kubernetes()", f"kubernetes({str(path)!r})")
    program = program.replace(
        f'issuer="{ISSUER}"', f'issuer="{ISSUER}", token_endpoint="http://127.0.0.1:{port}/token"'
    )
    names: dict[str, Any] = {}
    with home.serving(port=port):
        exec(program, names)
    names["machine"].close()
    assert jose.parse_jwt(names["token"].value).claims["client_id"] == "billing"
    assert f"mountPath: {Path(KUBERNETES_PATH).parent}" in (GUIDES / PAGE).read_text("utf-8")


@pytest.mark.rule("CL-31", "AS-JB-06")
def test_github(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the job are those of the library; the set is copied here instead of being looked up."""
    home.file("github.json", json.dumps(public_key_set([signer("github").public])))
    run(home, typed("GitHub Actions"), **{"--discovery": "--jwks github.json"})
    (job,) = [block for block in blocks(PAGE, "yaml") if "GROAT_WORKLOAD" in block]
    found = re.search(r"env: \{(.*)\}", job)
    assert found is not None
    variables = dict(re.findall(r'(\w+): "?([^",]+)"?', found[1]))
    scope = variables.pop("SCOPE")
    port = int(home.env["GROAT_SERVER__PORT"])
    with Runner(lambda audience: issue("github", audience)) as runner, home.serving(port=port):
        for name, value in runner.environment().items():
            monkeypatch.setenv(name, value)
        endpoint = f"http://127.0.0.1:{port}/token"
        with MachineClient.from_env(variables, token_endpoint=endpoint) as client:
            token = client.token(resource=AUDIENCE, scopes=scope)
    assert jose.parse_jwt(token.value).claims["client_id"] == "deploy"


@pytest.mark.rule("AS-JB-06")
def test_the_other_platforms(home: Home) -> None:
    """Each row of the table is a trust and a rule that can be written."""
    home.ok("client", "add", "worker", "--allow", "orders=orders:read", "--no-key")
    home.file("bundle.json", json.dumps({"keys": [{**signer("spiffe").public.jwk, "use": "jwt-svid"}]}))
    rows = re.findall(r"^\| [^|]+ \| `(--preset [^|]+)` \| `(--match [^|]+)`", (GUIDES / PAGE).read_text("utf-8"), re.M)
    assert len(rows) == 5
    tenant = {"TENANT": "aaaabbbb-0000-cccc-1111-dddd2222eeee", "PRINCIPAL": "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"}
    placed = {"NUMBER": "112179062720391305885", "ID.tokens": "abc123-def456.tokens", **tenant}
    for number, row in enumerate(rows):
        trust, rule = (text.replace("/run/spire/", str(home.directory) + "/") for text in row)
        for name, value in placed.items():
            trust, rule = trust.replace(name, value), rule.replace(name, value)
        home.ok("trust", "add", f"t{number}", *shlex.split(trust))
        home.ok("client", "trust", "add", "worker", f"t{number}", *shlex.split(rule))
