"""`groat guard serve`: what a proxy is answered, and what lets nobody through."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groat.protocol.dpop import token_hash
from groat.protocol.proof_rules import PROOF_ALGORITHMS
from tests.guard.running import Guard, environment, guarding
from tests.proofs import PROOF_KEY, proof
from tests.verifier.issuer import Issuer, serving
from tests.verifier.tokens import ABSENT, AUD
from tests.waiting import wait_until

CHECK = "/forward-auth?scope=orders:read"
METADATA = "/.well-known/oauth-protected-resource"
METHODS = ["GET", "HEAD", "POST", "OPTIONS"]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def guard(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """One guard without a dialect for all tests of this module."""
    scopes = ("--scope", "orders:write", "--scope", "orders:read")
    with guarding(tmp_path_factory.mktemp("guard"), environment(issuer.url), *scopes) as running:
        yield running


@pytest.mark.rule("FA-1")
@pytest.mark.parametrize("method", METHODS)
def test_let_through(guard: Guard, issuer: Issuer, method: str) -> None:
    """204 and who calls, whatever method the proxy asks with; the scheme is read without its case."""
    exp = int(time.time()) + 300
    token = issuer.token(scope="orders:write orders:read", sub="svc-7", exp=exp)
    for _ in range(2):  # the second time out of the cache
        got = guard.ask(CHECK, token, method=method)
        assert (got.status, got.body, got.one("cache-control")) == (204, b"", "no-store")
        assert got.identity == ["billing", "svc-7", "orders:read orders:write", str(exp)]
    assert guard.ask(CHECK, headers=[("authorization", f"BEARER  {token}")], method=method).status == 204


@pytest.mark.rule("FA-1", "RS-02", "RS-MD-03", "RS-MD-08")
@pytest.mark.parametrize("method", METHODS)
def test_refused(guard: Guard, issuer: Issuer, method: str) -> None:
    """The same answers as every adapter gives: status, challenge, no identity."""
    good, where = issuer.token(), f'resource_metadata="{AUD}{METADATA}"'
    for token, headers, status, challenge in (
        (None, (), 401, rf'Bearer realm="api", scope="orders:read", {where}'),
        ("garbage", (), 401, rf'Bearer realm="api", error="invalid_token", .*{where}.*'),
        (issuer.token(exp=1), (), 401, r".*invalid_token.*"),
        (issuer.token(aud="https://x.example"), (), 401, r".*invalid_token.*"),
        (issuer.token(scope="orders:write"), (), 403, r'.*insufficient_scope.*scope="orders:read".*'),
        (good, [("Authorization", f"Bearer {good}")], 400, r".*invalid_request.*"),
        (None, [("Authorization", "Basic dTpw")], 401, r"Bearer realm=.*"),
    ):
        got = guard.ask(CHECK, token, headers, method)
        assert got.status == status
        assert re.fullmatch(challenge, got.one("www-authenticate") or ""), got.headers
        assert (got.one("cache-control"), got.identity) == ("no-store", [None] * 4)
        assert (got.body == b"") == (method == "HEAD")


@pytest.mark.rule("FA-2")
def test_demands(guard: Guard, issuer: Issuer) -> None:
    """All of `scope`, however it is written; one of `any`; none: any good token of this issuer for this API."""
    reader, both = issuer.token(), issuer.token(scope="orders:read orders:write", jti="b")
    for query in ("scope=orders:read&scope=orders:write", "scope=orders%3Aread+orders:write",
                  "scope=orders:read%20%20orders:write"):  # fmt: skip
        assert [guard.ask(f"/forward-auth?{query}", token).status for token in (reader, both)] == [403, 204]
    for token, status in ((reader, 204), (issuer.token(scope="x", jti="c"), 403)):
        assert guard.ask("/forward-auth?any=orders:read+orders:write", token).status == status
    assert guard.ask("/forward-auth", issuer.token(scope="x", jti="c")).status == 204
    assert guard.ask("/forward-auth", issuer.token(scope=ABSENT, jti="d")).identity[2] == ""
    assert guard.ask("/forward-auth").status == 401


@pytest.mark.rule("FA-3")
@pytest.mark.parametrize(
    "target",
    [
        "/forward-auth?scopes=orders:read",
        "/forward-auth?Scope=orders:read",
        "/forward-auth?scope=",
        "/forward-auth?scope=orders:read&scope=",
        "/forward-auth?scope=+",
        "/forward-auth?any=",
        "/forward-auth?scope",
        "/forward-auth?scope=orders:read&x",
        "/forward-auth?scope=orders:read&",
        "/forward-auth?scope=orders:read&any=orders:read",
        "/forward-auth?scope=orders:read&access_token=x",
        "/forward-auth?scope=%FF",
        "/forward-auth?scope=%22",
        "/forward-auth?scope=orders:read%0Aany",
        "/forward-auth?" + "&".join(["scope=orders:read"] * 40),
        "/forward-auth/",
        "/forward-auth/scope=orders:read/orders",
        "/forward-auth/-/orders",
    ],
)
def test_a_check_that_cannot_be_read_lets_nobody_through(guard: Guard, issuer: Issuer, target: str) -> None:
    """500 with the best of tokens, since a misspelt parameter that is ignored would open the API; the log says why."""
    before = guard.log.stat().st_size
    # A good token; once, since thirty lines a minute are written.
    got = guard.ask(target, issuer.token())
    assert (got.status, got.one("cache-control"), got.identity) == (500, "no-store", [None] * 4)
    assert json.loads(got.body) == {"detail": "The guard is not asked as it must be. Its log says why."}
    wait_until(lambda: guard.log.stat().st_size > before)
    line = guard.told("guard.misasked")[-1]
    assert line["level"] == "error"
    assert line["hint"]


@pytest.mark.rule("FA-3")
@pytest.mark.parametrize(
    "demand", ["?scope=orders:read#admin", "?scope=orders:read&scope=x#y", "#scope=orders:admin", "?#"]
)
def test_a_scope_with_a_hash_is_not_cut_short(guard: Guard, issuer: Issuer, demand: str) -> None:
    """`#` may stand in a scope (RFC 6749 3.3), and has to be %23 in a URL: what is before it alone is no demand."""
    token = issuer.token(scope="orders:read x")
    assert guard.ask(f"/forward-auth{demand}", token).status == 400
    quoted = "/forward-auth?scope=orders:read%23admin"
    assert guard.ask(quoted, token).status == 403
    assert guard.ask(quoted, issuer.token(scope="orders:read#admin", jti="e")).status == 204


def test_nothing_elsewhere(guard: Guard, issuer: Issuer) -> None:
    """No path but the check lets anybody through, a good token or not."""
    for target in (
        "/",
        "/forward_auth?scope=orders:read",
        "/forward-authx",
        "//forward-auth",
        "/%66orward-auth",
        "/%FF",
    ):
        assert guard.ask(target, issuer.token()).status == 404
    assert guard.told("guard.misasked")
    for path in ("/livez", "/readyz", "/metrics"):
        assert guard.ask(path, method="POST").status == 405
        head = guard.ask(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.rule("FA-4")
def test_forwarded_headers_are_not_believed_without_a_dialect(guard: Guard, issuer: Issuer) -> None:
    """A guard that was told of no proxy looks at no header that a caller may have written."""
    said = [(name, "/x?access_token=y") for name in ("X-Original-URI", "X-Forwarded-Uri", "X-Envoy-Original-Path")]
    assert guard.ask(CHECK, issuer.token(), [*said, ("X-Original-Method", "TRACE")]).status == 204
    assert guard.ask(CHECK, None, said).status == 401


@pytest.mark.rule("FA-5")
def test_values_are_safe_in_a_header(guard: Guard, issuer: Issuer) -> None:
    """No client id, subject or scope makes a header line, ends one, or becomes two."""
    odd = 'b\r\nX-Groat-Scopes: root\x00 "\u00e9\u4e16%41,;'
    got = guard.ask("/forward-auth", issuer.token(client_id=odd, sub=" lead", scope="a:b,c"))
    assert got.status == 204
    assert got.identity[:3] == [
        'b%0D%0AX-Groat-Scopes:%20root%00%20"%C3%A9%E4%B8%96%2541,;',
        "%20lead",
        "a:b,c",
    ]


@pytest.mark.rule("RS-DP-13", "RS-DP-01", "RS-DP-12", "RS-MD-06")
def test_bound_tokens(issuer: Issuer, tmp_path: Path) -> None:
    """For the request that the proxy names, below the public URL; without a dialect nobody knows which that is."""
    token = issuer.token(cnf={"jkt": PROOF_KEY.public.thumbprint})
    env = {**environment(issuer.url), "GROAT_PUBLIC_URL": "https://shop.example/api"}

    def sent(url: str, method: str = "GET") -> list[tuple[str, str]]:
        signed = proof(url, time.time(), method=method, ath=token_hash(token))
        original = [("X-Original-Method", "GET"), ("X-Original-URI", "/orders?x=1")]
        return [*original, ("Authorization", f"DPoP {token}"), ("DPoP", signed)]

    right = sent("https://shop.example/api/orders")
    with guarding(tmp_path, env, "--proxy", "nginx") as named:
        document = json.loads(named.ask(METADATA).body)
        assert document["dpop_signing_alg_values_supported"] == sorted(PROOF_ALGORITHMS)
        assert named.ask(CHECK, headers=right).status == 204
        for wrong in (
            right,
            sent("https://shop.example/api/other"),
            sent("https://shop.example/api/orders", "POST"),
            sent(f"{AUD}/orders"),
            [*right[:2], ("Authorization", f"Bearer {token}")],
        ):
            got = named.ask(CHECK, headers=wrong)
            assert got.status == 401
            assert 'DPoP realm="api"' in str(got.one("www-authenticate"))


@pytest.mark.rule("RS-DP-13")
def test_no_bound_tokens_without_a_dialect(guard: Guard, issuer: Issuer) -> None:
    """A header that the caller may have written says nothing."""
    token = issuer.token(cnf={"jkt": PROOF_KEY.public.thumbprint})
    signed = proof(f"{AUD}/orders", time.time(), method="GET", ath=token_hash(token))
    original = [("X-Original-Method", "GET"), ("X-Original-URI", "/orders")]
    headers = [*original, ("Authorization", f"DPoP {token}"), ("DPoP", signed)]
    assert guard.ask(CHECK, headers=headers).status == 401


@pytest.mark.rule("RS-MD-01", "RS-MD-06")
def test_the_metadata(guard: Guard, issuer: Issuer) -> None:
    """At the guard itself, for the path that recipes hand on to it; the scopes are those of the command line."""
    got = guard.ask(METADATA)
    assert json.loads(got.body) == {
        "resource": AUD,
        "authorization_servers": [issuer.url],
        "scopes_supported": ["orders:read", "orders:write"],
        "bearer_methods_supported": ["header"],
    }  # no algorithms of proofs: without a dialect every bound token is refused
    assert got.one("access-control-allow-origin") == "*"
    head = guard.ask(METADATA, method="HEAD")
    assert (head.status, head.body, head.one("content-length")) == (200, b"", str(len(got.body)))
    assert guard.ask(METADATA + "/x").status == 404


def test_metrics(guard: Guard, issuer: Issuer) -> None:
    """Verdicts by result and reason, the keys' age, fetches; and each verdict is counted once."""
    before = guard.metric("groat_verify_total", result="refused", reason="scope") or 0.0
    guard.ask(CHECK, issuer.token(scope="x"))
    guard.ask(CHECK, issuer.token())
    assert guard.metric("groat_verify_total", result="refused", reason="scope") == before + 1
    assert guard.metric("groat_verify_total", result="accepted", reason="")
    assert guard.metric("groat_verify_jwks_refresh_total", result="ok", trigger="first") == 1
    assert 0 <= (guard.metric("groat_verify_jwks_age_seconds") or -1) < 120


