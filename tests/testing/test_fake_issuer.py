"""FakeIssuer: real tokens, real verifiers, no network; what is wrong elsewhere is wrong here."""

import asyncio
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import jwt
import pytest

from groat.client import wire
from groat.testing import FakeIssuer
from groat.verifier import (
    ApiRequest,
    Clocks,
    ConfigError,
    InsufficientScope,
    InvalidToken,
    KeysUnavailable,
    ProtectedResource,
    Verifier,
)
from groat.verifier.keys import fetch
from tests.verifier.issuer import outcome
from tests.verifier.test_surroundings import PAST, freeze

URL, AUD = "https://auth.example.com", "https://orders.example.com"
# Why each is refused, in the words of the log.
REASONS = {
    "expired": "expired",
    "not yet valid": "not_yet",
    "another audience": "audience",
    "another issuer": "issuer",
    "no expiry": "claims",
    "bound to a key": "binding",
    "no access token by its type": "type",
    "unknown key": "key_unknown",
    "another key under a known kid": "signature",
    "changed after signing": "signature",
    "not signed at all": "algorithm",
    "HMAC with the public key": "algorithm",
    "no token": "malformed",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a single name is looked up and no socket connected, by anybody in this module."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network was touched")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer(URL, audience=AUD)


@pytest.mark.rule("UT-1")
def test_a_good_token(issuer: FakeIssuer) -> None:
    """Who called is what was asked for; other people's libraries read the token as well."""
    token = issuer.token("billing", ["orders:read", "orders:write"], tenant="acme", expires_in=60)
    caller = issuer.verifier().verify(token, scopes=["orders:read"])
    assert (caller.client_id, caller.subject) == ("billing", "billing")
    assert caller.scopes == frozenset({"orders:read", "orders:write"})
    assert caller.claims["tenant"] == "acme"
    assert caller.expires_at == pytest.approx(time.time() + 60, abs=2)
    claims = jwt.decode(token, issuer.key.public.native, algorithms=["ES256"], audience=AUD, issuer=URL)
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "at+jwt", "kid": issuer.key.kid}
    assert claims["jti"] != jwt.decode(issuer.token(), options={"verify_signature": False})["jti"]


@pytest.mark.rule("UT-1")
@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519", "RS256"])
def test_every_bad_token_is_refused(algorithm: str) -> None:
    """For its own reason, 401; an issuer with another kind of key makes the same ones."""
    issuer = FakeIssuer(URL, audience=AUD, algorithm=algorithm)
    verifier = issuer.verifier()
    bad = issuer.bad_tokens("billing", ["orders:read"])
    assert {name: outcome(lambda token=token: verifier.verify(token)) for name, token in bad.items()} == REASONS  # type: ignore[misc]
    for token in bad.values():
        with pytest.raises(InvalidToken) as caught:
            verifier.verify(token)
        assert caught.value.status == 401
    assert verifier.verify(issuer.token()).client_id == "test-client"


@pytest.mark.rule("UT-1")
def test_tokens_to_measure(issuer: FakeIssuer) -> None:
    """Each argument spoils what it names; a missing scope is 403."""
    verifier, now = issuer.verifier(), time.time()
    assert outcome(lambda: verifier.verify(issuer.token(expires_in=0))) == "expired"
    assert outcome(lambda: verifier.verify(issuer.token(expires_in=-3600))) == "expired"
    assert outcome(lambda: verifier.verify(issuer.token(exp=now - 1))) == "expired"
    assert outcome(lambda: verifier.verify(issuer.token(iat=now - 700))) == "expired"
    assert outcome(lambda: verifier.verify(issuer.token(iat=now + 600))) == "not_yet"
    assert outcome(lambda: verifier.verify(issuer.token(nbf=now + 600))) == "not_yet"
    assert outcome(lambda: verifier.verify(issuer.token(audience="https://other.example.com"))) == "audience"
    assert outcome(lambda: verifier.verify(issuer.token(iss=f"{URL}/"))) == "issuer"
    assert outcome(lambda: verifier.verify(issuer.token(typ=None))) == "type"
    assert outcome(lambda: verifier.verify(issuer.token(jti=None))) == "claims"
    assert outcome(lambda: verifier.verify(issuer.token(key=FakeIssuer().key))) == "key_unknown"
    assert outcome(lambda: verifier.verify(FakeIssuer(URL, audience=AUD).token())) == "key_unknown"
    assert outcome(lambda: verifier.verify(FakeIssuer("https://evil.test", audience=AUD).token())) == "key_unknown"
    assert verifier.verify(issuer.token(aud=[AUD, "https://x.test"])).client_id == "test-client"
    with pytest.raises(InsufficientScope) as caught:
        verifier.verify(issuer.token(scopes="orders:read"), scopes=["orders:write"])
    assert (caught.value.status, caught.value.required) == (403, ("orders:write",))


