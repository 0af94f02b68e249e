"""What an authenticated client gets: grant, API, scopes."""

import pytest

from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import InvalidScope, InvalidTarget, UnauthorizedClient
from groat.protocol.grants import GRANTS, decide_grant
from groat.protocol.models import Api, Client, Grant, Permission, Policy

from .builders import CLIENT_KEY, ISS, POLICY, asking, having, proven, refused

ORDERS = Api("orders", "https://orders.example", frozenset({"orders:read", "orders:write", "shared"}))
STOCK = Api("stock", "https://stock.example/v1", frozenset({"stock:read", "shared"}))
SECRET = Api("secret", "https://secret.example", frozenset({"secret:read"}))
ONE = Client(
    "one",
    (CLIENT_KEY.public,),
    (Permission(ORDERS, frozenset({"orders:read", "orders:write"})),),
    settings=ClientSettings(default_scopes=("orders:read",)),
)
TWO = Client(
    "two",
    (CLIENT_KEY.public,),
    (
        Permission(ORDERS, frozenset({"orders:read", "shared"})),
        Permission(STOCK, frozenset({"stock:read", "shared"})),
    ),
)
NONE = Client("none", (CLIENT_KEY.public,))


def _decide(client: Client, scope: str | None = None, targets: tuple[str, ...] = ()) -> Grant:
    return decide_grant(asking(scope, targets), proven(client), POLICY)


@pytest.mark.rule("AS-TE-08")
@pytest.mark.parametrize("grants", [frozenset(), frozenset({"password"})])
def test_a_grant_must_be_permitted(grants: frozenset[str]) -> None:
    """A supported grant that this client may not use is unauthorized_client, before scope and target are read."""
    client = having(ONE, grant_types=grants)
    with refused(UnauthorizedClient, "grant_type"):
        _decide(client, 'a"b', ("/x", "/y"))


@pytest.mark.rule("AS-TE-14", "AS-TE-25", "A21")
@pytest.mark.parametrize(
    ("client", "scope", "targets", "api", "scopes"),
    [
        (ONE, "orders:read", (), ORDERS, "orders:read"),
        (ONE, "orders:write orders:read", (), ORDERS, "orders:write orders:read"),
        (ONE, "orders:read orders:read", (), ORDERS, "orders:read"),
        (ONE, "orders:read", (ORDERS.audience,), ORDERS, "orders:read"),
        (ONE, None, (), ORDERS, "orders:read"),
        (ONE, None, (ORDERS.audience,), ORDERS, "orders:read"),
        (TWO, "orders:read", (), ORDERS, "orders:read"),
        (TWO, "stock:read", (), STOCK, "stock:read"),
        (TWO, "stock:read shared", (), STOCK, "stock:read shared"),
        (TWO, "shared", (STOCK.audience,), STOCK, "shared"),
        (having(TWO, default_scopes=("stock:read",)), None, (), STOCK, "stock:read"),
        (having(TWO, default_scopes=("stock:read", "orders:read")), None, (STOCK.audience,), STOCK, "stock:read"),
    ],
)
def test_what_is_granted(client: Client, scope: str | None, targets: tuple[str, ...], api: Api, scopes: str) -> None:
    """One API and the scopes that were asked, or the defaults of that API."""
    grant = _decide(client, scope, targets)
    assert (grant.client_id, grant.api, grant.scope) == (client.client_id, api, scopes)
    assert grant.scopes == tuple(scopes.split(" "))
    assert grant.lifetime == POLICY.token_lifetime