@pytest.mark.rule("FA-3")
def test_what_cannot_be_read_is_counted(issuer: Issuer, tmp_path: Path) -> None:
    """By what of it, from zero on; beyond the lines of the log, too. No other kind ever comes."""
    kinds = ("demand", "original", "path", "nowhere")
    with guarding(tmp_path, environment(issuer.url), "--proxy", "nginx") as named:

        def counted() -> list[float | None]:
            return [named.metric("groat_guard_misasked_total", kind=kind) for kind in kinds]

        assert counted() == [0, 0, 0, 0]
        for target in ("/forward-auth?scopes=x", CHECK, "/forward-auth/x", "/elsewhere"):
            named.ask(target)
        assert counted() == [1, 1, 1, 1]
        for _ in range(40):
            named.ask("/elsewhere")
        assert counted() == [1, 1, 1, 41]
        named.ask(CHECK, headers=[("X-Original-Method", "GET"), ("X-Original-URI", "/x")])
        assert counted() == [1, 1, 1, 41]


def test_no_token_in_the_log(guard: Guard, issuer: Issuer) -> None:
    """Also where an operator lets a proxy put one into the URL."""
    token = issuer.token(scope="x")
    guard.ask(CHECK, token)
    guard.ask(f"/forward-auth?scope=orders:read&access_token={token}")
    guard.ask(f"/{token}", token)
    assert "eyJ" not in guard.log.read_text()


