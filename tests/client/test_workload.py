"""What a workload presents in place of a key: read from its platform anew each time, sent as grant or as assertion.

The platforms' stand-ins name their sources in `platforms.py`. Files: "Configure Service Accounts for Pods", Launch a Pod
using service account token projection (kubernetes.io); `jwt_svids` of spiffe-helper's README (github.com/spiffe). GitLab:
"OpenID Connect (OIDC) Authentication Using ID Tokens" (docs.gitlab.com), a variable that `id_tokens` names.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groat.client import (
    KeyUnusable,
    MachineClient,
    TokenRequestRefused,
    WorkloadIdentity,
    platform_endpoints,
)
from groat.client.workload import identity_of
from groat.protocol import jose
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey
from tests.certificates import self_signed, serving

from .clocks import Clock
from .conftest import MakeMachine
from .platforms import AppService, GoogleMetadata, InstanceMetadata, Runner, Stand
from .servers import AuthorizationServer, Reply, Seen, verify_assertion
from .test_secrets import everything_in

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
Set = Callable[[dict[str, str]], None]


class Federation(AuthorizationServer):
    """Takes the tokens of a platform, as grant too."""

    def judge(self, request: Seen) -> None:
        presented = request.form.get("assertion") or request.form["client_assertion"]
        self.assertions.append(verify_assertion(presented, self.key))


@pytest.fixture
def issuer(key: PrivateKey) -> Any:
    with Federation("", key.public) as server:
        yield server


@pytest.fixture
def mint(key: PrivateKey) -> Callable[[str], str]:
    """A platform's pen: each token has another jti."""
    made: list[str] = []

    def write(audience: str) -> str:
        made.append(audience)
        return jose.sign_jwt({"iss": "platform", "sub": "w", "aud": audience, "jti": f"j{len(made)}"}, key, "JWT")

    return write


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    for name in [name for name in os.environ if name.startswith(("ACTIONS_ID_", "IDENTITY_", "GCE_METADATA"))]:
        monkeypatch.delenv(name)

    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def get(make: MakeMachine, identity: WorkloadIdentity, client_id: str | None = None, **options: Any) -> None:
    make(key=identity, client_id=client_id, **options).token(resource="https://api.example", scopes="a")


@pytest.mark.rule("CL-31")
@pytest.mark.parametrize(
    ("client_id", "as_grant", "sent"),
    [
        (None, None, {"grant_type": GRANT}),
        (
            "billing",
            None,
            {"grant_type": "client_credentials", "client_id": "billing", "client_assertion_type": BEARER},
        ),
        ("billing", True, {"grant_type": GRANT, "client_id": "billing"}),
        (None, False, {"grant_type": "client_credentials", "client_assertion_type": BEARER}),
    ],
)
def test_grant_or_assertion(
    make: MakeMachine, issuer: Federation, mint: Any, tmp_path: Path, client_id: Any, as_grant: Any, sent: Any
) -> None:
    """A grant where nothing but the token says who asks, else authentication; or as one says."""
    path = tmp_path / "token"
    path.write_text(mint(issuer.url))
    get(make, WorkloadIdentity.kubernetes(path, as_grant=as_grant), client_id)
    (request,) = issuer.token_requests
    where = "assertion" if sent["grant_type"] == GRANT else "client_assertion"
    assert request.form == {**sent, where: path.read_text(), "resource": "https://api.example", "scope": "a"}


@pytest.mark.rule("CL-31")
def test_an_svid_has_a_type_of_its_own(make: MakeMachine, issuer: Federation, mint: Any, tmp_path: Path) -> None:
    """As authentication."""
    path = tmp_path / "svid.jwt"
    path.write_text(mint(issuer.url))
    get(make, WorkloadIdentity.spiffe(path), "billing")
    assert issuer.token_requests[0].form["client_assertion_type"] == SPIFFE