@pytest.mark.rule("AS-TE-13", "AS-TE-14", "AS-TE-15", "AS-TE-26", "A21")
@pytest.mark.parametrize(
    ("client", "scope", "targets"),
    [
        pytest.param(ONE, "nope", (), id="unknown"),
        pytest.param(ONE, "shared", (), id="known to the API, not granted"),
        pytest.param(ONE, "orders:read nope", (), id="allowed and unknown"),
        pytest.param(ONE, "orders:read shared", (), id="allowed and not granted"),
        pytest.param(ONE, "ORDERS:READ", (), id="another case"),
        pytest.param(ONE, "orders", (), id="a prefix"),
        pytest.param(ONE, "orders:*", (), id="a wildcard"),
        pytest.param(ONE, "orders:read  orders:write", (), id="two spaces"),
        pytest.param(ONE, " ", (), id="a space"),
        pytest.param(ONE, 'orders:read"', (), id="a quote"),
        pytest.param(ONE, "x " * 5000, (), id="ten thousand characters"),
        pytest.param(ONE, "stock:read", (ORDERS.audience,), id="another API's scope"),
        pytest.param(TWO, "stock:read", (ORDERS.audience,), id="the client's scope at its other API"),
        pytest.param(TWO, "stock:read orders:read", (), id="scopes of two APIs"),
        pytest.param(TWO, "stock:read orders:read", (STOCK.audience,), id="scopes of two APIs, one named"),
        pytest.param(TWO, "secret:read", (), id="an API of others"),
        pytest.param(having(ONE, default_scopes=()), None, (), id="no default"),
        pytest.param(having(ONE, default_scopes=("gone",)), None, (), id="a default that is not granted"),
        pytest.param(TWO, None, (STOCK.audience,), id="no default for the named API"),
        pytest.param(NONE, "orders:read", (), id="a client without any permission"),
    ],
)
def test_a_scope_is_granted_or_refused_whole(client: Client, scope: str | None, targets: tuple[str, ...]) -> None:
    """Nothing is narrowed silently, and nothing is guessed."""
    with refused(InvalidScope, "scope"):
        _decide(client, scope, targets)


@pytest.mark.rule("AS-TE-25", "AS-TE-26", "A21")
@pytest.mark.parametrize(
    ("client", "scope", "targets"),
    [
        pytest.param(ONE, "orders:read", ("/x",), id="relative"),
        pytest.param(ONE, "orders:read", ("orders",), id="a name"),
        pytest.param(ONE, "orders:read", ("//orders.example",), id="no scheme"),
        pytest.param(ONE, "orders:read", ("https://",), id="no host"),
        pytest.param(ONE, "orders:read", ("https://[",), id="no URI"),
        pytest.param(ONE, "orders:read", (f"{ORDERS.audience}#f",), id="a fragment"),
        pytest.param(ONE, "orders:read", (f"{ORDERS.audience}#",), id="an empty fragment"),
        pytest.param(ONE, "orders:read", (f"{ORDERS.audience}/",), id="a slash more"),
        pytest.param(ONE, "orders:read", ("https://ORDERS.example",), id="another case"),
        pytest.param(ONE, "orders:read", ("https://unknown.example",), id="unknown"),
        pytest.param(ONE, "secret:read", (SECRET.audience,), id="not permitted"),
        pytest.param(ONE, 'a"b', (SECRET.audience,), id="the target is judged before the scope"),
        pytest.param(TWO, "shared", (ORDERS.audience, STOCK.audience), id="two resources"),
        pytest.param(TWO, "orders:read", (ORDERS.audience, "https://unknown.example"), id="known and unknown"),
        pytest.param(TWO, "shared", (), id="a scope of two APIs, none named"),
        pytest.param(TWO, None, (), id="two APIs, nothing named"),
        pytest.param(ONE, "orders:read", (ISS,), id="the issuer"),
    ],
)
def test_a_target_is_known_and_permitted(client: Client, scope: str | None, targets: tuple[str, ...]) -> None:
    """One absolute URI without fragment, equal to the identifier of an API that the client may use."""
    with refused(InvalidTarget, "resource"):
        _decide(client, scope, targets)


@pytest.mark.rule("AS-TE-22")
def test_refusals_keep_to_the_log() -> None:
    """What was asked may stand in the hint, cut short; never in the description."""
    with pytest.raises(InvalidScope) as caught:
        _decide(ONE, "nope" * 900)
    assert "nope" not in caught.value.description
    assert len(caught.value.hint) < 400


@pytest.mark.rule("AT-08", "AS-TE-17")
def test_the_lifetime_is_the_policy_s() -> None:
    """A grant lasts as long as the policy says."""
    assert decide_grant(asking(), proven(ONE), Policy(ISS, token_lifetime=60)).lifetime == 60


@pytest.mark.rule("AS-TE-07", "AS-MD-06")
def test_the_table_of_grants() -> None:
    """There is one grant."""
    assert list(GRANTS) == ["client_credentials"]
