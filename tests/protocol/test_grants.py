"""What an authenticated client gets: grant, API, scopes."""

import json
from dataclasses import fields, replace

import pytest

from groat.protocol import jose
from groat.protocol.access_token import _constant_claims, access_token_claims, longest_token
from groat.protocol.binding import Confirmation
from groat.protocol.client_settings import ClientSettings, ScopePolicy
from groat.protocol.errors import InvalidScope, InvalidTarget, UnauthorizedClient
from groat.protocol.grants import GRANTS, decide_grant
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import Api, Client, Grant, Permission, Policy, Workload

from .builders import CLIENT_KEY, ISS, KEYS, POLICY, asking, having, proven, refused

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
    """There are two grants, and only one of them proves who asks."""
    assert {name: row.proves for name, row in GRANTS.items()} == {
        "client_credentials": False,
        "urn:ietf:params:oauth:grant-type:jwt-bearer": True,
    }


# --- narrowing, lifetimes, claims

NARROW_ONE = having(ONE, scope_policy=ScopePolicy.NARROW)
NARROW_TWO = having(TWO, scope_policy=ScopePolicy.NARROW)


@pytest.mark.rule("AS-TE-14", "AS-TE-16", "FO-24")
@pytest.mark.parametrize(
    ("client", "scope", "targets", "api", "granted", "narrowed"),
    [
        (NARROW_ONE, "orders:read orders:write shared secret:read nope", (), ORDERS, "orders:read orders:write",
         "shared secret:read nope"),
        (NARROW_ONE, "nope orders:write", (ORDERS.audience,), ORDERS, "orders:write", "nope"),
        (NARROW_ONE, "orders:read", (), ORDERS, "orders:read", ""),
        (NARROW_ONE, None, (), ORDERS, "orders:read", ""),
        (NARROW_TWO, "orders:read stock:read shared", (STOCK.audience,), STOCK, "stock:read shared", "orders:read"),
        (NARROW_TWO, "stock:read secret:read", (), STOCK, "stock:read", "secret:read"),
        (NARROW_ONE, "orders:read orders:read nope nope", (), ORDERS, "orders:read", "nope"),
    ],
)  # fmt: skip
def test_a_request_for_too_much_is_narrowed(
    client: Client, scope: str | None, targets: tuple[str, ...], api: Api, granted: str, narrowed: str
) -> None:
    """To what the client may have at the API, in the order in which it was asked; unknown scopes go with the rest."""
    grant = _decide(client, scope, targets)
    assert (grant.api, grant.scope, grant.narrowed) == (api, granted, narrowed)


@pytest.mark.rule("AS-TE-13", "AS-TE-14", "FO-24")
@pytest.mark.parametrize(
    ("client", "scope", "targets"),
    [
        (NARROW_ONE, "shared nope", ()),
        (NARROW_ONE, "nope", (ORDERS.audience,)),
        (NARROW_ONE, "orders:read  orders:write", ()),
        (NARROW_ONE, 'orders:read a"b', ()),
        (NARROW_TWO, "nope", ()),
        (NARROW_TWO, None, (STOCK.audience,)),
        (having(NONE, scope_policy=ScopePolicy.NARROW), "orders:read", ()),
    ],
)
def test_what_narrowing_leaves_nothing_of_is_refused(
    client: Client, scope: str | None, targets: tuple[str, ...]
) -> None:
    """As is what no scope can be; and nobody gets a default in its place."""
    with refused(InvalidScope, "scope"):
        _decide(client, scope, targets)


@pytest.mark.rule("AS-TE-26", "FO-24")
def test_narrowing_chooses_no_api() -> None:
    """Where several could be meant, the client has to say which, however little is left of the request."""
    with refused(InvalidTarget, "resource"):
        _decide(NARROW_TWO, "orders:read stock:read")


@pytest.mark.rule("AS-TE-14")
def test_what_is_told_of_a_narrowed_request_is_bounded() -> None:
    """A client may ask for a thousand scopes; its log line is of bearable length."""
    grant = _decide(NARROW_ONE, "orders:read " + " ".join(f"s{n}" for n in range(800)))
    assert (grant.scope, len(grant.narrowed)) == ("orders:read", 200)