@pytest.mark.rule("CL-31", "CL-35")
@pytest.mark.parametrize(("client_id", "code"), [(None, "invalid_grant"), ("billing", "invalid_client")])
def test_a_refused_file_is_read_once_more(
    make: MakeMachine, issuer: Federation, mint: Any, tmp_path: Path, client_id: Any, code: str
) -> None:
    """Unchanged: one request. Replaced meanwhile: one more with the new one, by the same grant, and never a third."""
    path = tmp_path / "token"
    path.write_text(first := mint(issuer.url))
    refusal = Reply(400, {"error": code})
    issuer.script.append(refusal)
    with pytest.raises(TokenRequestRefused, match="groat trust test" if client_id is None else code):
        get(make, WorkloadIdentity.file(path), client_id)
    assert len(issuer.token_requests) == 1

    class Replacing(Reply):
        """The platform writes a new token while the answer is under way."""

        @property
        def raw(self) -> bytes:
            path.write_text(mint(issuer.url))
            return super().raw

    issuer.script.append(Replacing(400, {"error": code}))
    get(make, WorkloadIdentity.file(path), client_id)
    issuer.script.extend([Replacing(400, {"error": code})] * 2)
    with pytest.raises(TokenRequestRefused):
        get(make, WorkloadIdentity.file(path), client_id)
    forms = [request.form for request in issuer.token_requests]
    assert len(forms) == 5
    assert len({form["grant_type"] for form in forms}) == 1
    sent = [form.get("assertion") or form["client_assertion"] for form in forms]
    assert sent[0] == sent[1] == first
    assert len({*sent[1:]}) >= 3


@pytest.mark.rule("CL-31")
def test_a_file_that_is_gone_after_the_refusal(
    make: MakeMachine, issuer: Federation, mint: Any, tmp_path: Path
) -> None:
    """What the server said is told; other refusals lead to no second look."""
    path = tmp_path / "token"
    path.write_text(mint(issuer.url))

    class Removing(Reply):
        @property
        def raw(self) -> bytes:
            path.unlink(missing_ok=True)
            return super().raw

    issuer.script.append(Removing(400, {"error": "invalid_grant"}))
    with pytest.raises(TokenRequestRefused, match="invalid_grant"):
        get(make, WorkloadIdentity.file(path))
    path.write_text(mint(issuer.url))
    issuer.script.append(Removing(400, {"error": "invalid_scope"}))
    with pytest.raises(TokenRequestRefused, match="invalid_scope"):
        get(make, WorkloadIdentity.file(path))
    with pytest.raises(KeyUnusable, match=f"workload token {path}: No such file"):
        get(make, WorkloadIdentity.kubernetes(path))


@pytest.mark.rule("CL-31")
def test_github(make: MakeMachine, issuer: Federation, mint: Any, environment: Set) -> None:
    """A new token for each request, for the issuer or for another audience."""
    with Runner(mint) as runner:
        environment(runner.environment())
        client = make(key=WorkloadIdentity.github(), client_id=None)
        client.token(scopes="a")
        client.token(scopes="b")
        get(make, WorkloadIdentity.github(audience="api://groat & co"))
        assert runner.audiences == [issuer.url, issuer.url, "api://groat & co"]
    assert [claims["jti"] for claims in issuer.claims] == ["j1", "j2", "j3"]


@pytest.mark.rule("CL-31")
def test_github_over_tls(make: MakeMachine, issuer: Federation, mint: Any, environment: Set, tmp_path: Path) -> None:
    """A certificate that nobody vouches for gets no bearer token."""
    certificate = self_signed(tmp_path, ["127.0.0.1"])[1]
    with Runner(mint, serving(certificate)) as runner:
        environment(runner.environment())
        with pytest.raises(KeyUnusable, match="SSL_CERT_FILE"):
            get(make, WorkloadIdentity.github())
        assert runner.seen == []
        environment({"SSL_CERT_FILE": str(certificate)})
        get(make, WorkloadIdentity.github())