@pytest.mark.rule("UT-2")
def test_rotation(issuer: FakeIssuer) -> None:
    """As often as one likes: the old key stays good until it is revoked, and nothing is waited for."""
    verifier = issuer.verifier()
    tokens = [issuer.token()]
    for algorithm in ("ES256", "Ed25519", None):
        assert verifier.verify(tokens[-1]).client_id == "test-client"
        assert outcome(lambda: verifier.verify(FakeIssuer(URL, audience=AUD).token())) == "key_unknown"
        issuer.rotate(algorithm)
        tokens.append(issuer.token())
    assert len({jwt.get_unverified_header(token)["kid"] for token in tokens}) == 4
    assert [outcome(lambda token=token: verifier.verify(token)) for token in tokens] == ["accepted"] * 4  # type: ignore[misc]
    issuer.rotate(revoke=True)
    assert [outcome(lambda token=token: verifier.verify(token)) for token in tokens] == ["key_unknown"] * 4  # type: ignore[misc]
    assert outcome(lambda: verifier.verify(issuer.token())) == "accepted"


@pytest.mark.rule("UT-2", "RS-21")
def test_an_issuer_that_is_down(issuer: FakeIssuer) -> None:
    """503 with Retry-After for who has no keys, whoever has some goes on; it is over at the end of the block."""
    warm, cold = issuer.verifier(), issuer.verifier()
    warm.warm_sync()
    with issuer.down():
        assert warm.verify(issuer.token()).client_id == "test-client"
        for _ in range(2):
            with pytest.raises(KeysUnavailable) as caught:
                cold.verify(issuer.token())
            assert (caught.value.status, caught.value.retry_after) == (503, 1)
        issuer.rotate()  # nobody can tell whether such a key is good
        with pytest.raises(KeysUnavailable):
            warm.verify(issuer.token())
    assert [one.verify(issuer.token()).client_id for one in (warm, cold)] == ["test-client"] * 2
    issuer.down()
    with pytest.raises(KeysUnavailable):
        issuer.verifier().verify(issuer.token())
    issuer.up()
    assert issuer.verifier().verify(issuer.token()).client_id == "test-client"


