"""The front door: arguments, environment, laziness."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

import groat.client
from groat.client import KeyUnusable, MachineClient, RetryPolicy, WorkloadIdentity
from groat.protocol import jose
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey

from .conftest import CLIENT_ID, MakeMachine
from .servers import Api, AuthorizationServer


@pytest.mark.parametrize(
    "options",
    [
        {"client_id": ""},
        {"timeout": 0},
        {"timeout": -1.0},
        {"assertion_lifetime": 4},
        {"assertion_lifetime": 301},
        {"http": httpx2.AsyncClient},
        {"http": httpx.AsyncClient},
        {"issuer": ""},
        {"issuer": "https://[::1"},
    ],
    ids=str,
)
def test_bad_arguments(make: MakeMachine, options: dict[str, Any]) -> None:
    """Arguments that cannot work are refused by the constructor."""
    with pytest.raises(ConfigError):
        make(**options)


def test_all_findings_at_once(key: PrivateKey) -> None:
    """Every mistake is named, not only the first."""
    with pytest.raises(ConfigError) as refused:
        MachineClient("http://as.example", "", key, timeout=0)
    assert len(refused.value.findings) == 3


def test_bad_retry_policy() -> None:
    """Negative times and counts are refused."""
    for wrong in ({"retries": -1}, {"total": 0}, {"base": -1}, {"cap": -1}):
        with pytest.raises(ConfigError):
            RetryPolicy(**wrong)


def test_no_io_before_first_use(tmp_path: Path) -> None:
    """Neither the constructor nor auth() reads a file or opens a connection."""
    with MachineClient("https://as.invalid", CLIENT_ID, tmp_path / "not-yet-there.json") as client:
        client.auth(resource="https://orders.invalid")
        assert client._transport._own is None


def test_repr(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """The repr names issuer and client, nothing else."""
    assert repr(make()) == f"MachineClient(issuer={issuer.url!r}, client_id='billing')"


def test_assertion_lifetime(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """The life of assertions can be set."""
    make(assertion_lifetime=30).token()
    (claims,) = issuer.claims
    assert claims["exp"] - claims["iat"] == 30


@pytest.mark.parametrize("library", [httpx2, httpx])
def test_callers_client_stays_open(make: MakeMachine, issuer: AuthorizationServer, library: Any) -> None:
    """A client that was given is used and not closed; its own auth does not get onto our requests."""
    with library.Client(auth=("user", "pass")) as http:
        client = make(http=http)
        client.token()
        client.close()
        assert not http.is_closed
    assert issuer.token_requests[0].header("authorization") is None


@pytest.mark.parametrize("library", [httpx2, httpx])
def test_factory(make: MakeMachine, issuer: AuthorizationServer, library: Any) -> None:
    """A factory is asked once, and its client is closed with us."""
    made: list[Any] = []

    def factory() -> Any:
        made.append(library.Client())
        return made[-1]

    client = make(http=factory)
    assert made == []
    client.token(scopes="a")
    client.token(scopes="b")
    client.close()
    assert [http.is_closed for http in made] == [True]


class TestFromEnv:
    def env(self, issuer: AuthorizationServer, **more: str) -> dict[str, str]:
        return {"GROAT_ISSUER": issuer.url, "GROAT_CLIENT_ID": CLIENT_ID, **more}

    @pytest.mark.rule("CL-23")
    def test_key_file(self, issuer: AuthorizationServer, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """GROAT_KEY_FILE names the file; the process environment is the default."""
        for name, value in self.env(issuer, GROAT_KEY_FILE=str(key_file)).items():
            monkeypatch.setenv(name, value)
        with MachineClient.from_env() as client:
            assert client.token().value in issuer.issued

    @pytest.mark.rule("CL-23")
    def test_what_is_said_of_a_key_file(self, issuer: AuthorizationServer, key_file: Path) -> None:
        """GROAT_KEY_ID and GROAT_ALGORITHM are about the file as well."""
        env = self.env(issuer, GROAT_KEY_FILE=str(key_file), GROAT_KEY_ID="mine", GROAT_ALGORITHM="ES256")
        with MachineClient.from_env(env) as client:
            client.token()
        assert issuer.assertions[0][0]["kid"] == "mine"
        with MachineClient.from_env({**env, "GROAT_ALGORITHM": "RS256"}) as client:
            with pytest.raises(KeyUnusable, match="ES256"):
                client.token()

    @pytest.mark.rule("CL-21", "CL-23")
    def test_text_for_a_path(self, issuer: AuthorizationServer, key_file: Path) -> None:
        """A key in the variable of its path is refused without a word of it."""
        with pytest.raises(ConfigError, match=r"^GROAT_KEY_FILE: the text of a key, not a path") as refused:
            MachineClient.from_env(self.env(issuer, GROAT_KEY_FILE=key_file.read_text()))
        assert "kty" not in str(refused.value)

    @pytest.mark.rule("CL-23")
    def test_key_text(self, issuer: AuthorizationServer, key_file: Path) -> None:
        """GROAT_KEY holds the key itself; GROAT_KEY_ID names it."""
        env = self.env(issuer, GROAT_KEY=key_file.read_text(), GROAT_KEY_ID="mine", GROAT_ALGORITHM="ES256")
        with MachineClient.from_env(env) as client:
            client.token()
        assert issuer.assertions[0][0]["kid"] == "mine"

    @pytest.mark.rule("CL-23")
    def test_assertion_file(self, issuer: AuthorizationServer, key: PrivateKey, tmp_path: Path) -> None:
        """GROAT_ASSERTION_FILE is a workload token."""
        (tmp_path / "token").write_text(jose.sign_jwt({"jti": "x"}, key, "JWT"))
        with MachineClient.from_env(self.env(issuer, GROAT_ASSERTION_FILE=str(tmp_path / "token"))) as client:
            client.token()
        assert issuer.claims == [{"jti": "x"}]

    def test_options_win(self, issuer: AuthorizationServer, key: PrivateKey) -> None:
        """Arguments win over the environment; the token endpoint may come from either."""
        env = {"GROAT_ISSUER": "http://x", "GROAT_KEY": "junk", "GROAT_TOKEN_ENDPOINT": f"{issuer.url}/token"}
        with MachineClient.from_env(env, issuer="https://as.example", client_id="other", key=key) as client:
            client.token()
        assert issuer.claims[0]["aud"] == "https://as.example"

    @pytest.mark.parametrize(
        ("env", "says"),
        [
            ({}, ["GROAT_ISSUER is not set", "GROAT_CLIENT_ID is not set", "there is no key"]),
            ({"GROAT_ISSUER": "https://x", "GROAT_CLIENT_ID": ""}, ["GROAT_CLIENT_ID is not set", "there is no key"]),
            (
                {"GROAT_ISSUER": "https://x", "GROAT_CLIENT_ID": "x", "GROAT_KEY": "a", "GROAT_KEY_FILE": "b"},
                ["GROAT_KEY_FILE and GROAT_KEY are set: set exactly one"],
            ),
            (
                {"GROAT_ISSUER": "https://x", "GROAT_CLIENT_ID": "x", "GROAT_KEY": "hunter2"},
                ["GROAT_KEY: neither a JWK nor a PEM"],
            ),
        ],
    )
    def test_what_is_missing(self, env: dict[str, str], says: list[str]) -> None:
        """Everything that is missing is named at once, and a key never quoted."""
        with pytest.raises(ConfigError) as refused:
            MachineClient.from_env(env)
        assert len(refused.value.findings) == len(says)
        for part in says:
            assert part in str(refused.value)
        assert "hunter2" not in str(refused.value)

    def test_workload_identity_by_hand(self) -> None:
        """The path may be a Path or a string."""
        assert WorkloadIdentity("x") == WorkloadIdentity("x")


def python(code: str, **env: str) -> str:
    """Run code in a fresh interpreter; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