@pytest.mark.rule("CL-31", "CL-21")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": ""}, "id-token: write"),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": ""}, "id-token: write"),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "http://runner.example/idtoken?a=b"}, "must be an https URL"),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "no url"}, "must be an https URL"),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runtime\r\ntoken"}, "cannot stand in a header"),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "another-token"}, "answered 401"),
    ],
)
def test_github_that_does_not_answer_so(
    make: MakeMachine, issuer: Federation, mint: Any, environment: Set, change: dict[str, str], said: str
) -> None:
    """Nothing is sent in clear, nor to the authorization server."""
    with Runner(mint) as runner:
        environment({**runner.environment(), **change})
        with pytest.raises(KeyUnusable, match=said) as refused:
            get(make, WorkloadIdentity.github())
        assert not refused.value.transient
    for secret in (runner.bearer, "another-token", "idtoken"):
        assert secret not in str(refused.value)
    assert issuer.token_requests == []


ODD = [
    (Reply(302, "", {"Location": "http://127.0.0.1:1/"}), "redirects are never followed", False),
    (Reply(200, "x" * 70_000), "longer than", False),
    (Reply(200, b"\xff\xfe"), "JSON|JWT|Metadata-Flavor", False),
    (Reply(403, "secret-answer"), "answered 403", False),
    (Reply(404, "secret-answer"), "answered 404", False),
    (Reply(429, "secret-answer"), "answered 429", True),
    (Reply(503, "secret-answer"), "answered 503", True),
    (Reply(0), "127.0.0.1", True),
]
STANDS: list[tuple[type[Stand], WorkloadIdentity]] = [
    (Runner, WorkloadIdentity.github()),
    (GoogleMetadata, WorkloadIdentity.google()),
    (AppService, WorkloadIdentity.azure()),
]


@pytest.mark.rule("CL-31", "CL-21")
@pytest.mark.parametrize(("stand", "identity"), STANDS, ids=lambda one: getattr(one, "__name__", ""))
@pytest.mark.parametrize(("reply", "said", "again"), ODD, ids=lambda one: str(getattr(one, "status", "")))
def test_a_platform_that_fails(
    make: MakeMachine, issuer: Federation, clock: Clock, mint: Any, environment: Set,
    stand: type[Stand], identity: WorkloadIdentity, reply: Reply, said: str, again: bool,
) -> None:  # fmt: skip
    """What may pass is tried again; of the answer nothing is shown, and no other way to a token is gone."""

    class Odd(stand):  # type: ignore[valid-type, misc]
        def answer(self, request: Seen) -> Reply:
            return reply

    with Odd(mint) as odd:
        environment(odd.environment())
        with pytest.raises(KeyUnusable, match=said) as failed:
            get(make, identity, **clock.options)
        assert (failed.value.transient, len(odd.seen) > 1) == (again, again)
    assert "secret-answer" not in str(failed.value)
    assert issuer.token_requests == []


