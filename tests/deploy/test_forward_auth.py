"""An API that knows nothing of tokens, behind each proxy with its recipe and the guard: all of them real programs.

Traefik is not run; its recipe is read at the end.
"""

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from groat.guard.demand import read_demand
from groat.guard.dialects import CHECK, DIALECTS
from groat.protocol.dpop import token_hash
from tests.proofs import PROOF_KEY, proof
from tests.verifier.issuer import JWKS, Issuer, json_answer, serving
from tests.verifier.tokens import ABSENT, AUD

from .engine import DEPLOY
from .proxies import BIN, STARTERS, Bench, placed, process, start_nginx

METADATA: Final = "/.well-known/oauth-protected-resource"
DIALECT: Final = {"nginx": "nginx", "caddy": "caddy", "haproxy": "nginx", "envoy": "envoy"}
NAMES: Final = ("x-groat-client", "x-groat-subject", "x-groat-scopes", "x-groat-expires")
MADE_UP: Final = {
    **{name.title(): "root" for name in NAMES},
    "X_Groat_Client": "root",
    "X_Groat-Scopes": "root",
    "X-Original-URI": "/?made=up",
    "X-Forwarded-Uri": "/?made=up",
    "X-Forwarded-Method": "TRACE",
}


@dataclass(frozen=True)
class Said:
    """What came back, and what the API saw if the request got there."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def reached(self) -> bool:
        return "X-Reached" in self.headers

    @property
    def seen(self) -> dict[str, Any]:
        assert self.reached, (self.status, self.body)
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Setting:
    """A proxy, its guard, an API and an issuer."""

    proxy: str
    bench: Bench
    issuer: Issuer

    def ask(self, path: str, token: str | None = None, headers: Mapping[str, str] | None = None, **how: Any) -> Said:
        given = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        return Said(*self.bench.request(how.get("method", "GET"), path, given, how.get("body")))

    def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes, over TLS, until the proxy closes or has no more to say."""
        trust = ssl.create_default_context(cafile=str(self.bench.folder / "ca.pem"))
        with socket.create_connection(("localhost", self.bench.public), 10) as plain:
            with trust.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(request)
                connection.settimeout(2.0)
                answer = b""
                try:
                    while chunk := connection.recv(65536):
                        answer += chunk
                        if b"hello" in answer:
                            break
                except (TimeoutError, ssl.SSLError):
                    pass
                return answer


