"""`groat token` and `groat client assertion`: both ends of a token, against a server that runs."""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from groat.keys import files
from groat.protocol import jose
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP
from groat.protocol.jwk import generate_private_key, import_private_jwk, import_public_jwk
from groat.server.settings.config import load_config

from .conftest import Live
from .running import AUDIENCE, ISSUER, Home

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GET = ("token", "get", "--local", "--client-id", "billing", "--key", "billing.key.json", "--resource", AUDIENCE)


def new_token(live: Live, *arguments: str) -> str:
    """A token for orders:read."""
    return live.home.ok(*GET, "--scope", "orders:read", "--print-token", *arguments).out.strip()


def request(live: Live, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, Any]:
    """One HTTP request to the server, as curl would make it; returns status and JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", live.server.port, timeout=10)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request(method, path, urlencode(form) if form else None, headers)
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    return response.status, document


def jwks_kids(live: Live) -> list[str]:
    """The kids that the server publishes now."""
    return [key["kid"] for key in request(live, "GET", "/.well-known/jwks.json")[1]["keys"]]


def token_kid(token: str) -> str | None:
    """Which key signed a token."""
    return jose.parse_jwt(token).header.kid


@pytest.mark.rule("CL-23")
def test_get_tells_about_the_token_and_keeps_it(live: Live) -> None:
    """What it is for, how long it lives; the token itself needs a word."""
    before = int(time.time())
    got = live.home.ok("--json", *GET, "--scope", "orders:read")
    facts = got.json
    expires = facts.pop("expires_at")
    assert facts == {"client_id": "billing", "resource": AUDIENCE, "scope": "orders:read"}
    assert 595 <= expires - before <= 605
    assert "eyJ" not in got.out + got.err


@pytest.mark.rule("CL-23")
def test_the_key_may_come_from_standard_input(live: Live) -> None:
    """So that it need not lie in a file."""
    key = (live.home.directory / "billing.key.json").read_bytes()
    command = ("token", "get", "--local", "--client-id", "billing", "--key", "-", "--scope", "orders:read")
    assert live.home.script(*command, stdin=key).code == 0
    assert live.home(*command, stdin=b"no key").code == 3


def test_print_token_prints_the_token_alone(live: Live) -> None:
    """Ready for a variable of a shell."""
    token = new_token(live)
    assert token.startswith("eyJ")
    assert token.count(".") == 2


@pytest.mark.rule("CL-22")
def test_a_cache_is_used_where_one_is_named(live: Live) -> None:
    """With --cache the next command prints the same token; without it a new one."""
    first = new_token(live, "--cache", "tokens")
    assert new_token(live, "--cache", "tokens") == first
    assert new_token(live) != first
    (kept,) = (live.home.directory / "tokens").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_verify_accepts_what_get_got(live: Live) -> None:
    """From an argument, from standard input, and by default from there."""
    token = new_token(live)
    command = ("--json", "token", "verify", "--local", "--audience", AUDIENCE, "--scope", "orders:read")
    shown = [
        live.home.ok(*command, token).json,
        live.home.ok(*command, "-", stdin=token).json,
        live.home.ok(*command, stdin=f"{token}\n").json,
    ]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0].keys() == {"client_id", "subject", "scope", "expires_at", "token_id"}
    assert (shown[0]["client_id"], shown[0]["scope"]) == ("billing", "orders:read")


@pytest.mark.rule("RS-16")
@pytest.mark.parametrize(
    ("spoil", "arguments", "reason"),
    [
        (lambda token: token, ("--audience", "https://other.example.com"), "audience"),
        (lambda token: token, ("--audience", AUDIENCE, "--scope", "orders:write"), "scope"),
        (lambda token: token[:-8] + "AAAAAAAA", ("--audience", AUDIENCE), "signature"),
        (lambda token: token.rpartition(".")[0] + ".", ("--audience", AUDIENCE), "signature"),
        (lambda _: "", ("--audience", AUDIENCE), "malformed"),
        (lambda _: "hello", ("--audience", AUDIENCE), "malformed"),
        (lambda _: "a.b.c", ("--audience", AUDIENCE), "malformed"),
        (lambda _: "\udcff\udcfe", ("--audience", AUDIENCE), "malformed"),
    ],
    ids=["audience", "scope", "signature", "no signature", "empty", "text", "parts", "bytes"],
)
def test_verify_says_why_not(live: Live, spoil: Any, arguments: tuple[str, ...], reason: str) -> None:
    """Exit code 6 and the reason in words; nothing on standard output."""
    token: bytes = spoil(new_token(live)).encode("utf-8", "surrogateescape")
    done = live.home.script("token", "verify", "--local", *arguments, stdin=token)
    assert (done.code, done.out) == (6, "")
    assert reason in done.err or (reason == "signature" and "malformed" in done.err)
    assert "Traceback" not in done.err


def test_verify_refuses_an_assertion(live: Live) -> None:
    """Of the other kind of JWT, which the same client signed."""
    assertion = live.home.ok("client", "assertion", "billing", "--key", "billing.key.json").out
    done = live.home("token", "verify", "--local", "--audience", AUDIENCE, stdin=assertion)
    assert (done.code, "type" in done.err) == (6, True)


def test_inspect_decodes_and_promises_nothing(live: Live) -> None:
    """Header and claims as JSON; it says that nothing was verified."""
    shown = live.home.ok("token", "inspect", new_token(live)).json
    assert shown["verified"] is False
    assert (shown["header"]["typ"], shown["header"]["alg"]) == ("at+jwt", "ES256")
    assert (shown["claims"]["iss"], shown["claims"]["aud"]) == (ISSUER, AUDIENCE)


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "e30.e30.e30", "..", "\xff"])
def test_inspect_says_when_it_is_no_token(home: Home, text: str) -> None:
    """Exit code 6, also for bytes that are no text."""
    done = home("token", "inspect", "-", stdin=text.encode("latin-1"))
    assert (done.code, done.out) == (6, "")
    assert "bug" not in done.err


@pytest.mark.rule("KEY-06", "AS-CA-06", "AS-CA-09")
@pytest.mark.parametrize("name", ["billing.key.json", "billing.pem"])
def test_an_assertion_decodes_and_verifies(home: Home, name: str) -> None:
    """Issuer and subject are the client, the audience is the issuer alone, the signature is the client's."""
    key = import_private_jwk(home.document("billing.key.json"))
    home.file("billing.pem", files.private_key_bytes(key, pem=True))
    signed = home.ok("client", "assertion", "billing", "--key", name, "--lifetime", "30").out.strip()
    (registered,) = home.ok("--json", "client", "key", "list", "billing").json
    jwt = jose.parse_jwt(signed)
    jose.verify_signature(jwt, import_public_jwk(registered["jwk"]))
    assert (jwt.header.kid, jwt.header.typ) == (registered["kid"], ASSERTION_TYP)
    assert (jwt.claims["iss"], jwt.claims["sub"], jwt.claims["aud"]) == ("billing", "billing", ISSUER)
    assert jwt.claims["exp"] - jwt.claims["iat"] == 30
    assert len(jwt.claims["jti"]) >= 22


