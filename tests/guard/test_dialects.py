"""`--proxy`: whose headers name the caller's request."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from groat.cli.commands.guard import PROXIES as OFFERED
from groat.guard.demand import Misasked, read_demand
from groat.guard.dialects import CHECK, DIALECTS, PROXIES
from groat.verifier import any_of
from tests.guard.running import Guard, Headers, environment, guarding
from tests.verifier.issuer import Issuer, serving

HEADERS = {
    "nginx": ("X-Original-Method", "X-Original-URI"),
    "caddy": ("X-Forwarded-Method", "X-Forwarded-Uri"),
    "traefik": ("X-Forwarded-Method", "X-Forwarded-Uri"),
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


def test_the_command_offers_every_dialect() -> None:
    """It names them itself, so that no other command pays for loading what reads them."""
    assert OFFERED == PROXIES


@pytest.fixture(scope="module", params=PROXIES)
def guard(request: pytest.FixtureRequest, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    folder = tmp_path_factory.mktemp(request.param)
    with guarding(folder, environment(issuer.url), "--proxy", request.param) as running:
        yield running


def proxy_of(guard: Guard) -> str:
    return str(guard.told("guard.started")[0]["proxy"])


def passes_of(guard: Guard) -> int:
    """What this proxy takes for a yes: Envoy 200 alone."""
    return 200 if proxy_of(guard) == "envoy" else 204


def asked(guard: Guard, target: str, demand: str = "scope=orders:read") -> tuple[str, Headers]:
    """How the proxy of this guard asks about a caller's GET of this target."""
    proxy = proxy_of(guard)
    if proxy == "envoy":
        return f"/forward-auth/{demand}{target}", ()
    method, uri = HEADERS[proxy]
    return f"/forward-auth?{demand}", [(method, "GET"), (uri, target)]


@pytest.mark.rule("FA-4", "RS-06")
def test_the_query_of_the_caller(guard: Guard, issuer: Issuer) -> None:
    """A token in it is no credential, and beside a header the request is malformed; another query does no harm."""
    token = issuer.token()
    passes = passes_of(guard)
    for target, with_header, without in (
        ("/orders", passes, 401),
        ("/orders?x=1&scopes=2&any=3", passes, 401),
        (f"/orders?access_token={token}", 400, 401),
        (f"/orders?x=1&access%5Ftoken={token}", 400, 401),
        ("/a%2Fb%3Faccess_token=x/..;/%2e%2e?y", passes, 401),
    ):
        check, headers = asked(guard, target)
        got = guard.ask(check, token, headers)
        assert (got.status, got.body) == (with_header, b"" if with_header == passes else got.body)
        assert guard.ask(check, None, headers).status == without


@pytest.mark.rule("FA-3")
def test_a_proxy_that_does_not_name_it(guard: Guard, issuer: Issuer) -> None:
    """Nobody passes: a guard that went on would look at less than the operator wished."""
    token = issuer.token()
    check, headers = asked(guard, "/orders")
    wrong: list[tuple[str, Headers]] = [("/forward-auth?scope=orders:read", ())]
    if headers:
        wrong += [
            (check, headers[:1]),
            (check, headers[1:]),
            (check, [*headers, headers[1]]),
            (check, [headers[0], ("X-Original-URI", ""), ("X-Forwarded-Uri", "")]),
        ]
        wrong += [("/forward-auth/scope=orders:read/orders", headers), ("/forward-auth?scopes=orders:read", headers)]
    else:
        wrong += [
            (f"/forward-auth/{rest}", ())
            for rest in (
                "",
                "orders",
                "orders/7",
                "scopes=orders:read/x",
                "scope=/x",
                "scope=orders:read",
                "any=orders:read*",
                "-*",
                "/x",
            )
        ]
    assert {guard.ask(target, token, sent).status for target, sent in wrong} == {500}


def test_any_good_token(guard: Guard, issuer: Issuer) -> None:
    """What the operator must say in so many words with Envoy, and by leaving the demand out elsewhere."""
    check, headers = (
        asked(guard, "/orders?scope=nothing", "-") if proxy_of(guard) == "envoy" else asked(guard, "/orders", "")
    )
    assert guard.ask(check, issuer.token(scope="x"), headers).status == passes_of(guard)
    assert guard.ask(check, None, headers).status == 401


def test_the_callers_path_cannot_weaken_envoys_demand() -> None:
    """Whatever follows the prefix, the demand is the operator's or nobody passes."""
    read = DIALECTS["envoy"]
    for path in (b"/", b"//", b"/x", b"/scope=x/y", b"/-/", b"/../-/x", b"/%2f..", b"/&any=b", b"/?any=b"):
        raw, _, query = path.partition(b"?")
        check = read({"raw_path": CHECK + b"/any=a+b" + raw, "query_string": query, "method": "PUT"})
        assert (check.demand, check.method, check.target) == (any_of("a", "b"), "PUT", path)
    for path in (b"", b"*", b"+c", b"&any=c"):
        with pytest.raises(Misasked):
            read({"raw_path": CHECK + b"/any=a+b" + path, "query_string": b"", "method": "GET"})


def test_demands_are_remembered_in_bounds(tmp_path: Path) -> None:
    for number in range(1000):
        read_demand(b"scope=s%d" % number)
    assert read_demand.cache_info().currsize <= 64
    assert read_demand(b"scope=a+b&scope=a") == ("a", "b")
