"""Bound tokens at the verifier (RFC 9449 7): proofs, nonces, replays, challenges."""

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest
from flask import Flask

from groat.protocol.dpop import token_hash
from groat.protocol.dpop_nonce import SLOT_SECONDS, Nonces
from groat.protocol.jwk import generate_private_key
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.verifier import Caller, ConfigError, Dpop, ProofsUnavailable, VerificationError, Verifier
from groat.verifier.asgi import GroatMiddleware
from groat.verifier.flask import Guard
from groat.verifier.replay import ReplayMemory
from tests.proofs import ABSENT, PROOF_KEY, proof
from tests.verifier.issuer import Issuer, serving
from tests.verifier.tokens import AUD

URL: Final = AUD + "/orders"
OTHER_KEY: Final = generate_private_key("ES256")
JKT: Final = {"jkt": PROOF_KEY.public.thumbprint}
SECRET: Final = b"0123456789abcdef"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


def bound(issuer: Issuer, **changes: Any) -> str:
    return issuer.token(**{"cnf": JKT, **changes})


def call(verifier: Verifier, token: str, proofs: list[str], **more: Any) -> Caller:
    """One request, as an adapter would hand it over."""
    words = {"method": "GET", "url": "/orders?x=1", "scheme": "DPoP", **more}
    scheme = words.pop("scheme")
    return verifier.verify_request([f"{scheme} {token}"], b"x=1", dpop=proofs, **words)


def once(name: str, end: int) -> OneTimeValue:
    return OneTimeValue(OneTimeKind.PROOF, "key", name, end)


def good(token: str, now: float | None = None, **changes: Any) -> str:
    wanted = {"url": URL, "method": "GET", "ath": token_hash(token), **changes}
    return proof(wanted.pop("url"), time.time() if now is None else now, **wanted)


def refused(verifier: Verifier, token: str, proofs: list[str], **more: Any) -> VerificationError:
    with pytest.raises(VerificationError) as error:
        call(verifier, token, proofs, **more)
    return error.value


@pytest.mark.rule("RS-DP-01", "RS-DP-03", "AT-13")
@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "dPOP"])
def test_a_bound_token_with_its_proof(issuer: Issuer, scheme: str) -> None:
    """The caller is known, and what the token is bound to."""
    token = bound(issuer)
    caller = call(issuer.verifier(), token, [good(token)], scheme=scheme)
    assert caller.client_id == "billing"
    assert caller.confirmation is not None
    assert (caller.confirmation.kind, caller.confirmation.thumbprint) == ("dpop", PROOF_KEY.public.thumbprint)


@pytest.mark.rule("RS-DP-02", "RS-DP-03", "RS-DP-06", "RS-DP-10")
@pytest.mark.parametrize(
    ("changes", "reason", "code"),
    [
        ({"ath": ABSENT}, "dpop_claims", "invalid_dpop_proof"),
        ({"ath": token_hash("other")}, "dpop_token", "invalid_dpop_proof"),
        ({"method": "POST"}, "dpop_method", "invalid_dpop_proof"),
        ({"url": AUD + "/other"}, "dpop_url", "invalid_dpop_proof"),
        ({"url": "https://evil.example/orders"}, "dpop_url", "invalid_dpop_proof"),
        ({"key": OTHER_KEY}, "binding", "invalid_token"),
        ({"header_typ": "at+jwt"}, "dpop_type", "invalid_dpop_proof"),
        ({"iat": int(time.time()) - 3600}, "dpop_expired", "invalid_dpop_proof"),
        ({"iat": int(time.time()) + 3600}, "dpop_not_yet", "invalid_dpop_proof"),
    ],
)
def test_a_proof_that_is_wrong(issuer: Issuer, changes: dict[str, Any], reason: str, code: str) -> None:
    """401 under the scheme that was tried; the reason stays in the log."""
    token = bound(issuer)
    error = refused(issuer.verifier(), token, [good(token, **changes)])
    assert (error.status, error.reason, error.code, error.tried) == (401, reason, code, "DPoP")
    dpop, bearer = str(error.www_authenticate).split(", Bearer ")
    assert bearer == 'realm="api"'
    assert dpop.startswith(f'DPoP realm="api", error="{code}"'), "what was tried comes first"
    assert 'algs="ES256 ' in dpop


@pytest.mark.rule("RS-DP-01", "RS-DP-06")
def test_one_proof_and_no_more(issuer: Issuer) -> None:
    """None, two, and two in one line."""
    token = bound(issuer)
    one = good(token)
    assert refused(issuer.verifier(), token, []).reason == "dpop_missing"
    assert refused(issuer.verifier(), token, [one, good(token)]).reason == "dpop_header"
    assert refused(issuer.verifier(), token, [f"{one}, {one}"]).reason == "dpop_malformed"


