"""What an operator says of one client or API, in the tokens that it then gets: lifetimes, claims, narrowed scopes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from groat.protocol.client_settings import ScopePolicy, SettingsChange
from groat.protocol.errors import ConfigError
from groat.protocol.pairs import Amendment
from groat.server import operations
from tests.server.builders import NOW, ORDERS, STOCK, decoded
from tests.server.lab import DEFAULTS, Lab
from tests.server.wire import check_ok, check_refused

EVERY = {"orders": ["orders:read", "orders:write"], "stock": ["stock:read"]}


def _update(lab: Lab, client_id: str, **settings: Any) -> None:
    lab.operate(lambda op: operations.update_client(op, client_id, change=SettingsChange(**settings)))


@pytest.mark.rule("AT-08", "AS-TE-17")
def test_lifetimes_of_clients_and_apis(fresh_lab: Callable[..., Lab]) -> None:
    """The shortest one is in the answer and in the token, from the next request on."""
    lab = fresh_lab()
    party = lab.add_client("short", token_lifetime=300)
    for of_client, of_api, lifetime in [
        (300, None, 300), (300, 120, 120), (None, 120, 120), (60, 3600, 60), (3600, None, 600),
    ]:  # fmt: skip
        _update(lab, "short", token_lifetime=of_client)
        wish = operations.ApiWish(token_lifetime=of_api)
        lab.operate(partial(operations.update_api, name="orders", wish=wish))
        answer = check_ok(lab.ask(party.assertion()))
        claims = decoded(answer["access_token"])[1]
        assert (answer["expires_in"], claims["exp"] - claims["iat"], claims["iat"]) == (lifetime, lifetime, NOW)
    assert check_ok(lab.ask())["expires_in"] == 600


@pytest.mark.rule("AT-10", "AS-CA-24")
def test_claims_of_a_client(fresh_lab: Callable[..., Lab]) -> None:
    """In each of its tokens and in nobody else's; changed and taken away with effect on the next one."""
    lab = fresh_lab(f'[tokens]\nextra_claims = {{ region = "eu" }}\n{DEFAULTS}')
    party = lab.add_client("tenanted", claims={"tenant": "acme", "https://acme.example/plan": "gold"})
    claims = decoded(lab.token(party.assertion()))[1]
    assert (claims["tenant"], claims["https://acme.example/plan"], claims["region"]) == ("acme", "gold", "eu")
    assert claims["sub"] == claims["client_id"] == "tenanted"
    assert "tenant" not in decoded(lab.token())[1]
    _update(lab, "tenanted", claims=Amendment(tenant="other"))
    _update(lab, "tenanted", claims=Amendment({"https://acme.example/plan": ""}))
    claims = decoded(lab.token(party.assertion()))[1]
    assert (claims["tenant"], "https://acme.example/plan" in claims) == ("other", False)
    _update(lab, "tenanted", claims={})
    assert "tenant" not in decoded(lab.token(party.assertion()))[1]


@pytest.mark.rule("AT-10", "AT-14")
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"sub": "x"}, "claim sub is written by groat itself"),
        ({"roles": "admin"}, "claim roles is a registered claim"),
        ({"authorization_details": "[]"}, "claim authorization_details is a registered claim"),
        ({"act": "x"}, "claim act is written by groat itself"),
        ({"email": "a@example.com"}, "claim email is a registered claim"),
        ({"groat:workload": "x"}, "claim groat:workload begins with groat:"),
        ({"Scope": "admin"}, "claim Scope is a registered claim"),
        ({"ROLES": "admin"}, "claim ROLES is a registered claim"),
        ({"Groat:workload": "x"}, "claim Groat:workload begins with groat:"),
        ({"ſub": "x"}, "printable ASCII"),
        ({"region": "us"}, "claim region is in every token already, by tokens.extra_claims"),
        ({"a": "x" * 600, "b": "x" * 600}, "1024 bytes of JSON together"),
    ],
)
def test_claims_that_nobody_may_set(fresh_lab: Callable[..., Lab], claims: dict[str, str], said: str) -> None:
    """Refused when they are set, at the registration and later; the client goes on as it was."""
    lab = fresh_lab(f'[tokens]\nextra_claims = {{ region = "eu" }}\n{DEFAULTS}')
    with pytest.raises(ConfigError, match=said):
        lab.add_client("newcomer", claims=claims)
    with pytest.raises(ConfigError, match=said):
        _update(lab, "billing", claims=Amendment(claims))
    assert decoded(lab.token())[1].keys() >= {"region", "sub"}


