"""A token of each platform to a token of groat: trusts by the command line, `groat serve`, the client library, real sockets."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from groat.client import MachineClient, TokenRequestRefused, WorkloadIdentity
from groat.protocol import jose
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set
from tests.client.platforms import AppService, GoogleMetadata, Runner
from tests.ports import free_port
from tests.protocol.builders import changed, compact
from tests.protocol.federation.platforms import NOW, PLATFORMS, TENANT

from .conftest import Live
from .running import AUDIENCE, ISSUER, Home

ROOT: Final = Path(__file__).parents[2]
KEYS: Final = {"RS256": generate_private_key("RS256", 2048), "ES256": generate_private_key("ES256")}
NAMES: Final = ("kubernetes", "github", "gitlab", "google", "entra", "spiffe")
Issue = Callable[[str], str]


def signer(platform: str) -> PrivateKey:
    return KEYS["ES256" if platform == "spiffe" else "RS256"]


def issue(platform: str, audience: str, **changes: Any) -> str:
    """The platform's token as its documentation has it, but of this minute, for this audience, with its own jti."""
    model, key = PLATFORMS[platform], signer(platform)
    late = int(time.time()) - NOW
    claims = {
        name: value + late if name in ("iat", "nbf", "exp") else value for name, value in model.claims.items()
    } | {"aud": [audience] if isinstance(model.claims["aud"], list) else audience}
    if "jti" in claims:
        claims["jti"] = os.urandom(8).hex()
    return compact({**model.header, "kid": key.kid}, changed(claims, changes), key)


def conditions(platform: str) -> list[str]:
    by_name = {
        "kubernetes": ["sub=system:serviceaccount:billing:worker"],
        "github": ["repository_owner_id=65", "repository_id=74", "ref=refs/heads/main"],
        "gitlab": ["project_id=20", "namespace_id=72", "ref_protected=true"],
        "google": ["sub=112179062720391305885"],
        "entra": [f"tid={TENANT}", "oid=aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"],
        "spiffe": ["sub=spiffe://prod.example/ns/billing/sa/worker"],
    }
    return [part for condition in by_name[platform] for part in ("--match", condition)]


def trust(home: Home, platform: str) -> None:
    use = "jwt-svid" if platform == "spiffe" else "sig"
    entries = public_key_set([signer(platform).public])["keys"]
    home.file(f"{platform}.jwks.json", json.dumps({"keys": [{**entry, "use": use} for entry in entries]}))
    issuer = PLATFORMS[platform].trust.issuer
    home.ok("trust", "add", platform, "--issuer", issuer, "--preset", platform, "--jwks", f"{platform}.jwks.json")
    home.ok("client", "add", f"{platform}-worker", "--allow", "orders=orders:read", "--no-key")
    home.ok("client", "trust", "add", f"{platform}-worker", platform, *conditions(platform))


@pytest.fixture(scope="module")
def trusting(live: Live) -> Live:
    """Every platform is trusted, by commands beside the running server."""
    for platform in NAMES:
        trust(live.home, platform)
    return live


def machine(live: Live, identity: WorkloadIdentity, client_id: str | None = None) -> MachineClient:
    return MachineClient(ISSUER, client_id, identity, token_endpoint=f"http://127.0.0.1:{live.server.port}/token")


def client_of(token: str) -> Any:
    return jose.parse_jwt(token.strip()).claims["client_id"]


@pytest.mark.rule("CL-31", "AS-JB-01")
@pytest.mark.parametrize("platform", NAMES)
@pytest.mark.parametrize("known", [False, True], ids=["grant", "assertion"])
def test_a_workload_gets_a_token(
    trusting: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, known: bool
) -> None:
    """From the platform's own place, by the rules or by the client's name; twice, as after the first has ended."""
    path = tmp_path / "token"
    client_id = f"{platform}-worker" if known else None
    with (
        Runner(lambda audience: issue("github", audience)) as runner,
        GoogleMetadata(lambda audience: issue("google", audience)) as google,
        AppService(lambda audience: issue("entra", audience)) as azure,
    ):
        for name, value in {**runner.environment(), **google.environment(), **azure.environment()}.items():
            monkeypatch.setenv(name, value)
        identities = {
            "kubernetes": WorkloadIdentity.kubernetes(path),
            "github": WorkloadIdentity.github(),
            "gitlab": WorkloadIdentity.gitlab(),
            "google": WorkloadIdentity.google(),
            "entra": WorkloadIdentity.azure(),
            "spiffe": WorkloadIdentity.spiffe(path),
        }
        with machine(trusting, identities[platform], client_id) as client:
            for _ in range(2):
                monkeypatch.setenv("GROAT_ID_TOKEN", issue("gitlab", ISSUER))
                if platform in ("kubernetes", "spiffe"):
                    path.write_text(issue(platform, ISSUER))
                token = client.token(resource=AUDIENCE, scopes=["orders:read"])
                assert client_of(token.value) == f"{platform}-worker"
                client.drop(token, AUDIENCE, ["orders:read"])