@pytest.mark.rule("UT-2")
def test_the_answer_of_an_api_while_it_is_down(issuer: FakeIssuer) -> None:
    """Through what every adapter asks: the status and header that a client of the API meets."""
    resource = ProtectedResource(issuer.verifier())

    def status(token: str) -> int:
        from groat.verifier import VerificationError

        try:
            resource.admit(ApiRequest(lambda name: [f"Bearer {token}"] if name == "authorization" else []))
        except VerificationError as error:
            return resource.refusal(error).status
        return 200

    with issuer.down():
        assert status(issuer.token()) == 503
    assert status(issuer.token()) == 200
    assert {status(token) for token in issuer.bad_tokens().values()} <= {400, 401}


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> Verifier:
    """A verifier as an application builds it at import: the URL is that of the real server."""
    monkeypatch.setenv("GROAT_ISSUER", URL)
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    for name in ("GROAT_JWKS_URI", "GROAT_ALGORITHMS", "GROAT_ALLOW_HTTP_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    return Verifier.from_env(cache_size=10)


@pytest.mark.rule("UT-4")
def test_each_test_has_keys_of_its_own(built_in: Verifier) -> None:
    """One verifier, three issuers of one name after another: each is met as if it were the first."""
    old = ""
    for _ in range(3):
        with FakeIssuer(URL, audience=AUD).installed() as issuer:
            for _ in range(2):
                assert built_in.verify(issuer.token("billing")).client_id == "billing"
            assert not old or outcome(lambda old=old: built_in.verify(old)) == "key_unknown"  # type: ignore[misc]
            with issuer.down():
                assert built_in.verify(issuer.token()).client_id == "test-client"
            old = issuer.token()
    with FakeIssuer(URL, audience=AUD).installed() as issuer, issuer.down(), pytest.raises(KeysUnavailable):
        built_in.verify(issuer.token())


@pytest.mark.rule("UT-3", "UT-4")
def test_the_inner_of_two_counts_and_afterwards_neither(built_in: Verifier) -> None:
    """Also after an exception; a verifier with `http=` or `jwks_uri=` of its own asks the fake one, too."""

    def through_a_proxy(url: str, headers: Any) -> Any:
        raise OSError("the network was touched")

    others = [Verifier(URL, AUD, http=through_a_proxy), Verifier(URL, AUD, jwks_uri="https://keys.example.com/x")]
    outer, inner = FakeIssuer(URL, audience=AUD), FakeIssuer(URL, audience=AUD)
    with outer.installed():
        with pytest.raises(ZeroDivisionError), inner.installed():
            assert [one.verify(inner.token()).client_id for one in (built_in, *others)] == ["test-client"] * 3
            _ = 1 / 0
        assert outcome(lambda: built_in.verify(inner.token())) == "key_unknown"
        assert outcome(lambda: built_in.verify(outer.token())) == "accepted"
    assert outcome(lambda: others[0].verify(outer.token())) == "key_unavailable"


@pytest.mark.rule("UT-3", "UT-4")
def test_blocks_that_overlap(built_in: Verifier) -> None:
    """As those of tests in several threads: whichever ends first takes nothing away from the other."""
    first, second = FakeIssuer(URL, audience=AUD), FakeIssuer(URL, audience=AUD)
    one, two, again = first.installed(), second.installed(), second.installed()
    one.__enter__()
    two.__enter__()
    again.__enter__()
    one.__exit__(None, None, None)
    assert outcome(lambda: built_in.verify(second.token())) == "accepted"
    two.__exit__(None, None, None)
    assert outcome(lambda: built_in.verify(second.token())) == "accepted"
    again.__exit__(None, None, None)
    assert fetch.stand_ins == {}
    assert wire.stand_ins == {}


@pytest.mark.rule("UT-1")
def test_an_issuer_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the application allows its host by name, as in development."""
    monkeypatch.setenv("GROAT_ISSUER", "http://auth.internal:3001")
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    monkeypatch.setenv("GROAT_ALLOW_HTTP_HOSTS", "other, auth.internal")
    issuer = FakeIssuer.from_env()
    for name, value in issuer.environment("billing").items():
        monkeypatch.setenv(name, value)
    assert issuer.verifier().verify(issuer.token()).client_id == "test-client"
    with issuer.installed(), issuer.machine("billing") as machine:
        token = machine.token(scopes="a")
        assert Verifier.from_env().verify(token.value).client_id == "billing"


@pytest.mark.rule("UT-4")
def test_a_fetch_that_lands_after_its_test(issuer: FakeIssuer) -> None:
    """What was under way when the keys were forgotten brings nothing."""
    from threading import Event

    from groat.verifier.keys import source

    begun, go_on = Event(), Event()

    def slow(url: str, headers: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return issuer.http(url, headers)

    verifier = Verifier(URL, AUD, http=slow)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: outcome(lambda: verifier.verify(issuer.token())))
        assert begun.wait(20)
        source.forget(URL, keys=True)
        go_on.set()
        assert waiting.result(20) == "key_unavailable"
    assert verifier.jwks_age() is None
    assert verifier.verify(issuer.token()).client_id == "test-client"


@pytest.mark.rule("UT-2", "CL-5")
def test_clocks(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen clock is that of the tokens, too; `clocks=` turns issuer and verifier together."""
    verifier = issuer.verifier()
    assert verifier.verify(issuer.token()).client_id == "test-client"
    now = [1_900_000_000.0]
    turned = FakeIssuer(URL, audience=AUD, clocks=Clocks(now=lambda: now[0]))
    other, token = turned.verifier(), turned.token(expires_in=60)
    assert other.verify(token).expires_at == 1_900_000_060
    now[0] += 61
    assert outcome(lambda: other.verify(token)) == "expired"
    freeze(monkeypatch)
    assert verifier.verify(issuer.token()).issued_at == PAST + 1


@pytest.mark.rule("UT-3")
def test_threads_and_event_loops(issuer: FakeIssuer) -> None:
    """Many at once, while keys change."""
    verifier = issuer.verifier()

    def work(turn: int) -> str:
        if turn % 8 == 0:
            issuer.rotate()
        return outcome(lambda: verifier.verify(issuer.token(str(turn))))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(64))) <= {"accepted", "key_unavailable"}

    async def many() -> list[str]:
        callers = await asyncio.gather(*(issuer.verifier().averify(issuer.token(str(turn))) for turn in range(16)))
        return [caller.client_id for caller in callers]

    assert asyncio.run(many()) == [str(turn) for turn in range(16)]


