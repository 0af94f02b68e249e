"""The guide for those who come from another server: its commands are typed, its snippets run, both issuers are there."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx2
import pytest

from groat.protocol import strict_json
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_set import public_key_set
from groat.verifier import VerificationError, Verifier
from tests.guide_pages import GUIDES, ISSUER, blocks
from tests.ports import free_port
from tests.verifier.issuer import Issuer, serving
from tests.verifier.tokens import ABSENT, claims, signed
from tests.waiting import wait_until

PAGE = "move-from.md"
AUDIENCE = "https://orders.example.com"


class Typed:
    """The commands of the page in a directory of their own; `groat serve` stays."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.issuer = f"http://127.0.0.1:{free_port()}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = {**os.environ, "PATH": path, "GROAT_SERVER__PORT": self.issuer.rpartition(":")[2]}
        self._servers: list[subprocess.Popen[bytes]] = []

    def lines(self, block: str) -> list[str]:
        """What each line printed."""
        return [self._line(line) for line in block.replace(ISSUER, self.issuer).splitlines()]

    def _line(self, line: str) -> str:
        if line == "groat serve":
            self._servers.append(
                subprocess.Popen(line.split(), cwd=self.directory, env=self._env, stderr=subprocess.DEVNULL)
            )
            wait_until(self._ready)
            return ""
        done = subprocess.run(
            line, shell=True, cwd=self.directory, env=self._env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"{self.issuer}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def close(self) -> None:
        for server in self._servers:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    """A groat as the commands of steps 1 and 3 leave it."""
    typed = Typed(tmp_path_factory.mktemp("move"))
    setting_up, registering, _ = blocks(PAGE, "")
    try:
        typed.lines(setting_up)
        typed.lines(registering)
        yield typed
    finally:
        typed.close()


@pytest.fixture
def keycloak() -> Iterator[Issuer]:
    """An issuer with the name of a realm."""
    with serving(path="/realms/acme", algorithm="RS256") as issuer:
        yield issuer


def groat_token(moved: Typed) -> str:
    """The last command of step 3, with the token shown."""
    *_, command = blocks(PAGE, "")[1].splitlines()
    (token,) = moved.lines(f"{command} --print-token")
    return token.strip()


def run(moved: Typed, names: dict[str, Any], keycloak: Issuer, number: int) -> None:
    """The Python block of that number, with the addresses of this test."""
    block = blocks(PAGE, "python")[number]
    block = block.replace(ISSUER, moved.issuer).replace("https://sso.example.com", keycloak.origin)
    exec(block, names)


def keycloak_token(issuer: Issuer, **changes: Any) -> str:
    """As a realm writes it for a service account."""
    account = {"typ": "Bearer", "azp": "billing", "sub": "2b1c5f0e", "realm_access": {"roles": []}, **changes}
    written = claims(issuer.url, client_id=ABSENT) | account
    return signed(written, issuer.key, typ="JWT", kid=issuer.key.kid)


def test_the_api_trusts_both_issuers(moved: Typed, keycloak: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps 2 and 5: the same caller by either issuer, and a line that says by which; another audience by neither."""
    names: dict[str, Any] = {}
    run(moved, names, keycloak, 0)
    for names["token"] in (groat_token(moved), keycloak_token(keycloak)):
        run(moved, names, keycloak, 2)
    assert capsys.readouterr().out == f"billing by {moved.issuer}\nbilling by {keycloak.url}\n"
    with pytest.raises(VerificationError):
        names["verifier"].verify(keycloak_token(keycloak, aud="https://stock.example.com"))
    after = Verifier(moved.issuer, AUDIENCE)
    assert after.verify(groat_token(moved)).client_id == "billing"
    with pytest.raises(VerificationError):
        after.verify(keycloak_token(keycloak))


@pytest.mark.parametrize("scopes", [{"scp": ["orders:read"], "scope": ABSENT}, {"scope": "orders:read"}], ids=str)
def test_the_words_for_hydra(moved: Typed, keycloak: Issuer, scopes: dict[str, Any]) -> None:
    """Its tokens with scopes in either form, beside groat's."""
    names: dict[str, Any] = {}
    run(moved, names, keycloak, 0)
    with serving(algorithm="RS256") as hydra:
        block = blocks(PAGE, "python")[1].replace("https://hydra.example.com", hydra.url)
        exec(block.replace(ISSUER, moved.issuer), names)
        token = hydra.token(typ="JWT", aud=[AUDIENCE], nbf=int(time.time()), ext={}, **scopes)
        assert names["either"].verify(token, scopes=["orders:read"]).client_id == "billing"
    assert names["either"].verify(groat_token(moved), scopes=["orders:read"]).client_id == "billing"


def test_a_token_or_the_old_key(moved: Typed, keycloak: Issuer) -> None:
    """A bad token is refused, whatever key stands beside it."""
    names: dict[str, Any] = {}
    run(moved, names, keycloak, 0)
    run(moved, names, keycloak, 3)
    who_calls, key = names["who_calls"], names["OLD_KEY"].decode()
    assert who_calls(f"Bearer {groat_token(moved)}", None) == "billing"
    assert who_calls(None, key) == "somebody with the shared key"
    for authorization, api_key in ((None, None), (None, "x"), (None, "ü"), ("Basic eDp5", key), ("", key)):
        with pytest.raises(PermissionError):
            who_calls(authorization, api_key)
    with pytest.raises(VerificationError):
        who_calls("Bearer x", key)


def test_back_again(moved: Typed) -> None:
    """The client is stopped and let in again; a dry run says so before."""
    moved.lines(blocks(PAGE, "")[2])
    assert groat_token(moved)


def test_a_key_that_a_caller_has_is_kept(moved: Typed) -> None:
    """The command beside step 3, for another client; the parameter that other servers read is no hindrance."""
    key = generate_private_key("RS256")
    (command,) = re.findall(r"`(groat client add billing [^`]* --jwks billing.jwks.json)`", (GUIDES / PAGE).read_text())
    (moved.directory / "shipping.jwks.json").write_bytes(strict_json.dumps(public_key_set([key.public])))
    moved.lines(command.replace("billing", "shipping"))
    now = int(time.time())
    names = {"iss": "shipping", "sub": "shipping", "aud": moved.issuer, "jti": token_urlsafe()}
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed({**names, "iat": now, "exp": now + 60}, key, typ="JWT", kid=key.kid),
        "audience": AUDIENCE,
        "scope": "orders:read",
    }
    answer = httpx2.post(f"{moved.issuer}/token", data=form)
    assert answer.status_code == 200, answer.text
    assert Verifier(moved.issuer, AUDIENCE).verify(answer.json()["access_token"]).client_id == "shipping"