@pytest.mark.rule("CL-31", "CL-35")
def test_a_job_whose_token_counts_once(trusting: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitLab's variable stays as it was: the second request is refused, once, and says where to look."""
    monkeypatch.setenv("GROAT_ID_TOKEN", issue("gitlab", ISSUER))
    with machine(trusting, WorkloadIdentity.gitlab()) as client:
        client.token(AUDIENCE, ["orders:read"])
        with pytest.raises(TokenRequestRefused, match=r"invalid_grant.*groat trust test.*request id"):
            client.token(AUDIENCE, ["orders:read", "orders:write"])


@pytest.mark.rule("CL-31", "CL-35")
@pytest.mark.parametrize(
    "changes", [{"sub": "system:serviceaccount:billing:other"}, {"aud": ["https://other"]}, {"exp": 1}]
)
def test_a_stranger_gets_none(trusting: Live, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whatever is wrong with the token, one refusal."""
    path = tmp_path / "token"
    path.write_text(token := issue("kubernetes", ISSUER, **changes))
    with machine(trusting, WorkloadIdentity.kubernetes(path)) as client:
        with pytest.raises(TokenRequestRefused, match="invalid_grant") as refused:
            client.token(AUDIENCE, ["orders:read"])
    assert token.split(".")[1] not in str(refused.value)


@pytest.mark.rule("CL-31", "CL-26")
def test_a_workload_has_its_token_bound(empty: Home) -> None:
    """As every other client, at a server that is found by its metadata."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    empty.env["GROAT_SERVER__PORT"] = str(port)
    empty.ok("init", "--issuer", issuer)
    empty.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read")
    trust(empty, "kubernetes")
    path = empty.file("token", issue("kubernetes", issuer))
    with empty.serving(port=port):
        with MachineClient(issuer, key=WorkloadIdentity.kubernetes(path), dpop=True) as client:
            token = client.token(AUDIENCE, ["orders:read"])
    claims = jose.parse_jwt(token.value).claims
    assert (token.type, claims["client_id"], list(claims["cnf"])) == ("DPoP", "kubernetes-worker", ["jkt"])


@pytest.mark.rule("CL-31")
def test_the_command_gets_it_too(trusting: Live) -> None:
    """By an option or by the environment, without key and client id."""
    home = trusting.home
    home.file("pod.token", issue("kubernetes", ISSUER))
    command = ("token", "get", "--local", "--resource", AUDIENCE, "--scope", "orders:read")
    named = {"GROAT_ASSERTION_FILE": "pod.token"}
    assert client_of(home.ok(*command, "--print-token", "--workload", "kubernetes", **named).out) == "kubernetes-worker"
    shown = home.ok("--json", *command, GROAT_WORKLOAD="kubernetes", **named).json
    assert (shown["client_id"], shown["scope"]) == (None, "orders:read")
    with Runner(lambda audience: issue("github", audience)) as runner:
        done = home.ok(*command, "--print-token", "--workload", "github", **runner.environment())
    assert client_of(done.out) == "github-worker"


@pytest.mark.rule("CL-31", "CL-21")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "--workload"),
        (("--client-id", "billing"), 2, "--key"),
        (("--key", "billing.key.json"), 2, "--client-id"),
        (("--client-id", "billing", "--key", "billing.key.json", "--workload", "github"), 2, "give one"),
        (("--workload", "jenkins"), 3, "one of file, kubernetes"),
        (("--workload", "spiffe"), 3, "SPIFFE_ENDPOINT_SOCKET"),
        (("--workload", "kubernetes", "--cache", "tokens"), 3, "kept by client_id"),
        (("--workload", "github"), 3, "id-token: write"),
    ],
)
def test_commands_that_say_too_little_or_too_much(
    trusting: Live, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Each says what is missing."""
    done = trusting.home("token", "get", "--local", *arguments)
    assert (done.code, "Traceback" in done.err) == (code, False), done.err
    assert said in done.err.replace("\n", " ")


@pytest.mark.rule("CL-31")
def test_the_example_of_a_workload(trusting: Live, tmp_path: Path) -> None:
    """As a pod and as a job of GitHub run it; what stands in its output is no secret."""
    path = tmp_path / "token"
    path.write_text(pod := issue("kubernetes", ISSUER))
    base = {
        "PATH": os.environ["PATH"],
        "GROAT_ISSUER": ISSUER,
        "GROAT_TOKEN_ENDPOINT": f"http://127.0.0.1:{trusting.server.port}/token",
        "API": AUDIENCE,
        "SCOPE": "orders:read",
    }
    command = [sys.executable, str(ROOT / "examples" / "workload.py")]
    with Runner(lambda audience: issue("github", audience)) as runner:
        for platform in (
            {"GROAT_WORKLOAD": "kubernetes", "GROAT_ASSERTION_FILE": str(path)},
            {"GROAT_WORKLOAD": "github", **runner.environment()},
        ):
            done = subprocess.run(command, env={**base, **platform}, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "scopes='orders:read'" in done.stdout
            assert pod not in done.stdout + done.stderr
    lost = subprocess.run(
        command, env={**base, "GROAT_WORKLOAD": "github"}, capture_output=True, text=True, check=False
    )
    assert (lost.returncode, "id-token: write" in lost.stderr) == (4, True)
