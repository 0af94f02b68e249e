"""Tokens of AWS, asked for with AWS credentials, and of a SPIFFE agent, over the Workload API."""
# ruff: noqa: F811  # fixtures of a neighbour

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from groat.client import KeyUnusable, MachineClient, WorkloadIdentity
from groat.client.spiffe_source import METHOD, encoded, first_svid, texts
from groat.protocol.errors import ConfigError

from .aws import SESSION, Container, Instance, Sts
from .servers import Reply
from .test_workload import Federation, Set, environment, issuer, mint  # noqa: F401

SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"


@pytest.fixture
def bare(environment: Set, tmp_path: Path) -> Set:
    """No AWS credentials but those that the test names."""
    nowhere = str(tmp_path / "nowhere")
    environment({"AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_CONFIG_FILE": nowhere})
    environment({"AWS_EC2_METADATA_DISABLED": "true"})
    return environment


@pytest.mark.rule("CL-31")
@pytest.mark.parametrize("place", ["environment", "container", "instance"])
def test_a_token_of_sts(issuer: Federation, mint: Any, bare: Set, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the issuer, or another audience; signed with the credentials of the environment, a container, an instance."""
    with Sts(mint) as sts, Container(mint) as container, Instance(mint) as instance:
        bare(sts.environment())
        if place != "environment":
            sts.session = SESSION
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            bare((container if place == "container" else instance).environment())
            bare({"AWS_EC2_METADATA_DISABLED": "false"})
        with MachineClient(issuer.url, key=WorkloadIdentity.aws()) as client:
            client.token()
        with MachineClient.from_env({"GROAT_ISSUER": issuer.url, "GROAT_WORKLOAD": "aws"}) as client:
            client.token()
        with MachineClient(issuer.url, key=WorkloadIdentity.aws(audience="api://groat")) as client:
            client.token()
        assert sts.audiences == [issuer.url, issuer.url, "api://groat"]
    assert [request.form["grant_type"].rpartition(":")[2] for request in issuer.token_requests] == ["jwt-bearer"] * 3


@pytest.mark.rule("CL-31", "CL-21")
@pytest.mark.parametrize(
    ("status", "code", "said", "transient"),
    [
        (400, "OutboundWebIdentityFederationDisabledException", "enable-outbound", False),
        (403, "AccessDenied", "sts:GetWebIdentityToken", False),
        (503, "ServiceUnavailable", "", True),
        (429, "Throttling", "", True),
    ],
)
def test_what_sts_refuses(
    issuer: Federation,
    mint: Any,
    bare: Set,
    status: int,
    code: str,
    said: str,
    transient: bool,
) -> None:
    """The code and what to do; nothing of the credentials, and nothing is asked twice by itself."""
    error = f"<ErrorResponse><Error><Code>{code}</Code><Message>canary</Message></Error></ErrorResponse>"
    with Sts(mint) as sts:
        bare(sts.environment())
        sts.answer = lambda request: Reply(status, error, {"Content-Type": "text/xml"})  # type: ignore[method-assign]
        found = WorkloadIdentity.aws().source.read(issuer.url)
        assert isinstance(found, KeyUnusable)
        assert (found.transient, len(sts.seen)) == (transient, 1)
    text = f"{found} {found.hint}"
    assert code in text
    assert said in text
    assert "canary" not in text
    assert "AKID" not in text


@pytest.mark.rule("CL-31")
def test_without_aws_credentials_or_region(bare: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said which of them is missing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert "AWS_DEFAULT_REGION" in str(getattr(WorkloadIdentity.aws().source.read("x"), "hint", ""))
    bare({"AWS_DEFAULT_REGION": "eu-central-1"})
    assert "credentials" in str(getattr(WorkloadIdentity.aws().source.read("x"), "hint", ""))


class Agent(grpc.GenericRpcHandler):
    """A SPIFFE agent as far as FetchJWTSVID goes; `fault`: the code that it refuses with."""

    def __init__(self, mint: Any) -> None:
        self.mint, self.audiences, self.fault = mint, list[str](), grpc.StatusCode.OK

    def service(self, details: Any) -> Any:
        if details.method != METHOD:
            return None
        shown = dict(details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(lambda asked, context: self.fetch(asked, context, shown))

    def fetch(self, asked: bytes, context: Any, shown: dict[str, Any]) -> bytes:
        if shown.get("workload.spiffe.io") != "true":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")
        if self.fault is not grpc.StatusCode.OK:
            context.abort(self.fault, "canary")
        (audience,) = (value.decode() for value in texts(asked, 1))
        self.audiences.append(audience)
        hint = encoded(3, b"internal")
        svids = [encoded(1, b"spiffe://prod.example/a") + encoded(2, self.mint(audience).encode()) + hint,
                 encoded(1, b"spiffe://prod.example/b") + encoded(2, b"a.b.c")]  # fmt: skip
        return b"".join(encoded(1, one) for one in svids)


@contextmanager
def agent(mint: Any, *addresses: str) -> Iterator[tuple[Agent, list[int]]]:
    """A running one at these addresses, and what each of them became."""
    made, server = Agent(mint), grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((made,))
    ports = [server.add_insecure_port(address) for address in addresses]
    server.start()
    try:
        yield made, ports
    finally:
        server.stop(None).wait(5)


@pytest.mark.rule("CL-31", "AS-SP-01")
def test_an_svid_of_the_agent(issuer: Federation, mint: Any, environment: Set, tmp_path: Path) -> None:
    """At the socket of the environment or the program, through no proxy; as grant, and by the type of SVIDs."""
    unix = f"unix://{tmp_path}/agent.sock"
    with agent(mint, unix, "127.0.0.1:0") as (made, (_, port)):
        environment(
            {"SPIFFE_ENDPOINT_SOCKET": unix, "http_proxy": "http://127.0.0.1:9", "grpc_proxy": "http://127.0.0.1:9"}
        )
        for identity in (
            WorkloadIdentity.spiffe(),
            WorkloadIdentity.spiffe(socket=f"tcp://127.0.0.1:{port}", audience="api://groat"),
        ):
            with MachineClient(issuer.url, key=identity) as client:
                client.token()
        env = {"GROAT_ISSUER": issuer.url, "GROAT_WORKLOAD": "spiffe", "GROAT_CLIENT_ID": "billing"}
        with MachineClient.from_env(env) as client:
            client.token()
        assert made.audiences == [issuer.url, "api://groat", issuer.url]
    forms = [request.form for request in issuer.token_requests]
    assert [form["grant_type"].rpartition(":")[2] for form in forms] == [
        "jwt-bearer",
        "jwt-bearer",
        "client_credentials",
    ]
    assert forms[-1]["client_assertion_type"] == SPIFFE


@pytest.mark.rule("CL-31", "CL-21")
def test_an_agent_that_gives_none(mint: Any, environment: Set, tmp_path: Path) -> None:
    """The code and what to do; what the agent writes is not shown."""
    unix = f"unix://{tmp_path}/agent.sock"
    source = WorkloadIdentity.spiffe(socket=unix).source
    with agent(mint, unix) as (made, _):
        for code, transient in ((grpc.StatusCode.PERMISSION_DENIED, False), (grpc.StatusCode.UNAVAILABLE, True)):
            made.fault = code
            found = source.read("x")
            assert isinstance(found, KeyUnusable)
            assert (code.name in str(found), found.transient, "canary" in f"{found}{found.hint}") == (
                True,
                transient,
                False,
            )
    gone = source.read("x")
    assert isinstance(gone, KeyUnusable)
    assert gone.transient
    for wrong in ("", "/run/agent.sock", "http://x", "unix:", "tcp://"):
        environment({"SPIFFE_ENDPOINT_SOCKET": wrong})
        assert "SPIFFE_ENDPOINT_SOCKET must be" in str(WorkloadIdentity.spiffe().source.read("x"))
    with pytest.raises(ConfigError, match="a file has its token already"):
        WorkloadIdentity.spiffe("svid.token", audience="x")


@pytest.mark.rule("CL-31")
def test_messages_that_are_none() -> None:
    """What ends early or has another shape holds no SVID; fields that came later are passed over."""
    good = encoded(1, encoded(2, b"x" * 300))
    assert first_svid(good) == b"x" * 300
    assert first_svid(b"\x10\x96\x01" + b"\x1d\0\0\0\0" + b"\x21" + bytes(8) + encoded(9, b"new") + good) == b"x" * 300
    for wrong in (b"", b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0b\x01", encoded(1, b""), encoded(2, b"x"), good[:40]):
        assert first_svid(wrong) is None