@pytest.mark.rule("RS-DP-04", "RS-DP-05", "RS-DP-07")
def test_the_wrong_scheme(issuer: Issuer) -> None:
    """A bound token is no bearer token, proof or not, and an unbound one is not bound by a proof."""
    token, plain = bound(issuer), issuer.token()
    verifier = issuer.verifier()
    for proofs in ([], [good(token)]):
        error = refused(verifier, token, proofs, scheme="Bearer")
        assert (error.status, error.code, error.reason) == (401, "invalid_token", "binding")
        assert str(error.www_authenticate).startswith('Bearer realm="api", error="invalid_token"')
        assert ', DPoP realm="api", algs="' in str(error.www_authenticate)
    error = refused(verifier, plain, [good(plain)])
    assert (error.status, error.code, error.reason, error.tried) == (401, "invalid_token", "binding", "DPoP")
    with pytest.raises(VerificationError) as alone:
        verifier.verify(token)
    assert alone.value.reason == "binding"


@pytest.mark.rule("RS-DP-15")
@pytest.mark.parametrize(
    "cnf",
    [
        {"kid": "x"},
        {"jwk": {}},
        {**JKT, "x5t#S256": JKT["jkt"]},
        {"x5t#S256": "short"},
        {"jkt": "short"},
        {"jkt": 7},
        {},
        None,
        [JKT],
        "jkt",
    ],
)
def test_unknown_confirmations(issuer: Issuer, cnf: Any) -> None:
    """What nobody here can prove lets nobody in, with whatever scheme and proof."""
    token = bound(issuer, cnf=cnf)
    for scheme in ("DPoP", "Bearer"):
        error = refused(issuer.verifier(), token, [good(token)], scheme=scheme)
        assert (error.status, error.code, error.reason) == (401, "invalid_token", "binding")


@pytest.mark.rule("RS-DP-14", "RS-24")
def test_a_cached_verdict_never_skips_the_proof(issuer: Issuer) -> None:
    """Of a token that is remembered, too."""
    token, verifier = bound(issuer), issuer.verifier(cache_size=100)
    call(verifier, token, [good(token)])
    assert refused(verifier, token, []).reason == "dpop_missing"
    assert refused(verifier, token, [], scheme="Bearer").reason == "binding"
    assert refused(verifier, token, [good(token, url=AUD + "/x")]).reason == "dpop_url"
    call(verifier, token, [good(token)])


@pytest.mark.rule("RS-DP-09", "RS-DP-11")
def test_fifty_presentations_at_once(issuer: Issuer) -> None:
    """One of them is accepted."""
    token, verifier = bound(issuer), issuer.verifier()
    verifier.warm_sync()
    one = good(token)

    def present(_: int) -> str:
        try:
            call(verifier, token, [one])
        except VerificationError as error:
            return error.reason
        return "accepted"

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(present, range(50)))
    assert sorted(found) == ["accepted", *["dpop_replayed"] * 49]


@pytest.mark.rule("RS-DP-11")
def test_the_memory_holds_what_could_come_again() -> None:
    """Each value until it is over; where there is no room nothing is accepted, and room comes with time."""
    passed = 1000.0
    memory = ReplayMemory(2, lambda: passed)
    assert memory.first(once("a", 100), 50)
    assert not memory.first(once("a", 100), 99.5)
    assert memory.first(once("b", 130), 60)
    with pytest.raises(ProofsUnavailable) as full:
        memory.first(once("c", 140), 60)
    assert (full.value.status, full.value.reason, full.value.www_authenticate) == (503, "dpop_full", None)
    passed += 60
    assert memory.first(once("c", 140), 102)
    assert len(memory) == 2


@pytest.mark.rule("RS-DP-09", "RS-DP-11")
@pytest.mark.parametrize("step", [600, -600, 86400, -86400])
def test_no_step_of_the_clock_lets_a_proof_in_again(step: int) -> None:
    """There and back, with proofs coming in between; and a step that stays keeps nothing for longer than it is good."""
    passed, start = 1000.0, 1_800_000_000
    memory = ReplayMemory(3, lambda: passed)
    used = once("used", start + 80)
    assert memory.first(used, start)
    passed += 2
    assert memory.first(once("stepped", start + step + 82), start + step + 2)
    assert not memory.first(used, start + step + 2)
    passed += 2
    assert not memory.first(used, start + 4)
    assert not memory.first(once("stepped", start + step + 82), start + 4)
    # The step stays: what was used after it is forgotten in its time, not when the old clock would have been there.
    assert memory.first(once("later", start + step + 86), start + step + 6)
    passed += 84
    assert memory.first(once("last", start + step + 170), start + step + 90)
    assert len(memory) == (2 if step < 0 else 1)  # after a step back the first is good again later