def guard_of(bench: Bench, proxy: str, issuer: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command of the guard for this proxy, and its environment."""
    command = (str(BIN / "groat"), "guard", "serve", "--port", str(bench.guard), "--proxy", DIALECT[proxy])
    return command, bench.env({"GROAT_ISSUER": issuer, "GROAT_AUDIENCE": AUD})


@pytest.fixture(scope="module", params=STARTERS)
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Everything runs; for the tests that leave it so."""
    proxy = request.param
    with placed(tmp_path_factory.mktemp(proxy)) as bench, serving() as issuer, ExitStack() as stack:
        stack.enter_context(_api(bench))
        command, env = guard_of(bench, proxy, issuer.url)
        stack.enter_context(process(bench.folder, bench.guard, command, env))
        STARTERS[proxy](bench, "forward-auth")
        yield Setting(proxy, bench, issuer)


def _api(bench: Bench) -> Any:
    return process(
        bench.folder,
        bench.api,
        (str(BIN / "python"), "-m", "tests.deploy.naive_api", str(bench.api)),
        bench.env({"PYTHONPATH": str(DEPLOY.parent)}),
    )


@pytest.mark.rule("FA-1", "RS-DP-13")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE"])
def test_let_through(setting: Setting, method: str) -> None:
    """The API hears who calls, from the guard; the token does not get there, and method and path do as they came."""
    token = setting.issuer.token(scope="orders:read orders:write", sub="svc")
    said = setting.ask("/orders/a%2Fb?x=1&y=%20", token, {"DPoP": "proof"}, method=method)
    assert (said.status, said.reached) == (200, True)
    if method == "HEAD":
        return
    seen = said.seen
    assert (seen["method"], seen["path"]) == (method, "/orders/a%2Fb?x=1&y=%20")
    assert [seen["headers"].get(name) for name in NAMES[:3]] == ["billing", "svc", "orders:read orders:write"]
    assert int(seen["headers"]["x-groat-expires"]) > 1_700_000_000
    assert not {"authorization", "dpop"} & seen["headers"].keys()


@pytest.mark.rule("FA-1", "FA-5")
def test_made_up_names_are_replaced(setting: Setting) -> None:
    """What the caller writes is gone, also where the guard's value is empty, and with underscores for hyphens."""
    odd = "b\u00e4r\r\nX-Groat-Scopes: root"
    for client_id, client in (
        ("billing", "billing"),
        (odd, "b%C3%A4r%0D%0AX-Groat-Scopes:%20root"),
        ("billing", "billing"),
    ):
        token = setting.issuer.token(client_id=client_id)
        said = setting.ask("/orders", token, MADE_UP)
        assert said.seen["headers"]["x-groat-client"] == client
        assert {value for name, value in said.seen["headers"].items() if "groat" in name} & {"root"} == set()


@pytest.mark.rule("FA-1", "FA-5")
def test_a_caller_cannot_have_the_identity_taken_away(setting: Setting) -> None:
    """Names in Connection are dropped on the way (RFC 9110 7.6.1): an API that hears of nobody may think of somebody."""
    token = setting.issuer.token()
    for listed in (", ".join(NAMES), "close, X-GROAT-CLIENT", "x-groat-scopes,"):
        said = setting.ask("/orders", token, {"Connection": listed})
        if said.reached:
            assert [said.seen["headers"].get(name) for name in NAMES[:3]] == ["billing", "billing", "orders:read"]
        else:
            assert said.status == 400
    for listed in ("authorization", "x-original-uri, x-forwarded-uri"):
        assert setting.ask("/orders", None, {"Connection": listed}).status == 401


@pytest.mark.rule("FA-1", "RS-02", "RS-MD-03", "RS-MD-08")
def test_refused(setting: Setting) -> None:
    """401 and 403 with the guard's challenge; nothing reaches the API, whatever else the caller sends."""
    where = f'resource_metadata="{AUD}{METADATA}"'
    for token, status, challenge in (
        (None, 401, rf'Bearer realm="api", scope="orders:read", {re.escape(where)}'),
        ("nonsense", 401, r'.*error="invalid_token".*'),
        (setting.issuer.token(exp=1), 401, r'.*error="invalid_token".*'),
        (setting.issuer.token(scope="orders:write"), 403, r'.*error="insufficient_scope".*scope="orders:read".*'),
    ):
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            said = setting.ask("/orders", token, MADE_UP, method=method)
            assert (said.status, said.reached) == (status, False)
            assert re.fullmatch(challenge, said.headers["WWW-Authenticate"])


@pytest.mark.rule("RS-DP-13", "RS-DP-12", "RS-DP-01")
def test_bound_tokens(setting: Setting) -> None:
    """The proof is for what the caller asked the proxy, whatever else he says of it; it does not reach the API, and counts once."""
    token = setting.issuer.token(cnf={"jkt": PROOF_KEY.public.thumbprint})

    def ask(url: str, signed_for: str = "GET", **more: str) -> Said:
        signed = proof(url, time.time(), method=signed_for, ath=token_hash(token))
        return setting.ask("/orders?x=1", None, {**more, "Authorization": f"DPoP {token}", "DPoP": signed})

    for more in ({}, MADE_UP):
        said = ask(f"{AUD}/orders", **more)
        assert said.seen["headers"]["x-groat-client"] == "billing"
        assert not {"authorization", "dpop"} & said.seen["headers"].keys()
        for url, method in (
            (f"{AUD}/orders", "POST"),
            (f"{AUD}/orders", "TRACE"),
            (f"{AUD}/other", "GET"),
            (f"{AUD}/", "GET"),
            (f"https://localhost:{setting.bench.public}/orders", "GET"),
            (f"http://127.0.0.1:{setting.bench.guard}/forward-auth", "GET"),
        ):
            said = ask(url, method, **more)
            assert (said.status, said.reached) == (401, False), (url, method)
            assert said.headers["WWW-Authenticate"].startswith('DPoP realm="api", error="invalid_dpop_proof"')
    signed = proof(f"{AUD}/orders", time.time(), method="GET", ath=token_hash(token))
    both = {"Authorization": f"DPoP {token}", "DPoP": signed}
    assert [setting.ask("/orders", None, both).status for _ in range(2)] == [200, 401]
    for bare in ({"Authorization": f"DPoP {token}"}, {"Authorization": f"Bearer {token}", "DPoP": signed}):
        assert setting.ask("/orders", None, bare).status == 401


@pytest.mark.rule("FA-4", "RS-06")
def test_a_token_in_the_query(setting: Setting) -> None:
    """Beside a header it makes the request malformed: 400, and the caller is told; alone it is no credential."""
    token = setting.issuer.token()
    for path in (f"/orders?access_token={token}", "/orders?x=1&access%5Ftoken=y"):
        said = setting.ask(path, token)
        assert (said.status, said.reached) == (400, False)
        assert 'error="invalid_request"' in said.headers["WWW-Authenticate"]
        assert setting.ask(path).status == 401
    assert setting.ask("/orders?xaccess_token=1&scope=x&any=y", token).status == 200


@pytest.mark.rule("RS-MD-01", "RS-MD-06")
def test_the_metadata(setting: Setting) -> None:
    """Anybody reads them at the API's own address; nothing near them is let through, and nothing of the guard's own."""
    said = setting.ask(METADATA)
    assert (said.status, json.loads(said.body)["resource"], said.reached) == (200, AUD, False)
    assert setting.ask(METADATA, method="HEAD").status == 200
    for path in (
        METADATA + "/x",
        METADATA + "x",
        METADATA + "/../../orders",
        "/metrics",
        "/livez",
        "/forward-auth",
        "/.well-known/..%2f..%2fmetrics",
    ):
        said = setting.ask(path)
        assert said.status in (400, 401, 404), path
        assert not said.reached
    assert setting.ask(METADATA + "/%2e%2e/%2e%2e/metrics").status in (400, 401, 404)


@pytest.mark.rule("FA-1")
def test_odd_paths(setting: Setting) -> None:
    """Encodings, doubled slashes, long queries: whoever has no token is 401, and whoever has one gets through."""
    token = setting.issuer.token()
    for path in ("/%6Frders", "/a//b", "/a/./b", "/a/../b", "/%2e%2e/x", "/a;b=c", "/%00x", "/" + "x" * 2000, "/?" + "a=b&" * 500, "/-/x", "/forward-auth/-/x"):  # fmt: skip
        without, with_token = setting.ask(path), setting.ask(path, token)
        assert without.status in (400, 401), path
        assert not without.reached
        assert with_token.status in (200, 400), path


@pytest.mark.rule("FA-1")
def test_big_bodies_and_heads(setting: Setting) -> None:
    """A body goes to the API and not to the guard, which would have to hold it; cookies may be as long as ever."""
    body = "x" * 900_000
    said = setting.ask("/orders", setting.issuer.token(), {"Cookie": "c=" + "x" * 6000}, method="POST", body=body)
    assert (said.status, said.seen["size"], len(said.seen["headers"]["cookie"])) == (200, len(body), 6002)
    assert setting.ask("/orders", None, method="POST", body="x" * 1000).status == 401


@pytest.mark.rule("FA-1")
def test_two_authorization_headers(setting: Setting) -> None:
    """Refused by whoever sees them first."""
    token = setting.issuer.token()
    host = f"localhost:{setting.bench.public}"
    for first, second in ((token, token), (token, "x"), ("x", token)):
        head = f"GET /orders HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {first}\r\nAuthorization: Bearer {second}\r\n\r\n"
        answer = setting.raw(head.encode())
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ")), answer[:200]
        assert b"X-Reached" not in answer


def test_websockets(setting: Setting) -> None:
    """A handshake is checked as any request, and the connection is the API's from then on."""
    host = f"localhost:{setting.bench.public}"
    head = f"GET /feed HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    good = setting.raw(f"{head}Authorization: Bearer {setting.issuer.token()}\r\n\r\nhello".encode())
    assert good.startswith(b"HTTP/1.1 101 ")
    assert b"x-reached: billing" in good.lower()
    assert good.endswith(b"hello")
    assert setting.raw(f"{head}\r\n".encode()).startswith(b"HTTP/1.1 401 ")


def test_a_failing_api_is_not_taken_for_a_failing_guard(setting: Setting) -> None:
    """Its own 500 reaches the caller."""
    said = setting.ask("/broken", setting.issuer.token())
    assert (said.status, said.reached) == (500, True)


@pytest.mark.rule("FA-3")
@pytest.mark.parametrize(("written", "reader", "both"), [
    ("if ($arg_never) { set $groat_scope orders:read; }", 503, 503),
    ("set $groat_scope orders:read+orders:write;", 403, 200),
])  # fmt: skip
def test_a_location_says_what_it_needs(tmp_path: Path, written: str, reader: int, both: int) -> None:
    """nginx: another location may need another scope; one that forgot to say lets nobody through."""
    with placed(tmp_path) as bench, serving() as issuer, _api(bench):
        command, env = guard_of(bench, "nginx", issuer.url)
        with process(bench.folder, bench.guard, command, env):
            start_nginx(bench, "forward-auth", {"set $groat_scope orders:read;": written})
            setting = Setting("nginx", bench, issuer)
            assert setting.ask("/orders", issuer.token()).status == reader
            assert setting.ask("/orders", issuer.token(scope="orders:read orders:write")).status == both


@pytest.mark.parametrize("proxy", STARTERS)
def test_an_api_that_is_down(proxy: str, tmp_path: Path) -> None:
    """Whoever may pass meets the proxy's own 502 or 503, and whoever may not is told so first."""
    with placed(tmp_path) as bench, serving() as issuer:
        command, env = guard_of(bench, proxy, issuer.url)
        with process(bench.folder, bench.guard, command, env):
            STARTERS[proxy](bench, "forward-auth")
            setting = Setting(proxy, bench, issuer)
            expected = 502 if proxy in ("nginx", "caddy") else 503
            assert setting.ask("/orders", issuer.token()).status == expected
            assert setting.ask("/orders").status == 401


@pytest.mark.rule("FA-6", "RS-21")
@pytest.mark.parametrize("proxy", STARTERS)
def test_no_keys_and_no_guard(proxy: str, tmp_path: Path) -> None:
    """503, and nothing gets through, while the guard has no keys, once it is gone, and while it is not asked rightly."""
    with placed(tmp_path) as bench, serving() as issuer, _api(bench):
        issuer.spoil(JWKS, json_answer({"keys": []}))
        setting, token = Setting(proxy, bench, issuer), issuer.token(scope=ABSENT)
        command, env = guard_of(bench, proxy, issuer.url)
        with process(bench.folder, bench.guard, command, env):
            STARTERS[proxy](bench, "forward-auth")
            issuer.close()
            said = setting.ask("/orders", token)
            assert (said.status, said.reached) == (503, False)
        for given in (token, None):
            said = setting.ask("/orders", given, MADE_UP)
            assert (said.status, said.reached) == (503, False)
            if proxy != "envoy":
                assert int(said.headers["Retry-After"]) >= 1
        other = (*command[:-1], "traefik")  # whose headers this proxy does not send, or not in this place
        if proxy != "caddy":  # the same dialect
            with process(bench.folder, bench.guard, other, env):
                said = setting.ask("/orders", token)
                assert (said.status, said.reached) == (503, False)


@pytest.mark.rule("FA-4")
def test_the_recipe_for_traefik() -> None:
    """It is the configuration that Traefik's reference describes, and asks in a form that the guard reads."""
    http = yaml.safe_load((DEPLOY / "traefik" / "forward-auth.yaml").read_text())["http"]
    assert http.keys() == {"routers", "middlewares", "services"}
    for router in http["routers"].values():
        assert router.keys() <= {"rule", "entryPoints", "middlewares", "service", "tls"}
        assert router["service"] in http["services"]
        assert set(router.get("middlewares", ())) <= http["middlewares"].keys()
    asked = http["middlewares"]["groat-guard"]["forwardAuth"]
    path, _, demand = asked["address"].removeprefix("http://127.0.0.1:3003").partition("?")
    assert (path.encode(), read_demand(demand.encode())) == (CHECK, ("orders:read",))
    assert [name.lower() for name in asked["authResponseHeaders"]] == list(NAMES)
    assert asked["trustForwardHeader"] is False
    assert "traefik" in DIALECTS
    order = http["routers"]["orders"]["middlewares"]
    assert order == ["groat-made-up", "groat-guard", "groat-no-token"]
    gone = http["middlewares"]["groat-no-token"]["headers"]["customRequestHeaders"]
    assert gone == {"Authorization": "", "DPoP": ""}
