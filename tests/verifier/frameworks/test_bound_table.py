"""Bound tokens (RFC 9449 7) at every adapter of HTTP, each in a real server; and what the OpenID suite asks of an API."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from groat.protocol.dpop import token_hash
from groat.protocol.dpop_nonce import SLOT_SECONDS, Nonces
from groat.protocol.jwk import generate_private_key
from tests.proofs import ABSENT, PROOF_KEY, bare_jwk, proof
from tests.verifier.frameworks.test_table import APPS, Got, Headers, Served, Sides, started
from tests.verifier.issuer import serving
from tests.verifier.tokens import AUD

URL: Final = AUD + "/protected"
SECRET: Final = "0123456789abcdef"
OTHER: Final = generate_private_key("ES256")
RSA: Final = generate_private_key("RS256")


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with serving() as issuer, serving() as away:
        away.close()
        yield Sides(issuer, away)


@pytest.fixture(scope="module", params=APPS)
def served(request: pytest.FixtureRequest, sides: Sides) -> Iterator[Served]:
    with started(request.param, sides, NONCES=SECRET) as running:
        yield running


@pytest.fixture(scope="module")
def api(sides: Sides) -> Iterator[Served]:
    with started("asgi_app", sides) as running:
        yield running


def bound(sides: Sides, **changes: Any) -> str:
    return sides.good(**{"cnf": {"jkt": PROOF_KEY.public.thumbprint}, **changes})


def good(token: str, **changes: Any) -> str:
    words = {"url": URL, "method": "GET", "ath": token_hash(token), **changes}
    return proof(words.pop("url"), time.time(), **words)


def sent(token: str, *proofs: str, scheme: str = "DPoP", name: str = "DPoP") -> Headers:
    return [("Authorization", f"{scheme} {token}"), *((name, one) for one in proofs)]


@pytest.mark.rule("RS-DP-01", "RS-DP-09", "RS-28")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_let_in_once(served: Served, sides: Sides, method: str) -> None:
    """With its proof, whatever else is in the URL; and the same proof is good no second time."""
    token = bound(sides)
    headers = sent(token, good(token, method=method))
    got = served.ask("/protected?a=b%20c", headers, method)
    assert (got.status, got.one("cache-control")) == (200, "no-store")
    if method != "HEAD":
        assert json.loads(got.body) == {"client": "billing"}
    again = served.ask("/protected?a=b%20c", headers, method)
    assert (again.status, dpop_error(again)) == (401, "invalid_dpop_proof")


def dpop_error(got: Got) -> str:
    """The error on the scheme DPoP, with which the challenge begins; it is offered beside Bearer, which has none."""
    dpop, bearer = (got.one("www-authenticate") or "").split(", Bearer ")
    assert dpop.startswith('DPoP realm="api"')
    assert bearer.startswith('realm="api"')
    assert "error" not in bearer
    assert 'algs="' in dpop
    return dpop.partition('error="')[2].partition('"')[0]


@pytest.mark.rule("RS-DP-01", "RS-DP-04", "RS-DP-05", "RS-DP-06", "RS-28")
def test_refused(served: Served, sides: Sides) -> None:
    """Whatever the adapter: no proof, two, one for something else, another scheme."""
    token, plain = bound(sides), sides.good()
    for headers, error in (
        (sent(token), "invalid_dpop_proof"),
        (sent(token, good(token), good(token)), "invalid_dpop_proof"),
        (sent(token, "garbage"), "invalid_dpop_proof"),
        (sent(token, good(token, url=AUD + "/whoami")), "invalid_dpop_proof"),
        (sent(token, good(token, url=f"http://127.0.0.1:{served.port}/protected")), "invalid_dpop_proof"),
        ([("X-Forwarded-Host", "evil.example"), *sent(token, good(token, url="https://evil.example/protected"))], "invalid_dpop_proof"),
        (sent(token, good(token, method="POST")), "invalid_dpop_proof"),
        (sent(token, good(plain)), "invalid_dpop_proof"),
        (sent(token, good(token, key=OTHER)), "invalid_token"),
        (sent(plain, good(plain)), "invalid_token"),
    ):  # fmt: skip
        got = served.ask("/protected", headers)
        assert (got.status, dpop_error(got), json.loads(got.body)["error"]) == (401, error, error)
        assert got.one("cache-control") == "no-store"
    for headers in (sent(token, scheme="Bearer"), sent(token, good(token), scheme="bEARER")):
        got = served.ask("/protected", headers)
        assert (got.status, json.loads(got.body)["error"]) == (401, "invalid_token")
    poor = bound(sides, scope="orders:read")
    got = served.ask("/protected", sent(poor, good(poor)))
    assert (got.status, dpop_error(got)) == (403, "insufficient_scope")


@pytest.mark.rule("RS-DP-16")
def test_the_next_nonce(served: Served, sides: Sides) -> None:
    """Who shows the nonce of before, or none, gets that of now with his answer, once; who has it gets none."""
    nonces = Nonces([SECRET.encode()])
    if time.time() % SLOT_SECONDS > SLOT_SECONDS - 5:  # the slot must not end before the test does
        time.sleep(5)
    newest, before = nonces.current(time.time()), nonces.current(time.time() - SLOT_SECONDS)
    for path in ("/protected", "/whoami"):
        for nonce, offered in ((before, newest), (ABSENT, newest), (newest, None)):
            token = bound(sides)
            got = served.ask(path, sent(token, good(token, url=AUD + path, nonce=nonce)))
            assert (got.status, got.one("dpop-nonce")) == (200, offered)
    plain = served.ask("/protected", [("Authorization", f"Bearer {sides.good()}")])
    assert (plain.status, plain.one("dpop-nonce")) == (200, None)
    token = bound(sides)
    refused = served.ask("/protected", sent(token, good(token, key=OTHER, nonce=before)))
    assert (refused.status, refused.one("dpop-nonce")) == (401, None)


@pytest.mark.rule("RS-DP-12")
@pytest.mark.parametrize("name", APPS)
def test_below_a_prefix(sides: Sides, name: str) -> None:
    """A mount is part of the URL that callers know."""
    with started(name, sides, "/base") as served:
        token = bound(sides)
        assert served.ask("/protected", sent(token, good(token))).status == 401
        assert served.ask("/protected", sent(token, good(token, url=AUD + "/base/protected"))).status == 200


ACCEPTED: Final[dict[str, Callable[[str], Headers]]] = {
    "header name in capitals": lambda token: sent(token, good(token), name="DPOP"),
    "scheme in any case": lambda token: sent(token, good(token), scheme="dPOP"),
    "htu with query and fragment": lambda token: sent(token, good(token, url=URL + "?x=1#f")),
    "htu without the query": lambda token: sent(token, good(token)),
    "htu in capitals": lambda token: sent(token, good(token, url="HTTPS://ORDERS.EXAMPLE.COM/protected")),
    "default port": lambda token: sent(token, good(token, url="https://orders.example.com:443/protected")),
    "unknown members": lambda token: sent(token, good(token, header_x="y", z={"a": 1})),
    "accept with charset": lambda token: [("Accept", "application/json;charset=utf-8"), *sent(token, good(token))],
    "accept anything": lambda token: [("Accept", "*/*"), *sent(token, good(token))],
    "ten seconds back": lambda token: sent(token, good(token, iat=int(time.time()) - 10)),
    "eight seconds ahead": lambda token: sent(token, good(token, iat=int(time.time()) + 8)),
    "nbf and exp": lambda token: sent(token, good(token, nbf=int(time.time()), exp=int(time.time()) + 300)),
}
SPOILT: Final[dict[str, dict[str, Any]]] = {
    "typ missing": {"header_typ": ABSENT},
    "typ wrong": {"header_typ": "JWT"},
    "alg missing": {"header_alg": ABSENT},
    "alg none": {"header_alg": "none"},
    "jwk missing": {"header_jwk": ABSENT},
    "private key": {"header_jwk": {**bare_jwk(PROOF_KEY), "d": "x" * 43}},
    "jwk of another": {"header_jwk": bare_jwk(OTHER)},
    "jti missing": {"jti": ABSENT},
    "htm missing": {"htm": ABSENT},
    "htu missing": {"htu": ABSENT},
    "iat missing": {"iat": ABSENT},
    "ath missing": {"ath": ABSENT},
    "ath wrong": {"ath": token_hash("x")},
    "RS256": {"key": RSA},
    "another method": {"htm": "POST"},
    "another URL": {"htu": AUD + "/other"},
    "an hour ahead": {"iat": int(time.time()) + 3600},
    "an hour back": {"iat": int(time.time()) - 3600},
    "another key": {"key": OTHER},
}


@pytest.mark.rule("RS-DP-10")
@pytest.mark.parametrize("path", ["/protected", "/protected?x=1&y=%2F"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_suite_wants_accepted(api: Served, sides: Sides, case: str, path: str) -> None:
    """With a query in the URL of the resource, too."""
    token = bound(sides)
    assert api.ask(path, ACCEPTED[case](token)).status == 200


@pytest.mark.rule("RS-DP-10")
@pytest.mark.parametrize("case", SPOILT)
def test_what_the_suite_wants_refused(api: Served, sides: Sides, case: str) -> None:
    """401 for each, and the right proof is good after all that."""
    token = bound(sides)
    assert api.ask("/protected?x=1", sent(token, good(token, **SPOILT[case]))).status == 401
    assert api.ask("/protected?x=1", sent(token, good(token))).status == 200


@pytest.mark.rule("RS-DP-10")
def test_the_rest_of_what_the_suite_wants_refused(api: Served, sides: Sides) -> None:
    """Two headers, no JWT, a bad signature, no proof, a token in the query, a replay."""
    token = bound(sides)
    right = good(token)
    broken = right[:-4] + ("AAAA" if right[-4:] != "AAAA" else "BBBB")
    assert api.ask(f"/protected?access_token={token}", [("DPoP", right)]).status == 401
    assert api.ask(f"/protected?access_token={token}", sent(token, right)).status == 400
    for headers in (
        sent(token, right, good(token)),
        sent(token, f"{right},{good(token)}"),
        sent(token, "no.jwt"),
        sent(token, ""),
        sent(token, broken),
        sent(token),
        sent(token, scheme="Bearer"),
    ):
        assert api.ask("/protected", headers).status == 401
    assert [api.ask("/protected", sent(token, right)).status for _ in range(2)] == [200, 401]
