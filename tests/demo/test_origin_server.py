"""The mistakes of the demo that this one descends from: those of its authorization server, tried again."""

import json
import subprocess
from collections.abc import Callable
from typing import Final

import httpx2
import pytest

from groat.protocol.jose import parse_jwt

from .running import GROAT, Kept

INVALID_CLIENT: Final = (401, "invalid_client")
INVALID_REQUEST: Final = (400, "invalid_request")
METADATA: Final = "/.well-known/oauth-authorization-server"
JWKS: Final = "/.well-known/jwks.json"
Attack = Callable[[Kept], httpx2.Response]


def rule(*ids: str) -> pytest.MarkDecorator:
    return pytest.mark.rule(*ids)


def _repeated(field: str) -> Attack:
    def attack(kept: Kept) -> httpx2.Response:
        form = kept.form(client_id="billing")
        body = httpx2.QueryParams([*form.items(), (field, form[field])])
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return kept.http.post(f"{kept.issuer}/token", content=str(body), headers=headers)

    return attack


TOKEN_REQUESTS: Final = {
    "another client_id": (lambda k: k.ask(k.form(client_id="other")), INVALID_CLIENT, ("DEMO-03", "AS-CA-03")),
    "the other client's id": (
        lambda k: k.ask(k.form(client_id="shipping")),
        INVALID_CLIENT,
        ("DEMO-03", "DEMO-32", "AS-CA-05"),
    ),
    "any assertion type": (
        lambda k: k.ask(k.form(client_assertion_type="x")),
        INVALID_CLIENT,
        ("DEMO-04", "AS-CA-01"),
    ),
    "sub of somebody else": (
        lambda k: k.ask(k.form(client_assertion=k.assertion(sub="admin"))),
        INVALID_CLIENT,
        ("DEMO-05", "AS-CA-04", "A14"),
    ),
    "no grant type": (lambda k: k.ask(k.form(grant_type=None)), INVALID_REQUEST, ("DEMO-06", "AS-TE-06")),
    "aud is a word": (
        lambda k: k.ask(k.form(client_assertion=k.assertion(aud="auth"))),
        INVALID_CLIENT,
        ("DEMO-11", "AS-CA-06", "A13"),
    ),
    "a second aud": (
        lambda k: k.ask(k.form(client_assertion=k.assertion(aud=[k.issuer, "x"]))),
        INVALID_CLIENT,
        ("DEMO-11", "AS-CA-06", "A13"),
    ),
    "no exp": (
        lambda k: k.ask(k.form(client_assertion=k.assertion(exp=None))),
        INVALID_CLIENT,
        ("DEMO-12", "AS-CA-07", "A15"),
    ),
    "no jti": (
        lambda k: k.ask(k.form(client_assertion=k.assertion(jti=None))),
        INVALID_CLIENT,
        ("DEMO-10", "AS-CA-09"),
    ),
    "GET": (
        lambda k: k.http.get(f"{k.issuer}/token", params=k.form()),
        (405, "invalid_request"),
        ("DEMO-27", "AS-TE-01", "A19"),
    ),
    "an unknown scope": (
        lambda k: k.ask(k.form(scope="orders:delete")),
        (400, "invalid_scope"),
        ("DEMO-28", "AS-TE-14", "A21"),
    ),
    "a scope not granted": (
        lambda k: k.ask(k.form(scope="orders:write")),
        (400, "invalid_scope"),
        ("DEMO-28", "DEMO-32", "AS-TE-14"),
    ),
    "JSON": (
        lambda k: k.http.post(f"{k.issuer}/token", json=k.form()),
        INVALID_REQUEST,
        ("DEMO-31", "AS-TE-03", "A22"),
    ),
    **{
        f"{field} twice": (_repeated(field), INVALID_REQUEST, ("DEMO-30", "AS-TE-09", "A19"))
        for field in ("grant_type", "client_assertion", "client_assertion_type", "client_id", "scope")
    },
}


