"""The other side of FakeIssuer: callers get real tokens for real assertions, without a network."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import ClientError, MachineClient, ServerUnreachable, TokenRequestRefused, machine_client
from groat.protocol.jwk import generate_private_key
from groat.testing import FakeIssuer
from groat.verifier import Verifier, environment
from groat.verifier.asgi import GroatMiddleware, Receive, Scope, Send
from tests.verifier.test_surroundings import PAST, freeze

URL, AUD = "https://auth.example.com", "https://orders.example.com"


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer(URL, audience=AUD)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An API that says who called."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["caller"].client_id.encode()})


@pytest.mark.rule("UT-5")
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_a_caller_and_an_api_meet(issuer: FakeIssuer, library: Any) -> None:
    """Both in one test: the client's assertion is proven, the API proves the token; a revoked key is met by a retry."""
    app = GroatMiddleware(hello, issuer.verifier(), scopes=["orders:read"])

    async def call() -> list[str]:
        auth = machine.auth(resource=AUD, scopes=["orders:read"])
        async with library.AsyncClient(transport=library.ASGITransport(app), base_url=AUD, auth=auth) as api:
            first = await api.get("/")
            issuer.rotate(revoke=True)
            return [first.text, (await api.get("/")).text]

    with issuer.machine("billing") as machine:
        assert asyncio.run(call()) == ["billing", "billing"]


@pytest.mark.rule("UT-5")
def test_what_a_client_may_not_have(issuer: FakeIssuer) -> None:
    """Named scopes are the only ones; a client without names may have any, of any API, but must ask for one."""
    with issuer.machine("billing", ["orders:read"]) as machine:
        assert machine.token(AUD, "orders:read").scopes == ("orders:read",)
        assert refusal(machine, AUD, "orders:write") == "invalid_scope"
        assert refusal(machine, "https://other.example.com", "orders:read") == "invalid_target"
    with issuer.machine("billing") as machine:
        assert machine.token("https://other.example.com", ["a", "b"]).scopes == ("a", "b")
        assert refusal(machine, AUD, "") == "invalid_scope"


def refusal(machine: MachineClient, resource: str, scopes: str) -> str:
    with pytest.raises(TokenRequestRefused) as caught:
        machine.token(resource, scopes)
    assert caught.value.request_id == "in-memory"
    return caught.value.code


@pytest.mark.rule("UT-5")
def test_who_is_not_registered(issuer: FakeIssuer) -> None:
    """Another key, an unknown name, an assertion for another server: invalid_client, as from the real one."""
    with issuer.machine("billing") as machine, issuer.machine("billing") as other:
        assert [one.token(scopes="a").scopes for one in (machine, other)] == [("a",)] * 2
    with issuer.installed():
        assert refusal(MachineClient(URL, "billing", generate_private_key("ES256")), AUD, "a") == "invalid_client"
        assert refusal(MachineClient(URL, "stranger", generate_private_key("ES256")), AUD, "a") == "invalid_client"


@pytest.mark.rule("UT-5")
def test_an_assertion_counts_once(issuer: FakeIssuer) -> None:
    """Whoever sends a form twice, as libraries do that retry, is refused the second time."""
    inner: Any = issuer.machine("billing")._transport._given

    class Twice:
        def build_request(self, *words: Any, **more: Any) -> Any:
            return inner.build_request(*words, **more)

        def send(self, request: Any, **more: Any) -> Any:
            if request.method == "POST":
                inner.send(request)
            return inner.send(request)

        def close(self) -> None:
            inner.close()

    with MachineClient(URL, "billing", issuer.register("billing"), http=Twice()) as machine:
        assert refusal(machine, AUD, "a") == "invalid_client"


@pytest.fixture
def from_env(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MachineClient]:
    """A client as an application makes it, from variables."""
    for name, value in issuer.environment("billing", ["orders:read"]).items():
        monkeypatch.setenv(name, value)
    with MachineClient.from_env() as machine:
        yield machine


@pytest.mark.rule("UT-5")
def test_a_client_of_the_environment(issuer: FakeIssuer, from_env: MachineClient) -> None:
    """`installed` is all that it needs; the token is good at an API, and does not show."""
    with issuer.installed():
        token = from_env.token(AUD, "orders:read")
        assert issuer.verifier().verify(token.value).client_id == "billing"
        assert "eyJ" not in repr(token) + str(token)
        assert asyncio.run(from_env.atoken(AUD, "orders:read")).value == token.value


@pytest.mark.rule("UT-5")
def test_no_variable_of_a_developer_leads_past_the_fake(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever is set in a shell: both sides find this issuer, and nothing is written anywhere."""
    shell = {
        "GROAT_DPOP": "1",
        "GROAT_ALGORITHM": "RS256",
        "GROAT_KEY_ID": "mine",
        "GROAT_KEY_FILE": str(tmp_path / "key.jwk"),
        "GROAT_ASSERTION_FILE": str(tmp_path / "token"),
        "GROAT_WORKLOAD": "file",
        "GROAT_WORKLOAD_AUDIENCE": "https://real.example",
        "GROAT_TOKEN_CACHE": str(tmp_path / "tokens"),
        "GROAT_TOKEN_ENDPOINT": "https://real.example/token",
        "GROAT_JWKS_URI": "https://real.example/jwks.json",
        "GROAT_ALGORITHMS": "RS256",
        "GROAT_PUBLIC_URL": "https://real.example",
    }
    for name, value in {**shell, **issuer.environment("billing")}.items():
        monkeypatch.setenv(name, value)
    with issuer.installed(), MachineClient.from_env() as machine:
        token = machine.token(issuer.audience, "orders:read")
        verifier = Verifier.from_env()
        assert verifier.verify(token.value).client_id == "billing"
    assert (machine.bound, token.type, list(tmp_path.iterdir())) == (False, "Bearer", [])
    assert verifier._possession._bases == (issuer.audience,)


@pytest.mark.rule("UT-5")
def test_every_variable_is_said(issuer: FakeIssuer) -> None:
    """Also one that is invented later."""
    client = {*machine_client._VARIABLES.values(), *machine_client._KEY_VARIABLES, *machine_client._KEY_FACTS}
    verifier = {*environment._REQUIRED, *environment._OPTIONAL}
    said = issuer.environment("billing").keys()
    assert {*client, *verifier, machine_client._AUDIENCE, machine_client._DPOP} <= said


@pytest.mark.rule("UT-5", "CL-5")
def test_a_caller_in_frozen_time(issuer: FakeIssuer, from_env: MachineClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are of the frozen instant; clients get them all the same, those that are older than the frost, too."""
    old = issuer.machine("billing")
    freeze(monkeypatch)
    with issuer.installed(), issuer.machine("billing") as new, old:
        for machine in (old, new, from_env):
            token = machine.token(AUD, "orders:read").value
            assert issuer.verifier().verify(token).issued_at == PAST + 1


@pytest.mark.rule("UT-5")
def test_a_caller_whose_issuer_is_down(issuer: FakeIssuer) -> None:
    """What is raised is what a refused connection raises elsewhere; a token at hand stays good."""
    from groat.client import RetryPolicy

    with issuer.machine("billing", retry=RetryPolicy(retries=0)) as machine:
        token = machine.token(scopes="a")
        with issuer.down():
            assert machine.token(scopes="a").value == token.value
            with pytest.raises(ServerUnreachable) as caught:
                machine.token(scopes="b")
            assert caught.value.transient
        assert machine.token(scopes="b").scopes == ("b",)
    with pytest.raises(ClientError):
        machine.token(scopes="a")