@pytest.mark.rule("RS-DP-09")
def test_a_verifier_whose_clock_steps_there_and_back(issuer: Issuer) -> None:
    """The monotonic clock that it was given counts."""
    now = time.time()
    step = 0
    verifier = issuer.verifier(clock=lambda: now + step, monotonic=lambda: 1000.0)
    token = bound(issuer, exp=int(now) + 3600)
    one = good(token, now)
    call(verifier, token, [one])
    step = 600
    call(verifier, token, [good(token, now + step)])
    step = 0
    assert refused(verifier, token, [one]).reason == "dpop_replayed"


@pytest.mark.rule("RS-DP-09")
def test_strangers_fill_no_memory(issuer: Issuer) -> None:
    """Without a good token and a good proof nothing is remembered."""
    token, verifier = bound(issuer), issuer.verifier()
    refused(verifier, token, [good(token, key=OTHER_KEY)])
    refused(verifier, token, [good(token, method="PUT")])
    expired = bound(issuer, exp=1)
    refused(verifier, expired, [good(expired)])
    assert isinstance(verifier._possession._memory, ReplayMemory)
    assert len(verifier._possession._memory) == 0


@pytest.mark.rule("RS-DP-12")
@pytest.mark.parametrize(
    ("public", "url", "htu"),
    [
        (None, "/orders", AUD + "/orders"),
        (None, "http://inside:8000/orders?x", AUD + "/orders"),
        ("https://x.example/api", "/orders", "https://x.example/api/orders"),
        ("https://x.example/api/", "/api/orders", "https://x.example/api/orders"),
        (["https://a.example", "https://b.example"], "/orders", "https://b.example/orders"),
        ("http://localhost:8000", "/orders", "http://localhost:8000/orders"),
        (None, "/a%2fb/%7Ec", AUD + "/a%2Fb/~c"),
        (None, "", None),
        (None, "*", None),
    ],
)
def test_the_public_url(issuer: Issuer, public: Any, url: str, htu: str | None) -> None:
    """What callers write, and not what the server behind a proxy is asked for."""
    verifier, token = issuer.verifier(public_url=public), bound(issuer)
    if htu is None:
        assert refused(verifier, token, [good(token, url=AUD + "/")], url=url).reason == "dpop_url"
        return
    call(verifier, token, [good(token, url=htu)], url=url)
    assert refused(verifier, token, [good(token, url=f"{htu}/x")], url=url).reason == "dpop_url"


@pytest.mark.rule("RS-DP-12")
def test_no_public_url(issuer: Issuer) -> None:
    """An audience that is no URL says nothing of where the API is: then bound tokens need it said."""
    token = bound(issuer, aud="orders")
    verifier = Verifier(issuer.url, "orders")
    error = refused(verifier, token, [good(token)])
    assert (error.reason, "GROAT_PUBLIC_URL" in error.hint) == ("dpop_url", True)
    known = Verifier(issuer.url, "orders", public_url=AUD)
    call(known, token, [good(token)])


@pytest.mark.rule("RS-DP-08", "RS-DP-16")
def test_nonces(issuer: Issuer) -> None:
    """One challenge with the nonce, which works at every process that shares the secret, and at no other."""
    required = Dpop(nonces="required", nonce_secret=SECRET)
    first, second = issuer.verifier(dpop=required), issuer.verifier(dpop=required)
    token = bound(issuer)
    error = refused(first, token, [good(token)])
    assert (error.status, error.code, error.reason) == (401, "use_dpop_nonce", "dpop_nonce")
    assert error.nonce is not None
    call(second, token, [good(token, nonce=error.nonce)])
    late = int(time.time()) - 3600
    call(first, token, [good(token, nonce=error.nonce, iat=late)])
    other = issuer.verifier(dpop=Dpop(nonces="optional", nonce_secret=SECRET[::-1]))
    assert refused(other, token, [good(token, nonce=error.nonce)]).reason == "dpop_nonce"
    call(other, token, [good(token)])


@pytest.mark.rule("RS-DP-16")
def test_which_nonce_is_the_next() -> None:
    """None for who has the newest, by a neighbour's clock that is ahead, too; after a change of the secret, the new."""
    nonces, now = Nonces([SECRET]), SLOT_SECONDS * 1000.0
    before, newest, ahead = (nonces.current(now + SLOT_SECONDS * step) for step in (-1, 0, 1))
    assert [nonces.newer(one, now) for one in (before, None, newest)] == [newest, newest, None]
    assert nonces.newer(ahead, now + SLOT_SECONDS - 5) is None
    assert Nonces([SECRET[::-1], SECRET]).newer(newest, now) == Nonces([SECRET[::-1]]).current(now)


CACHED: Final = {"public, max-age=60": False, "private": False, "No-Store, private": True}