@pytest.mark.parametrize(
    ("attack", "refused"),
    [
        pytest.param(attack, refused, id=name, marks=rule(*ids))
        for name, (attack, refused, ids) in TOKEN_REQUESTS.items()
    ],
)
@pytest.mark.rule("DEMO-09", "AS-TE-21")
def test_bad_token_requests(kept: Kept, attack: Attack, refused: tuple[int, str]) -> None:
    """Each is refused with the status and code of RFC 6749 5.2, as uncacheable JSON."""
    response = attack(kept)
    assert (response.status_code, response.json()["error"]) == refused
    assert response.json().keys() == {"error", "error_description"}
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"


@pytest.mark.rule("DEMO-30", "AS-TE-12")
def test_brackets_in_names_mean_nothing(kept: Kept) -> None:
    """A parameter of an unknown name is ignored, whatever its name looks like."""
    assert kept.ask({**kept.form(), "scope[admin]": "1"}).status_code == 200


@pytest.mark.rule("DEMO-07", "DEMO-08", "AS-TE-16", "AS-TE-17", "AS-TE-18")
def test_the_token_answer(kept: Kept) -> None:
    """It has the members of RFC 6749 5.1 and may not be kept by anybody."""
    response = kept.ask()
    body = response.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 600, "orders:read")
    assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
    assert "etag" not in response.headers


@pytest.mark.rule("DEMO-13", "DEMO-15", "DEMO-28", "AT-01", "AT-04")
def test_the_token(kept: Kept) -> None:
    """It is typed, names issuer, audience and client, carries the scope, and lives 600 s."""
    jwt = parse_jwt(kept.token())
    claims = dict(jwt.claims)
    assert (jwt.header.typ, jwt.header.kid) == ("at+jwt", kept.steps["keys"]["kid"])
    assert claims.keys() == {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope"}
    assert claims["exp"] - claims["iat"] == 600
    named = {name: claims[name] for name in ("iss", "aud", "sub", "client_id", "scope")}
    assert named == {
        "iss": kept.issuer,
        "aud": "https://orders.demo",
        "sub": "billing",
        "client_id": "billing",
        "scope": "orders:read",
    }


@pytest.mark.rule("DEMO-18", "DEMO-20", "DEMO-26", "KEY-10", "AS-MD-13", "AS-MD-14", "AS-MD-17")
def test_the_jwks(kept: Kept) -> None:
    """It has its media type, may be cached, holds public members of keys named by their thumbprints, at one path."""
    response = kept.http.get(kept.issuer + JWKS)
    key, standby = response.json()["keys"]
    assert key.keys() == standby.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert key["kid"] == kept.steps["keys"]["kid"] == kept.signing_key().public.thumbprint
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert "max-age=" in response.headers["cache-control"]
    assert kept.http.get(f"{kept.issuer}/jwks.json").status_code == 404


@pytest.mark.rule("DEMO-21", "AS-MD-01")
def test_the_metadata(kept: Kept) -> None:
    """Client and API need the issuer alone: the rest is in this document."""
    document = kept.http.get(kept.issuer + METADATA).json()
    assert document["issuer"] == kept.issuer
    assert (document["token_endpoint"], document["jwks_uri"]) == (f"{kept.issuer}/token", kept.issuer + JWKS)


@pytest.mark.rule("DEMO-19", "KEY-08")
def test_a_second_init_changes_nothing(kept: Kept) -> None:
    """`groat init` on the demo's directory says so and keeps the key."""
    command = [str(GROAT), "--config", str(kept.directory / "groat.toml"), "--json", "init", "--issuer", kept.issuer]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True)
    assert {step["outcome"] for step in json.loads(done.stdout)} == {"unchanged"}
    key, _ = kept.http.get(kept.issuer + JWKS).json()["keys"]
    assert key["kid"] == kept.steps["keys"]["kid"]
