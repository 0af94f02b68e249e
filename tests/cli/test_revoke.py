"""`groat revoke` and `groat api key`, typed as the guide has them: a server of this home, an API that asks it."""

import re
import secrets
import shlex
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from groat.client import MachineClient
from groat.keys.files import read_private_key
from tests.server.builders import compact, decoded

from .conftest import Live
from .running import AUDIENCE, ISSUER, Home

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guides" / "revocation.md"
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def typed() -> list[str]:
    """The commands of the guide, in their order."""
    return re.findall(r"^    operator\$ groat (.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)


def introspect(live: Live, token: str) -> dict[str, Any]:
    """What the API hears that asks by the key of the guide."""
    key, now = read_private_key(live.home.directory / "orders-api.key.json"), int(time.time())
    claims = {"iss": "orders", "sub": "orders", "aud": ISSUER, "iat": now, "exp": now + 60}
    assertion = compact({"alg": "ES256", "kid": key.kid}, {**claims, "jti": secrets.token_urlsafe(16)}, key)
    form = {"token": token, "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
    answer = httpx.post(f"{live.server.url}/introspect", data=form)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def fresh(live: Live) -> str:
    key = live.home.directory / "billing.key.json"
    with MachineClient(
        issuer=ISSUER, client_id="billing", key=key, token_endpoint=f"{live.server.url}/token"
    ) as machine:
        return machine.token(resource=AUDIENCE, scopes=["orders:read"]).value


@pytest.mark.rule("AS-RV-06", "AS-IN-11")
def test_the_guide(live: Live) -> None:
    """Each command that ends tokens ends this one, and the next one is good; the API asks by both of its ways."""
    home, commands = live.home, typed()
    setting_up = [line for line in commands if line.startswith(("api ", "client "))]
    for line in setting_up:
        home.ok(*shlex.split(line))
    for line in (line for line in commands if line.startswith("revoke ")):
        token = fresh(live)
        assert introspect(live, token)["active"] is True, line
        home.file("token.txt", token)
        line = line.replace("2Yh0kIuVxPnqG3cW9bR1Tg", decoded(token)[1]["jti"])
        home.ok("--yes", *shlex.split(line))
        assert introspect(live, token) == {"active": False}, line
    listed = home.ok("--json", "revoke", "list").json
    assert {(cut["kind"], cut["subject"]) for cut in listed} == {("client", "billing"), ("api", "orders"), ("all", "")}
    assert "billing" in home.ok("revoke", "list").out
    with MachineClient(
        issuer=ISSUER,
        client_id="orders",
        key=home.directory / "orders.key.json",
        token_endpoint=f"{live.server.url}/token",
    ) as machine:
        by = machine.token(resource=ISSUER, scopes=["groat:introspect"]).value
    told = httpx.post(
        f"{live.server.url}/introspect", data={"token": fresh(live)}, headers={"Authorization": f"Bearer {by}"}
    )
    assert told.json()["active"] is True
    home.ok("api", "key", "remove", "orders", home.ok("-q", "api", "key", "list", "orders").out.strip())
    assert home.ok("--json", "api", "key", "list", "orders").json == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("revoke",), 2, "say what"),
        (("revoke", "--all"), 2, "--yes"),
        (("revoke", "--all", "client", "billing"), 2, "--all stands alone"),
        (("revoke", "client", "nobody"), 3, "no client nobody"),
        (("revoke", "api", "nothing"), 3, "no API nothing"),
        (("revoke", "trust", "nothing"), 3, "no trust nothing"),
        (("revoke", "token", "a.b.c"), 2, "others can read a command line"),
        (("revoke", "token", "x" * 300), 3, "a jti has"),
        (("api", "key", "add", "nothing", "--new-key", "k.json"), 3, "no API nothing"),
        (("api", "key", "add", "orders"), 2, "--new-key"),
        (("api", "key", "remove", "orders", "k9"), 3, "no key k9"),
        (("api", "key", "list", "nothing"), 3, "no API nothing"),
    ],
)
def test_what_cannot_be_right(home: Home, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Nothing is done, and it is said why."""
    done = home(*arguments)
    assert (done.code, said in done.err) == (code, True), done
    assert not (home.directory / "k.json").exists()
    assert home.ok("--json", "revoke", "list").json == []


def test_a_token_from_standard_input(home: Home) -> None:
    """What is no token of ours is named as such."""
    done = home("revoke", "token", "-", stdin="a.b.c\n")
    assert done.code == 3
    assert "no access token of groat" in done.err
    assert home.ok("--json", "revoke", "token", "-", stdin="some-jti\n").json["outcome"] == "revoked"
