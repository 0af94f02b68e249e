"""Making a Verifier, several issuers, and what is logged."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

import groat.verifier
from groat.verifier import (
    Caller,
    ConfigError,
    InsufficientScope,
    InvalidToken,
    KeysUnavailable,
    TrustedIssuer,
    VerificationError,
    Verifier,
)
from groat.verifier.dialects import KEYCLOAK
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.tokens import ABSENT, AUD, claims, refused, signed

ISS: Final = "https://as.example"


def test_exports() -> None:
    """Everything that is exported exists, and the names that people type are among it."""
    for name in groat.verifier.__all__:
        assert getattr(groat.verifier, name)
    assert {"Verifier", "Caller", "any_of", "VerificationError", "KeysUnavailable"} <= set(groat.verifier.__all__)


@pytest.mark.rule("RS-16", "DEMO-14")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Verifier(), id="nothing"),
        pytest.param(lambda: Verifier(ISS), id="no audience"),
        pytest.param(lambda: Verifier(audience=AUD), id="no issuer"),
        pytest.param(lambda: Verifier(ISS, ""), id="empty audience"),
        pytest.param(lambda: Verifier("", AUD), id="empty issuer"),
        pytest.param(lambda: Verifier(ISS, ISS), id="the issuer as audience"),
        pytest.param(lambda: Verifier("http://as.example", AUD), id="plain http"),
        pytest.param(lambda: Verifier("as.example", AUD), id="no URL"),
        pytest.param(lambda: Verifier(ISS + "?x", AUD), id="query"),
        pytest.param(lambda: Verifier(ISS, AUD, algorithms=[]), id="no algorithms"),
        pytest.param(lambda: Verifier(ISS, AUD, algorithms=["none"]), id="none"),
        pytest.param(lambda: Verifier(ISS, AUD, algorithms=["HS256"]), id="HS256"),
        pytest.param(lambda: Verifier(ISS, AUD, clock_tolerance=61), id="tolerance 61"),
        pytest.param(lambda: Verifier(ISS, AUD, clock_tolerance=-1), id="tolerance -1"),
        pytest.param(lambda: Verifier(ISS, AUD, max_stale=-1), id="max_stale -1"),
        pytest.param(lambda: Verifier(ISS, AUD, refresh_cooldown=0), id="no cooldown"),
        pytest.param(lambda: Verifier(ISS, AUD, cache_size=-1), id="cache_size -1"),
        pytest.param(lambda: Verifier(ISS, AUD, realm='a"b'), id="realm with a quote"),
        pytest.param(lambda: Verifier(ISS, AUD, realm="a\r\nSet-Cookie: x"), id="realm with a newline"),
        pytest.param(lambda: Verifier(ISS, AUD, issuers=[ISS]), id="issuer and issuers"),
        pytest.param(lambda: Verifier(audience=AUD, issuers=[ISS, ISS]), id="an issuer twice"),
        pytest.param(lambda: Verifier(audience=AUD, issuers=[ISS], jwks_uri=ISS + "/k"), id="one jwks_uri for several"),
        pytest.param(lambda: Verifier.entra("common", AUD), id="Entra without a tenant"),
        pytest.param(lambda: Verifier.cognito("eu-west-1", "pool"), id="Cognito without either"),
        pytest.param(lambda: Verifier.cognito("eu-west-1", "pool", AUD, client_id="x"), id="Cognito with both"),
    ],
)
def test_unsafe_configuration(make: Callable[[], Verifier]) -> None:
    """What could never be safe is refused when it is written, not when it is used."""
    with pytest.raises(ConfigError):
        make()


@pytest.mark.rule("RS-16")
def test_all_findings_at_once() -> None:
    """An operator sees every mistake in one go."""
    with pytest.raises(ConfigError) as caught:
        Verifier("http://as.example", AUD, max_stale=-1, cache_size=-1)
    assert len(caught.value.findings) == 3


def test_http_hosts_can_be_allowed() -> None:
    """Plain http to a listed development host is possible, to others not."""
    assert Verifier("http://auth:3001", AUD, allow_http_hosts=["auth"]).issuers == ("http://auth:3001",)
    with pytest.raises(ConfigError):
        Verifier("http://auth:3001", AUD, allow_http_hosts=["other"])


def test_from_env(monkeypatch: pytest.MonkeyPatch, issuer: Issuer) -> None:
    """The environment configures a verifier; what is missing is named."""
    for name in ("GROAT_ISSUER", "GROAT_AUDIENCE", "GROAT_JWKS_URI", "GROAT_ALGORITHMS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"GROAT_ISSUER(.|\n)*GROAT_AUDIENCE"):
        Verifier.from_env()
    monkeypatch.setenv("GROAT_ISSUER", issuer.url)
    with pytest.raises(ConfigError, match="GROAT_AUDIENCE") as caught:
        Verifier.from_env()
    assert len(caught.value.findings) == 1
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    assert Verifier.from_env().verify(issuer.token()).client_id == "billing"
    monkeypatch.setenv("GROAT_JWKS_URI", issuer.origin + "/keys")
    with pytest.raises(KeysUnavailable):
        Verifier.from_env().verify(issuer.token())
    assert Verifier.from_env(jwks_uri=None).verify(issuer.token()).client_id == "billing"
    monkeypatch.setenv("GROAT_ALGORITHMS", "PS256, RS256")
    with refused("algorithm"):
        Verifier.from_env().verify(issuer.token())
    monkeypatch.setenv("GROAT_ISSUER", "http://auth:3001")
    monkeypatch.setenv("GROAT_JWKS_URI", "http://auth:3001/jwks")
    monkeypatch.setenv("GROAT_ALLOW_HTTP_HOSTS", "auth,other")
    assert Verifier.from_env().issuers == ("http://auth:3001",)


@pytest.fixture
def other() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.mark.rule("RS-12", "R08")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_several_issuers_keep_their_keys_apart(issuer: Issuer, other: Issuer, asynchronous: bool) -> None:
    """iss picks whose keys must prove the token; the key of one issuer proves nothing for the other."""
    verifier = Verifier(audience=AUD, issuers=[issuer.url, other.url])

    def verify(token: str) -> Caller:
        return asyncio.run(verifier.averify(token)) if asynchronous else verifier.verify(token)

    assert verify(issuer.token()).claims["iss"] == issuer.url
    assert verify(other.token()).claims["iss"] == other.url
    with refused("key_unknown"):
        verify(signed(claims(other.url), issuer.key, kid=issuer.key.kid))
    with refused("signature"):
        verify(signed(claims(other.url), issuer.key, kid=other.key.kid))
    for iss in ("https://evil.example", issuer.url + "/", None, 5, ["x"], ABSENT):
        with refused("issuer"):
            verify(issuer.token(iss=iss))
    with refused("malformed"):
        verify("garbage")


@pytest.mark.rule("RS-12", "JOSE-11")
def test_unknown_issuer_is_never_asked(issuer: Issuer, other: Issuer) -> None:
    """An iss that nobody configured causes no request to anybody."""
    with serving() as evil:
        verifier = Verifier(audience=AUD, issuers=[issuer.url, other.url])
        with refused("issuer"):
            verifier.verify(evil.token())
        assert (evil.requests.total(), issuer.requests.total(), other.requests.total()) == (0, 0, 0)


@pytest.mark.rule("RS-12", "RS-21")
def test_one_issuer_down_does_not_stop_the_other(issuer: Issuer, other: Issuer) -> None:
    """Each issuer has its own outage; warming tries both."""
    other.spoil(JWKS, Answer(status=500))
    verifier = Verifier(audience=AUD, issuers=[other.url, issuer.url])
    with pytest.raises(KeysUnavailable):
        verifier.warm_sync()
    assert issuer.fetches == 1
    assert verifier.verify(issuer.token()).client_id == "billing"
    with pytest.raises(KeysUnavailable):
        verifier.verify(other.token())


@pytest.mark.rule("RS-12")
def test_issuers_may_differ_in_dialect(issuer: Issuer, other: Issuer) -> None:
    """While moving from Keycloak, its dialect is accepted from Keycloak only."""
    old = TrustedIssuer(other.url, jwks_uri=other.origin + JWKS, dialect=KEYCLOAK)
    verifier = Verifier(audience=AUD, issuers=[issuer.url, old])
    changes: dict[str, Any] = {"typ": "JWT"}
    keycloak = signed(claims(other.url, typ="Bearer", azp="billing"), other.key, kid=other.key.kid, **changes)
    assert verifier.verify(keycloak).client_id == "billing"
    with refused("type"):
        verifier.verify(signed(claims(issuer.url, typ="Bearer", azp="x"), issuer.key, kid=issuer.key.kid, **changes))


@pytest.mark.rule("RS-11")
def test_accept_types(issuer: Issuer) -> None:
    """Other typ values are accepted only when they are listed, and then replace at+jwt."""
    verifier = issuer.verifier(accept_types=["JWT", None])
    assert verifier.verify(issuer.token(typ="jwt")).client_id == "billing"
    assert verifier.verify(issuer.token(typ=None)).client_id == "billing"
    with refused("type"):
        verifier.verify(issuer.token())


@pytest.mark.rule("RS-25", "OPS-03", "OPS-04", "I8", "JOSE-24")
def test_log_has_reason_and_kid_but_no_token(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is one log line; the client is named only once its token is proven, and a token never is."""
    caplog.set_level(logging.DEBUG, "groat.verifier")
    verifier = issuer.verifier()
    token = issuer.token()
    with pytest.raises(InsufficientScope):
        verifier.verify(token, ["orders:write"])
    with pytest.raises(InvalidToken):
        verifier.verify(issuer.token(aud="https://canary.example"))
    with pytest.raises(VerificationError):
        verifier.verify_request([f"Bearer {token} {token}"])
    with pytest.raises(InvalidToken):
        verifier.verify(issuer.token(kid="a\nb\x1b[31m"))
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert f"reason=scope kid={issuer.key.kid} client=billing" in lines[0]
    assert f"reason=audience kid={issuer.key.kid} client=None" in lines[1]
    assert "reason=malformed" in lines[2]
    assert "\n" not in lines[3]
    assert "\x1b" not in lines[3]
    text = caplog.text
    assert "canary" not in text
    for part in token.split("."):
        assert part not in text