@pytest.mark.rule("AT-08")
@pytest.mark.parametrize(
    ("of_client", "of_api", "of_policy", "lifetime"),
    [(None, None, 600, 600), (300, None, 600, 300), (None, 120, 600, 120), (300, 120, 600, 120), (60, 120, 600, 60),
     (3600, 3600, 600, 600), (3600, 900, 3600, 900)],
)  # fmt: skip
def test_the_shortest_lifetime_counts(of_client: int | None, of_api: int | None, of_policy: int, lifetime: int) -> None:
    """Of the client, the API and the setting for all."""
    api = replace(ORDERS, token_lifetime=of_api)
    client = having(replace(ONE, permissions=(Permission(api, frozenset({"orders:read"})),)), token_lifetime=of_client)
    grant = decide_grant(asking(None, ()), proven(client), Policy(ISS, token_lifetime=of_policy))
    assert grant.lifetime == lifetime


@pytest.mark.rule("AT-10")
def test_claims_of_a_client() -> None:
    """They stand under their own names, over those for all, and never over what a token is made of."""
    policy = Policy(ISS, extra_claims={"region": "eu", "tenant": "everybody"})
    client = having(ONE, claims={"tenant": "acmé", "https://acme.example/plan": "gold"})
    grant = decide_grant(asking(None, ()), proven(client), policy)
    claims = json.loads(access_token_claims(grant, policy, 100, "j"))
    assert (claims["tenant"], claims["region"], claims["https://acme.example/plan"]) == ("acmé", "eu", "gold")
    # Not to be had by any setting; made by hand to see that it would not help.
    forged = replace(grant, claims={"sub": "admin", "iss": "x", "aud": "x", "client_id": "x", "scope": "x"})
    written = json.loads(access_token_claims(forged, POLICY, 100, "j"))
    assert (written["sub"], written["client_id"], written["scope"], written["iss"]) == (
        "one",
        "one",
        "orders:read",
        ISS,
    )


@pytest.mark.rule("AS-JB-17", "AS-DP-18")
def test_one_off_grants_push_out_nobody() -> None:
    """A new key and a run's id with each request: what is remembered of the client is so still, and is theirs, too."""
    client, request = having(ONE, claims={"tenant": "acme"}), asking(None, ())
    plain = json.loads(access_token_claims(decide_grant(request, proven(client), POLICY), POLICY, 100, "j"))
    before = _constant_claims.cache_info().misses
    for number in range(3000):
        key = Confirmation(jkt=base64url_encode(number.to_bytes(32)).decode())
        workload = Workload("ci", "r-1", "sub", "kid", "ES256", (("run_id", number),))
        grant = decide_grant(request, replace(proven(client), workload=workload), POLICY, key)
        claims = json.loads(access_token_claims(grant, POLICY, 100, "j"))
        assert claims == {**plain, "cnf": {"jkt": key.jkt}, "groat:workload": {"run_id": number}}
    access_token_claims(decide_grant(request, proven(client), POLICY), POLICY, 100, "j")
    assert _constant_claims.cache_info().misses == before


def test_no_claim_stands_twice() -> None:
    """Made by hand: no setting can have these."""
    grant = replace(_decide(ONE), claims={"cnf": 1, "groat:workload": 1}, confirmation=Confirmation(jkt="A" * 43))
    assert access_token_claims(grant, POLICY, 100, "j").count(b'"cnf"') == 1
    assert b"groat:workload" not in access_token_claims(grant, POLICY, 100, "j")


@pytest.mark.rule("AT-14")
def test_the_longest_token_is_foreseen() -> None:
    """The bound is one for every key of ours, and not far off."""
    grant = _decide(ONE)
    size = longest_token(grant, POLICY)
    claims = access_token_claims(grant, POLICY, 2_000_000_000, "j" * 22)
    assert len(jose.sign_jwt(json.loads(claims), KEYS["ES256"], "at+jwt")) < size
    assert len(jose.sign_jwt(json.loads(claims), KEYS["RS256"], "at+jwt")) < size
    assert size < 1300


def test_a_grant_for_one_holder_is_the_same_otherwise() -> None:
    """Every field, also one that is added some day, but for the holder's own and what it was made of."""
    grant = replace(decide_grant(asking(), proven(), POLICY), claims={"tenant": "a"}, narrowed="b", lifetime=7)
    held = grant.held(Confirmation(jkt=CLIENT_KEY.public.thumbprint), (("repository", 1),))
    own = {
        "confirmation": Confirmation(jkt=CLIENT_KEY.public.thumbprint),
        "workload": (("repository", 1),),
        "plain": grant,
    }
    for field in fields(Grant):
        assert getattr(held, field.name) == own.get(field.name, getattr(grant, field.name)), field.name