@pytest.mark.rule("AT-14")
def test_a_token_keeps_its_size(fresh_lab: Callable[..., Lab]) -> None:
    """Claims of both kinds fit together in any ordinary token; where they would leave no room for one, they are refused."""
    lab = fresh_lab(f'[tokens]\nextra_claims = {{ x = "{"x" * 1010}" }}\n{DEFAULTS}')
    full = lab.add_client("full", claims={"y": "y" * 1010})
    assert len(lab.token(full.assertion())) < 4096
    party, audience = lab.add_client("wordy", claims={"y": "y" * 600}), f"https://long.example/{'x' * 100}"
    long = tuple(f"{n:02}{'s' * 126}" for n in range(8))
    lab.operate(lambda op: operations.add_api(op, "long", audience, long))
    with pytest.raises(ConfigError, match=r"claim y is too long: a token of wordy for long would have \d+ characters"):
        lab.operate(
            lambda op: operations.update_client(op, "wordy", {"long": long}, SettingsChange(default_scopes=long))
        )
    lab.operate(lambda op: operations.update_client(op, "wordy", {"long": long}))
    assert len(lab.token(party.assertion(), resource=audience, scope=long[0])) <= 4096


@pytest.mark.rule("AT-10")
def test_what_a_client_has_is_not_judged_anew(fresh_lab: Callable[..., Lab]) -> None:
    """A claim for all that came later takes nothing from a client that has its own, and no change of another kind fails."""
    lab = fresh_lab()
    party = lab.add_client("early", claims={"region": "us"})
    later = lab.directory / "later"
    later.mkdir()
    reloaded = type(lab.config.policy)(lab.config.policy.issuer, extra_claims={"region": "eu"})

    async def work(op: Any) -> None:
        judge = operations.Operator(op.store, reloaded, op.audit, op.clock)
        await operations.update_client(judge, "early", change=SettingsChange(owner="Accounts"))
        with pytest.raises(ConfigError, match="claim region is in every token already"):
            await operations.update_client(judge, "early", change=SettingsChange(claims=Amendment(region="ap")))

    lab.operate(work)
    assert decoded(lab.token(party.assertion()))[1]["region"] == "us"


@pytest.mark.rule("FO-24", "AS-TE-16", "CL-11")
def test_a_client_that_asks_for_everything(fresh_lab: Callable[..., Lab]) -> None:
    """As the MCP SDKs do: every scope that the metadata list. Narrowed it gets its own, told in the answer; else nothing."""
    lab = fresh_lab()
    everything = " ".join(lab.get("/.well-known/oauth-authorization-server").json["scopes_supported"])
    party = lab.add_client("mcp", allow={"orders": ["orders:read"]})
    refused = lab.ask(party.assertion(), scope=everything, resource=ORDERS)
    check_refused(refused, "invalid_scope")
    _update(lab, "mcp", scope_policy=ScopePolicy.NARROW)
    answer = lab.ask(party.assertion(), scope=everything, resource=ORDERS)
    assert check_ok(answer)["scope"] == decoded(check_ok(answer)["access_token"])[1]["scope"] == "orders:read"
    event = lab.event(answer)
    assert (event["scope"], event["narrowed"]) == ("orders:read", "orders:write stock:read")
    assert "narrowed" not in lab.event(lab.ask(party.assertion(), scope="orders:read"))
    check_refused(lab.ask(party.assertion(), scope="stock:read", resource=ORDERS), "invalid_scope")
    check_refused(lab.ask(party.assertion(), scope="orders:read  x", resource=ORDERS), "invalid_scope")
    check_refused(lab.ask(party.assertion(), scope=everything, resource=STOCK), "invalid_target")


@pytest.mark.rule("AS-CA-24", "F14")
def test_two_operators_at_once(fresh_lab: Callable[..., Lab]) -> None:
    """Each sets a claim of its own, and neither loses the other's: whoever comes second decides anew."""
    lab = fresh_lab()

    async def work(op: operations.Operator) -> None:
        for turn in range(10):
            await _both(op, turn)

    async def _both(op: operations.Operator, turn: int) -> None:
        plan = await operations.plan_client_update(op, "billing", change=SettingsChange(claims=Amendment(a=f"{turn}")))
        await operations.update_client(op, "billing", change=SettingsChange(claims=Amendment(b=f"{turn}")))
        await operations.update_client(op, "billing", change=SettingsChange(claims=Amendment(a=f"{turn}")))
        assert plan.seen < await op.store.registry_version()

    lab.operate(work)
    claims = decoded(lab.token())[1]
    assert (claims["a"], claims["b"]) == ("9", "9")