def test_a_body_is_not_waited_for(guard: Guard, issuer: Issuer) -> None:
    """A check that announces a body is answered by its head alone, and no upgrade is entered upon."""
    head = f"POST {CHECK} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {issuer.token()}\r\n"
    assert guard.raw(head.encode() + b"Content-Length: 1000000\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    assert guard.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    socket_check = head.replace("POST", "GET").encode() + upgrade + b"Sec-WebSocket-Key: eA==\r\n\r\n"
    assert guard.raw(socket_check).startswith(b"HTTP/1.1 204 ")
    assert guard.raw(socket_check.replace(b"Bearer ", b"Bearer x")).startswith(b"HTTP/1.1 401 ")


def test_bounds_against_strangers(guard: Guard) -> None:
    """A head without end, and what is no HTTP: refused, and the guard goes on."""
    assert guard.raw(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000).startswith(b"HTTP/1.1 400 ")
    assert guard.raw(b"\x16\x03\x01\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    assert guard.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n").startswith(b"HTTP/1.1 400 ")
    assert guard.ask("/livez").status == 200


@pytest.mark.rule("FA-6", "RS-21")
def test_keys_unavailable(tmp_path: Path) -> None:
    """It starts before its issuer, says 503 until the keys are there, and notices by itself when they are."""
    with serving() as issuer:
        issuer.spoil("/.well-known/jwks.json", lambda: (_ for _ in ()).throw(OSError()))  # no answer at all
        token = issuer.token()
        with guarding(tmp_path, environment(issuer.url), event="guard.unready") as guard:
            got = guard.ask(CHECK, token)
            assert (got.status, got.one("www-authenticate"), got.identity) == (503, None, [None] * 4)
            assert int(got.one("retry-after") or 0) >= 1
            assert guard.ask("/readyz").status == 503
            assert guard.ask("/livez").status == 200
            assert guard.metric("groat_verify_jwks_age_seconds") is None
            assert guard.metric("groat_verify_total", result="unavailable", reason="key_unavailable") == 1
            issuer.mend()
            guard.wait_for("guard.ready")
            assert guard.ask("/readyz").status == 200
            assert guard.ask(CHECK, token).status == 204


@pytest.mark.rule("FA-6")
def test_keys_that_were_there_serve_on(tmp_path: Path) -> None:
    """The issuer may go; a token by another key is then 503, not 401."""
    with serving() as issuer, guarding(tmp_path, environment(issuer.url)) as guard:
        other = issuer.token(issuer.rotate())
        token = issuer.token(issuer.keys[0])
        issuer.close()
        assert guard.ask(CHECK, token).status == 204
        assert guard.ask(CHECK, other).status == 503
        assert guard.ask("/readyz").status == 200


def test_the_cache_forgets_with_the_token(tmp_path: Path) -> None:
    """A remembered token is over at its exp, and without a cache each is verified anew."""
    with serving() as issuer, guarding(tmp_path, environment(issuer.url), "--cache", "0") as guard:
        token = issuer.token(exp=int(time.time()) + 2)
        assert guard.ask(CHECK, token).status == 204
        wait_until(lambda: guard.ask(CHECK, token).status == 401, 5)
    with serving() as issuer, guarding(tmp_path, environment(issuer.url), "--cache", "10") as guard:
        token = issuer.token(exp=int(time.time()) + 2)
        assert guard.ask(CHECK, token).status == 204
        wait_until(lambda: guard.ask(CHECK, token).status == 401, 5)