@pytest.mark.rule("CL-21", "CL-31")
@pytest.mark.parametrize(("stand", "identity"), STANDS, ids=lambda one: getattr(one, "__name__", ""))
def test_nothing_secret_is_left_behind(
    make: MakeMachine, issuer: Federation, clock: Clock, mint: Any, environment: Set,
    stand: Any, identity: WorkloadIdentity, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """In errors, their frames, and the log of a run: neither the platform's token nor what it is asked with."""
    caplog.set_level(logging.DEBUG)
    with stand(mint) as server:
        environment(server.environment())
        get(make, identity)
        server.scripted_path = server.seen[0].path
        odd = f"{mint(issuer.url)} {mint(issuer.url)}"
        server.script.append(Reply(200, json.dumps({"value": odd, "access_token": odd}), {"Metadata-Flavor": "Google"}))
        with pytest.raises(KeyUnusable) as malformed:
            get(make, identity)
        issuer.script.append(Reply(400, {"error": "invalid_grant", "error_description": mint(issuer.url)}))
        with pytest.raises(TokenRequestRefused) as refused:
            get(make, identity)
    with pytest.raises(KeyUnusable) as away:
        get(make, identity, **clock.options)
    seen = caplog.text + "".join(everything_in(one.value) for one in (malformed, refused, away)).replace(odd, "")
    # The stand-in's own settings are the test's; what counts are the frames of the library.
    assert issuer.token_requests[0].form["assertion"].split(".")[2] not in seen
    for part in odd.replace(" ", ".").split("."):
        assert part not in seen
    for secret in (Runner.bearer, AppService.secret):
        assert secret not in seen


@pytest.mark.rule("CL-31")
def test_a_platform_that_recovers(
    make: MakeMachine, issuer: Federation, clock: Clock, mint: Any, environment: Set
) -> None:
    """A platform that is busy for a moment costs a wait."""
    with Runner(mint) as runner:
        runner.scripted_path = "/idtoken/1/2"
        runner.script.append(Reply(503))
        environment(runner.environment())
        get(make, WorkloadIdentity.github(), **clock.options)
    assert len(clock.sleeps) == len(issuer.token_requests) == 1


@pytest.mark.rule("CL-31")
@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"value": 7, "access_token": 7}', b'{"value": "x", "access_token": "x"}']
)
@pytest.mark.parametrize(("stand", "identity"), [STANDS[0], STANDS[2]], ids=["github", "azure"])
def test_an_answer_without_a_token(
    make: MakeMachine, issuer: Federation, mint: Any, environment: Set, stand: Any, identity: Any, body: bytes
) -> None:
    """It is a local error."""

    class Odd(stand):  # type: ignore[misc]
        def answer(self, request: Seen) -> Reply:
            return Reply(200, body)

    with Odd(mint) as odd:
        environment(odd.environment())
        with pytest.raises(KeyUnusable, match=r"JSON object|has no|not a JWT"):
            get(make, identity)
    assert issuer.token_requests == []


@pytest.mark.rule("CL-31")
def test_gitlab(make: MakeMachine, issuer: Federation, mint: Any, environment: Set) -> None:
    """The variable that the job names; one that is missing says what to write."""
    with pytest.raises(KeyUnusable, match=r"GROAT_ID_TOKEN is not set.*id_tokens: .GROAT_ID_TOKEN: .aud: http"):
        get(make, WorkloadIdentity.gitlab())
    environment({"GROAT_ID_TOKEN": mint(issuer.url), "MINE": "a.b.c d"})
    get(make, WorkloadIdentity.gitlab())
    with pytest.raises(KeyUnusable, match="workload token MINE: not a JWT") as refused:
        get(make, WorkloadIdentity.gitlab("MINE"))
    assert "a.b" not in str(refused.value)


@pytest.mark.rule("CL-31")
def test_google(make: MakeMachine, issuer: Federation, mint: Any, environment: Set) -> None:
    """Without any proxy; who does not say that it is the metadata server is not believed."""
    with GoogleMetadata(mint) as server:
        environment({**server.environment(), "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"})
        get(make, WorkloadIdentity.google())
        assert server.audiences == [issuer.url]
        server.scripted_path = server.seen[0].path
        server.script.append(Reply(200, mint(issuer.url)))
        with pytest.raises(KeyUnusable, match="no metadata server"):
            get(make, WorkloadIdentity.google())