@pytest.mark.rule("UT-1")
@pytest.mark.parametrize("url", ["http://auth.example.com", "auth.example.com", "https://u@auth.example.com", ""])
def test_a_name_that_no_issuer_may_have(url: str) -> None:
    """The verifier of production would refuse it, so it is refused here."""
    with pytest.raises(ConfigError):
        FakeIssuer(url)


@pytest.mark.rule("UT-1")
def test_an_issuer_in_another_dialect() -> None:
    """An issuer with a path, and tokens as other servers spell them."""
    url = "https://sso.example.com/realms/acme"
    issuer = FakeIssuer(url, audience=AUD, algorithm="RS256")
    with issuer.installed():
        verifier = Verifier.keycloak("https://sso.example.com", "acme", AUD)
        assert outcome(lambda: verifier.verify(issuer.token())) == "type"
        token = issuer.token(sub="8f5e", azp="billing", typ="JWT", claims={"typ": "Bearer", "client_id": None})
        assert verifier.verify(token).client_id == "billing"


@pytest.mark.rule("UT-3")
def test_nothing_private_shows(issuer: FakeIssuer) -> None:
    """Neither in repr nor in what is written about a failure."""
    shown = repr(issuer) + repr(vars(issuer)) + repr(issuer.http(f"{URL}/.well-known/jwks.json", {}).body)
    assert issuer.key.private_jwk()["d"] not in shown
    assert '"d"' not in shown


@pytest.mark.rule("UT-3", "OP-5")
def test_what_is_imported() -> None:
    """Of other people's packages only what groat always needs, and no pytest."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from groat.testing import FakeIssuer\n"
        "issuer = FakeIssuer()\n"
        "with issuer.installed(): issuer.verifier().verify(issuer.token())\n"
        "issuer.machine().token(scopes='a')\n"
        "files = [str(getattr(sys.modules[name], '__file__', '')) for name in {*sys.modules} - before]\n"
        "print(*{file.split('site-packages/')[1].split('/')[0].split('.')[0] for file in files if 'site-packages' in file})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) <= {"groat", "cryptography", "joserfc", "_cffi_backend"}


@pytest.mark.rule("RS-SL-05", "RS-27")
@pytest.mark.parametrize("mode", ["feed", "list", "introspection"])
@pytest.mark.parametrize("installed", [False, True], ids=["handed in", "installed"])
def test_a_token_that_is_taken_back(mode: str, installed: bool) -> None:
    """The next request is refused, in whichever way the API hears of it; others go on, and down means what it means."""
    with ExitStack() as stack:
        issuer = FakeIssuer(lists=True)
        chosen = issuer.asking(0) if mode == "introspection" else mode
        if installed:
            stack.enter_context(issuer.installed())
            verifier = Verifier(issuer.url, issuer.audience, revocation=chosen)
        else:
            verifier = issuer.verifier(revocation=chosen)
        stack.callback(verifier.close)
        tokens = [issuer.token() for _ in range(3)]
        assert [verifier.verify(token).client_id for token in tokens] == ["test-client"] * 3
        issuer.revoke(tokens[1])
        for _ in range(2):
            with pytest.raises(InvalidToken, match="revoked"):
                verifier.verify(tokens[1])
        assert verifier.verify(tokens[0]).client_id == "test-client"
        issuer.revoke(tokens[2])
        with pytest.raises(InvalidToken, match="revoked"):
            asyncio.run(verifier.averify(tokens[2]))
        with issuer.down():
            away = [outcome(lambda: verifier.verify(token)) for token in tokens]  # noqa: B023
        assert away == (["status_unknown"] * 3 if mode == "introspection" else ["accepted", "revoked", "revoked"])
        assert issuer.verifier().verify(tokens[1]).client_id == "test-client"