BLOCK = "import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
TRY = """
from groat.client import MachineClient, HttpClientMissing
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
client = MachineClient("http://127.0.0.1:9", "c", generate_private_key("ES256"))
for use in (client.token, lambda: client.auth("https://x.example")):
    try:
        use()
    except HttpClientMissing as error:
        print(isinstance(error, ConfigError), isinstance(error, ImportError), error)
"""


def test_import_is_light() -> None:
    """Importing the package loads no HTTP library."""
    assert python("import sys, groat.client; print([n for n in ('httpx', 'httpx2') if n in sys.modules])") == "[]"


def test_without_any_library() -> None:
    """Without a library the package imports, and the first use says what to install."""
    lines = python(BLOCK.format(blocked=["httpx", "httpx2"]) + TRY).splitlines()
    assert lines == ['True True groat.client needs httpx2 (or httpx): pip install "groat[client]"'] * 2


@pytest.mark.parametrize(("blocked", "left"), [("httpx", "httpx2"), ("httpx2", "httpx")])
def test_with_one_library(issuer: AuthorizationServer, api: Api, key_file: Path, blocked: str, left: str) -> None:
    """Either library alone is enough, for the token requests and for the auth object."""
    code = BLOCK.format(blocked=[blocked]) + (
        f"import {left} as library, groat.client\n"
        "with groat.client.MachineClient.from_env() as client:\n"
        f"    with library.Client(auth=client.auth({api.url!r}, 'a')) as http:\n"
        f"        print(http.get({api.url!r}).json()['scope'])\n"
    )
    env = {"GROAT_ISSUER": issuer.url, "GROAT_CLIENT_ID": CLIENT_ID, "GROAT_KEY_FILE": str(key_file)}
    assert python(code, **env) == "a"


def test_exports() -> None:
    """Everything public is importable from the package and says what it is."""
    for name in groat.client.__all__:
        assert getattr(groat.client, name).__doc__
    assert sorted(groat.client.__all__) == groat.client.__all__


@pytest.mark.parametrize("name", ["call_api", "call_api_requests"])
def test_example(issuer: AuthorizationServer, api: Api, key_file: Path, name: str) -> None:
    """The example runs as it is written."""
    env = {
        "GROAT_ISSUER": issuer.url,
        "GROAT_CLIENT_ID": CLIENT_ID,
        "GROAT_KEY_FILE": str(key_file),
        "API": api.url,
        "SCOPE": "orders:read",
    }
    example = Path(__file__).parents[2] / "examples" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(example)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "orders:read" in done.stdout
    assert not [token for token in issuer.issued if token in done.stdout + done.stderr]


def test_a_refused_token_is_dropped_by_hand(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """Whoever sends tokens himself says which one was refused; that one goes, a newer one and other wishes stay."""
    client = make()
    old, other = client.token("https://a.example", "a"), client.token("https://a.example", "b")
    client.drop(old, "https://a.example", ["a"])
    new = client.token("https://a.example", "a")
    client.drop(old, "https://a.example", ["a"])
    assert client.token("https://a.example", "a") == new != old
    assert client.token("https://a.example", "b") == other
    assert len(issuer.token_requests) == 3


def test_sync_and_async_share_the_cache(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """token() and atoken() return the same token."""
    client = make()
    assert client.token(scopes="a") == asyncio.run(client.atoken(scopes=["a"]))
    assert len(issuer.token_requests) == 1