@pytest.mark.rule("CL-31")
def test_azure(
    make: MakeMachine, issuer: Federation, mint: Any, environment: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a virtual machine, and on App Service, whose variables count where they are set."""
    identity = WorkloadIdentity.azure(audience="api://groat", identity="00001111-aaaa")
    with InstanceMetadata(mint) as machine, AppService(mint) as service:
        url = platform_endpoints.AZURE_URL.replace("http://169.254.169.254", machine.url)
        monkeypatch.setattr(
            platform_endpoints, "AZURE_URL", url
        )  # the address is link-local, and not ours to listen on
        get(make, identity)
        environment(service.environment())
        get(make, identity)
        assert (machine.audiences, service.audiences) == (["api://groat"], ["api://groat"])
        assert machine.seen[0].target.endswith("&client_id=00001111-aaaa")
        environment({"IDENTITY_HEADER": ""})
        with pytest.raises(KeyUnusable, match="IDENTITY_HEADER is missing"):
            get(make, identity)


@pytest.mark.rule("CL-31", "CL-21")
def test_what_is_refused_at_once(mint: Any, key: PrivateKey, tmp_path: Path) -> None:
    """And what is shown of an identity."""
    token = mint("x")
    with pytest.raises(ConfigError, match="not the token") as refused:
        WorkloadIdentity(token)
    assert token not in str(refused.value)
    for path in ("", None):
        with pytest.raises(ConfigError, match="path of a workload's token is missing"):
            WorkloadIdentity(path)
    with pytest.raises(ConfigError, match="only a WorkloadIdentity says by itself"):
        MachineClient("https://as.example", key=key)
    with pytest.raises(ConfigError, match="key is missing"):
        MachineClient("https://as.example", "billing")
    with pytest.raises(ConfigError, match="kept by client_id"):
        MachineClient("https://as.example", key=WorkloadIdentity.github(), token_cache=tmp_path)
    client = MachineClient("https://as.example", key=WorkloadIdentity.github())
    assert repr(client) == "MachineClient(issuer='https://as.example', client_id=None)"
    assert "GithubSource" in repr(WorkloadIdentity.github())


@pytest.mark.rule("CL-31")
def test_the_platform_from_the_environment(issuer: Federation, mint: Any, environment: Set, tmp_path: Path) -> None:
    """GROAT_WORKLOAD names it; a client id is not needed then."""
    path = tmp_path / "token"
    path.write_text(mint(issuer.url))
    for platform in ("kubernetes", "spiffe", "file"):
        env = {"GROAT_ISSUER": issuer.url, "GROAT_WORKLOAD": platform, "GROAT_ASSERTION_FILE": str(path)}
        with MachineClient.from_env(env) as client:
            client.token()
    with Runner(mint) as runner:
        environment(runner.environment())
        env = {"GROAT_ISSUER": issuer.url, "GROAT_WORKLOAD": "github", "GROAT_WORKLOAD_AUDIENCE": "api://groat"}
        with MachineClient.from_env({**env, "GROAT_CLIENT_ID": "billing"}) as client:
            client.token()
        assert runner.audiences == ["api://groat"]
    forms = [request.form for request in issuer.token_requests]
    assert [form["grant_type"] for form in forms] == [GRANT] * 3 + ["client_credentials"]
    assert forms[-1]["client_id"] == "billing"


@pytest.mark.rule("CL-31")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GROAT_WORKLOAD": "jenkins"}, "a workload is of one of file, kubernetes, github"),
        ({"GROAT_WORKLOAD": "file"}, "GROAT_ASSERTION_FILE is not set"),
        ({"GROAT_WORKLOAD": "aws", "GROAT_ASSERTION_FILE": "x"}, "GROAT_ASSERTION_FILE is nothing to aws"),
        ({"GROAT_WORKLOAD": "github", "GROAT_ASSERTION_FILE": "x"}, "GROAT_ASSERTION_FILE is nothing to github"),
        ({"GROAT_WORKLOAD": "kubernetes", "GROAT_WORKLOAD_AUDIENCE": "x"}, "has its audience already"),
        ({"GROAT_WORKLOAD": "github", "GROAT_KEY_FILE": "x"}, "GROAT_KEY_FILE and GROAT_WORKLOAD are set"),
        ({"GROAT_ASSERTION_FILE": "x"}, "GROAT_CLIENT_ID is not set"),
    ],
)
def test_an_environment_that_cannot_be_meant(variables: dict[str, str], said: str) -> None:
    """Each says which variable."""
    with pytest.raises(ConfigError, match=said):
        MachineClient.from_env({"GROAT_ISSUER": "https://as.example", **variables})


@pytest.mark.rule("CL-31")
def test_every_name_is_a_platform() -> None:
    """As the environment has them."""
    for name in ("github", "gitlab", "google", "azure", "kubernetes"):
        assert isinstance(identity_of(name), WorkloadIdentity)