def test_an_assertion_may_be_for_another_issuer(home: Home) -> None:
    """Then no configuration is needed; --json gives the name of the form field."""
    (home.directory / "groat.toml").unlink()
    command = ("client", "assertion", "billing", "--key", "billing.key.json", "--issuer", "https://other.example")
    signed = home.ok("--json", *command).json["client_assertion"]
    assert jose.parse_jwt(signed).claims["aud"] == "https://other.example"
    assert home("client", "assertion", "billing", "--key", "billing.key.json").code == 3


@pytest.mark.parametrize("lifetime", ["4", "3601", "x"])
def test_the_lifetime_of_an_assertion_has_limits(home: Home, lifetime: str) -> None:
    """Five seconds to an hour."""
    done = home("client", "assertion", "billing", "--key", "billing.key.json", "--lifetime", lifetime)
    assert (done.code, done.out) == (2, "")


@pytest.mark.rule("AS-CA-10")
def test_an_assertion_buys_one_token(live: Live) -> None:
    """As with curl: once it is good, the second time it is used up."""
    signed = live.home.ok("client", "assertion", "billing", "--key", "billing.key.json").out.strip()
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": signed,
        "scope": "orders:read",
    }
    assert request(live, "POST", "/token", form)[0] == 200
    status, answer = request(live, "POST", "/token", form)
    assert (status, answer["error"]) == (401, "invalid_client")


@pytest.mark.rule("KEY-19", "KEY-21", "KEY-22")
def test_keys_change_under_a_running_server(live: Live) -> None:
    """Rotations and revocations act at once, without a restart and without one failed request."""
    first = token_kid(new_token(live))
    fresh, _ = live.home.ok("--json", "key", "rotate").json
    assert jwks_kids(live) == [first, fresh["kid"]]
    assert token_kid(new_token(live)) == first
    live.home.ok("--yes", "key", "revoke", "--", str(first))
    assert jwks_kids(live) == [fresh["kid"]]
    token = new_token(live)
    assert token_kid(token) == fresh["kid"]
    gone, emergency = live.home.ok("--json", "--yes", "key", "revoke", "--", fresh["kid"]).json
    assert (gone["state"], jwks_kids(live)) == ("removed", [emergency["kid"]])
    assert token_kid(new_token(live)) == emergency["kid"]
    done = live.home("token", "verify", "--local", "--audience", AUDIENCE, stdin=token)
    assert (done.code, "key" in done.err) == (6, True)


@pytest.mark.rule("KEY-23")
def test_a_client_rotates_its_key_under_a_running_server(live: Live) -> None:
    """Both keys work while both are registered; the removed one is refused from the next request on."""
    old = live.home.ok("-q", "client", "key", "list", "billing").out.strip()
    new = generate_private_key("Ed25519")
    live.home.file("new.key.json", files.private_key_bytes(new))
    live.home.file("new.pub.json", json.dumps(dict(new.public.jwk)))
    with_new = ("token", "get", "--local", "--client-id", "billing", "--key", "new.key.json", "--scope", "orders:read")
    assert live.home(*with_new).code == 4
    live.home.ok("client", "key", "add", "billing", "new.pub.json")
    live.home.ok(*with_new)
    new_token(live)
    live.home.ok("client", "key", "remove", "billing", "--", new.kid)
    assert live.home(*with_new).code == 4
    assert live.home.ok("-q", "client", "key", "list", "billing").out.strip() == old
    new_token(live)


def test_a_disabled_client_is_refused_from_its_next_request_on(live: Live) -> None:
    """And served again from the next one after it is enabled."""
    live.home.ok("client", "disable", "billing")
    done = live.home("--json", *GET, "--scope", "orders:read")
    live.home.ok("client", "enable", "billing")
    assert (done.code, done.out) == (4, "")
    assert json.loads(done.err.splitlines()[-1])["error"] == "invalid_client"
    new_token(live)


def test_the_local_address_is_that_of_the_configuration(home: Home) -> None:
    """An address to listen on becomes one to call, and an IPv6 one has its brackets."""
    for host, shown in (("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")):
        done = home(*GET, GROAT_SERVER__HOST=host, GROAT_SERVER__PORT="1")
        assert f"http://{shown}:1 " in done.err
        assert done.code == 5, done.err
    assert load_config(home.directory / "groat.toml", {}).policy.issuer == ISSUER