@pytest.mark.rule("RS-10", "RS-28")
def test_realm_is_in_every_challenge(issuer: Issuer) -> None:
    """The configured realm stands in the challenge of each refusal."""
    verifier = issuer.verifier(realm="orders api")
    refusing: list[Callable[[], object]] = [
        lambda: verifier.verify("x"),
        lambda: verifier.verify_request([]),
        lambda: verifier.verify(issuer.token(), ["none"]),
        lambda: asyncio.run(verifier.averify_request([b"Bearer"])),
    ]
    for act in refusing:
        with pytest.raises(VerificationError) as caught:
            act()
        assert (caught.value.www_authenticate or "").startswith('Bearer realm="orders api"')


@pytest.mark.rule("RS-28")
def test_sync_and_async_agree(issuer: Issuer) -> None:
    """verify and averify give the same caller and the same refusals."""
    verifier = issuer.verifier()
    good = issuer.token()
    assert verifier.verify(good) == asyncio.run(verifier.averify(good))
    for token in ("x", issuer.token(aud="y"), issuer.token(exp=1), issuer.token(kid="z")):
        assert refusal_of(verifier.verify, token) == refusal_of(lambda t: asyncio.run(verifier.averify(t)), token)


def refusal_of(verify: Callable[[str], Caller], token: str) -> tuple[int, str, str | None]:
    with pytest.raises(VerificationError) as caught:
        verify(token)
    return caught.value.status, caught.value.reason, caught.value.www_authenticate


@pytest.mark.parametrize("module", ["groat.verifier", "groat.verifier.asgi"])
def test_base_install_is_enough(module: str) -> None:
    """The verifier and its ASGI middleware import nothing but the standard library, our own code and two packages."""
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    foreign = set(loaded.stdout.split()) - sys.stdlib_module_names - {"groat", "cryptography", "joserfc"}
    assert {name for name in foreign if not name.startswith("_")} <= {"cffi"}