@pytest.mark.rule("RS-DP-16")
@pytest.mark.parametrize("rule", CACHED)
def test_no_nonce_where_a_cache_may_keep_it(issuer: Issuer, rule: str) -> None:
    """By the application's own rule; in ASGI behind two guards, and in Flask."""
    verifier = issuer.verifier(dpop=Dpop(nonces="optional", nonce_secret=SECRET))
    token, guard, app = bound(issuer), Guard(verifier), Flask(__name__)

    def headers() -> dict[str, str]:
        return {"Authorization": f"DPoP {token}", "DPoP": good(token)}

    async def cached(scope: Any, receive: Any, send: Any) -> None:
        lines = [(b"Cache-Control", rule.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        await send({"type": "http.response.body", "body": b""})

    async def by_asgi() -> httpx.Response:
        transport = httpx.ASGITransport(GroatMiddleware(GroatMiddleware(cached, verifier), verifier))
        async with httpx.AsyncClient(transport=transport) as http:
            return await http.get(URL, headers=headers())

    app.add_url_rule("/orders", view_func=guard()(lambda: ("", {"Cache-Control": rule})))
    for got in (asyncio.run(by_asgi()), app.test_client().get("/orders", headers=headers())):
        assert (got.status_code, "dpop-nonce" in got.headers) == (200, CACHED[rule])
        assert got.headers["cache-control"] == rule


@pytest.mark.rule("RS-DP-07", "RS-MD-06")
def test_bound_tokens_alone(issuer: Issuer) -> None:
    """With required=True nothing else is taken, and the challenge offers nothing else."""
    verifier = issuer.verifier(dpop=Dpop(required=True))
    error = refused(verifier, issuer.token(), [], scheme="Bearer")
    assert (error.status, error.reason) == (401, "binding")
    assert str(error.www_authenticate).startswith('DPoP realm="api", algs="')
    assert verifier.proofs_taken.required
    token = bound(issuer)
    call(verifier, token, [good(token)])


@pytest.mark.rule("RS-DP-07")
def test_challenges_before_anything_was_tried(issuer: Issuer) -> None:
    """Both schemes where the API has said that it takes both, none with an error."""
    with pytest.raises(VerificationError) as error:
        issuer.verifier(dpop=Dpop()).verify_request([])
    value = str(error.value.www_authenticate)
    assert re.fullmatch(r'Bearer realm="api", DPoP realm="api", algs="[A-Za-z0-9 ]+"', value)


@pytest.mark.rule("RS-DP-07", "RS-04")
@pytest.mark.parametrize("line", ["DPoP", "DPoP ", "DPoP a b", "DPoP a,b"])
def test_malformed_credentials(issuer: Issuer, line: str) -> None:
    """As for Bearer."""
    with pytest.raises(VerificationError) as error:
        issuer.verifier().verify_request([line], dpop=["x"])
    assert (error.value.status, error.value.tried) == (400, "DPoP")
    with pytest.raises(VerificationError) as error:
        issuer.verifier().verify_request(["DPoP x"], b"access_token=x", dpop=["x"])
    assert error.value.status == 400


def test_scopes_of_bound_tokens(issuer: Issuer) -> None:
    """403 under the scheme that was tried."""
    verifier, token = issuer.verifier(), bound(issuer)
    error = refused(verifier, token, [good(token)], scopes=["orders:write"])
    assert (error.status, error.code, error.tried) == (403, "insufficient_scope", "DPoP")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"replay": "redis://x"}, "memory, none, sqlite:PATH or postgresql://"),
        ({"nonces": "yes"}, "off, optional or required"),
        ({"nonces": "required"}, "nonce_secret"),
        ({"nonces": "optional", "nonce_secret": "short"}, "16 random bytes"),
    ],
)
def test_settings_that_cannot_be(words: dict[str, Any], said: str) -> None:
    """Said at once, without the secret."""
    with pytest.raises(ConfigError, match=said):
        Dpop(**words)
    assert "0123" not in repr(Dpop(nonces="required", nonce_secret=SECRET))


@pytest.mark.parametrize(
    "url", ["http://x.example", "x.example", "https://x.example/?a", "https://x.example#f", "", 7, []]
)
def test_public_urls_that_cannot_be(url: Any) -> None:
    """Said when the verifier is made."""
    with pytest.raises(ConfigError, match="public_url"):
        Verifier("https://auth.example.com", AUD, public_url=url)


def test_the_environment(monkeypatch: pytest.MonkeyPatch, issuer: Issuer) -> None:
    """GROAT_PUBLIC_URL, several with commas."""
    monkeypatch.setenv("GROAT_ISSUER", issuer.url)
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    monkeypatch.setenv("GROAT_PUBLIC_URL", "https://a.example/v1, https://b.example")
    token = bound(issuer)
    call(Verifier.from_env(), token, [good(token, url="https://a.example/v1/orders")])
    call(Verifier.from_env(), token, [good(token, url="https://b.example/orders")])
