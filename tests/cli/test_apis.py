"""`groat api`: the protected resources, their audiences and scopes."""

import json
from typing import Any

import pytest

from groat.protocol.resource_metadata import resource_metadata_url
from groat.verifier import Verifier
from groat.verifier.protected_resource import ProtectedResource

from .running import AUDIENCE, ISSUER, Home

STOCK = "https://stock.example.com"


def test_an_api_from_its_cradle_to_its_grave(home: Home) -> None:
    """Add, show, list, update, remove; each answer is the record as it is then."""
    added = home.ok("--json", "api", "add", "stock", "--audience", STOCK, "--scope", "a", "--scope", "b").json
    assert added | {"created_at": 0} == {"name": "stock", "audience": STOCK, "scopes": ["a", "b"], "created_at": 0} | {
        "token_lifetime": None,
        "binding": "none",
        "status": "none",
    }
    assert home.ok("--json", "api", "show", "stock").json == added
    assert [api["name"] for api in home.ok("--json", "api", "list").json] == ["groat-admin", "orders", "stock"]
    changed = home.ok(
        "--json", "api", "update", "stock", "--audience", f"{STOCK}/v2", "--scope", "c", "--remove-scope", "a"
    ).json
    assert changed == added | {"audience": f"{STOCK}/v2", "scopes": ["b", "c"]}
    assert home.ok("--json", "--yes", "api", "remove", "stock").json == {"name": "stock", "outcome": "removed"}
    assert home.ok("-q", "api", "list").out == "groat-admin\norders\n"


def test_a_scope_is_kept_once(home: Home) -> None:
    """However often it is named."""
    home.ok("api", "update", "orders", "--scope", "orders:read", "--scope", "x", "--scope", "x")
    assert home.ok("--json", "api", "show", "orders").json["scopes"] == ["orders:read", "orders:write", "x"]


@pytest.mark.rule("AS-TE-25")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("orders", "--audience", STOCK), "exists"),
        (("stock", "--audience", AUDIENCE), "exists"),
        (("a b", "--audience", STOCK), "API name 'a b' must be"),
        (("", "--audience", STOCK), "API name '' must be"),
        (("-", "--audience", STOCK), "API name '-' must be"),
        (("stock", "--audience", "stock"), "absolute URI"),
        (("stock", "--audience", ""), "absolute URI"),
        (("stock", "--audience", f"{STOCK}#x"), "absolute URI without fragment"),
        (("stock", "--audience", "https://[::1"), "not a URI"),
        (("stock", "--audience", f"{STOCK}/a b"), "no spaces"),
        (("stock", "--audience", ISSUER), "not this authorization server"),
        (("stock", "--audience", f"{ISSUER}/"), "not this authorization server"),
        (("stock", "--audience", f"{ISSUER}/token"), "not this authorization server"),
        (("stock", "--audience", STOCK, "--scope", "a b"), "scope 'a b' must be"),
        (("stock", "--audience", "https://a.example/" + "x" * 496), "at most 512 characters"),
        (("stock", "--audience", STOCK, "--scope", ""), "scope '' must be"),
        (("stock", "--audience", STOCK, "--scope", 'a"'), "must be 1 to 128 printable ASCII"),
        (("stock", "--audience", STOCK, "--scope", "x" * 129), "must be 1 to 128 printable ASCII"),
    ],
)
def test_what_cannot_be_an_api_is_refused(home: Home, arguments: tuple[str, ...], said: str) -> None:
    """One line with the reason, exit code 3, nothing registered."""
    done = home("api", "add", *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
    assert said in done.err
    assert home.ok("-q", "api", "list").out == "groat-admin\norders\n"


def test_a_urn_may_be_an_audience(home: Home) -> None:
    """Any absolute URI names a resource (RFC 8707 2)."""
    assert home.ok("--json", "api", "add", "urn", "--audience", "urn:example:stock").json["scopes"] == []


@pytest.mark.parametrize("command", [("show", "none"), ("update", "none"), ("remove", "none")])
def test_an_api_that_is_not_registered_is_named(home: Home, command: tuple[str, ...]) -> None:
    """One line that says where to look."""
    done = home("--yes", "api", *command)
    assert (done.code, done.out) == (3, "")
    assert "no API none. See: groat api list" in done.err


@pytest.mark.rule("AS-TE-25")
def test_an_update_cannot_take_anothers_audience(home: Home) -> None:
    """Two APIs with one audience would accept each other's tokens."""
    home.ok("api", "add", "stock", "--audience", STOCK)
    for audience, said in ((AUDIENCE, "exists"), (ISSUER, "not this authorization server")):
        done = home("api", "update", "stock", "--audience", audience)
        assert (done.code, said in done.err) == (3, True)
    assert home.ok("--json", "api", "show", "stock").json["audience"] == STOCK


@pytest.mark.rule("AS-CA-21")
def test_a_new_api_of_an_old_name_inherits_no_grant(home: Home) -> None:
    """What clients were allowed of the removed one does not come back to life with another resource."""
    home.ok("--yes", "api", "remove", "orders")
    home.ok("api", "add", "orders", "--audience", "https://payroll.example.com", "--scope", "orders:read")
    allow: Any = home.ok("--json", "client", "show", "billing").json["allow"]
    assert allow == {}


@pytest.mark.rule("AS-CA-21")
def test_a_scope_that_comes_back_is_granted_to_nobody(home: Home) -> None:
    """Taking a scope away takes it from the clients too."""
    home.ok("--yes", "api", "update", "orders", "--remove-scope", "orders:read")
    home.ok("api", "update", "orders", "--scope", "orders:read")
    allow: Any = home.ok("--json", "client", "show", "billing").json["allow"]
    assert "orders:read" not in allow.get("orders", [])


@pytest.mark.rule("AS-TE-26")
def test_a_scope_that_goes_is_no_default_either(home: Home) -> None:
    """Otherwise the client could not be changed any more: its default would not be among its grants."""
    home.ok("client", "update", "billing", "--default-scope", "orders:read")
    home.ok("--yes", "api", "update", "orders", "--remove-scope", "orders:read")
    changed: Any = home.ok("--json", "client", "update", "billing", "--strict-typ").json
    assert changed["default_scopes"] == []


@pytest.mark.rule("AS-TE-26")
def test_an_api_that_goes_takes_its_default_scopes(home: Home) -> None:
    """The same for a whole API."""
    home.ok("client", "update", "billing", "--default-scope", "orders:read")
    home.ok("--yes", "api", "remove", "orders")
    changed: Any = home.ok("--json", "client", "update", "billing", "--strict-typ").json
    assert (changed["allow"], changed["default_scopes"]) == ({}, [])


def test_a_scope_that_the_api_has_not_cannot_be_removed(home: Home) -> None:
    """A slip of the finger must not look like success."""
    done = home("api", "update", "orders", "--remove-scope", "orders:raed")
    assert (done.code, "orders:raed" in done.err) == (3, True)


@pytest.mark.rule("RS-MD-06")
@pytest.mark.parametrize("audience", ["https://s.example", "https://s.example/v1/mcp", "http://127.0.0.1:3002"])
def test_the_metadata_of_an_api(home: Home, audience: str) -> None:
    """What an adapter of a verifier for that API serves, with the same members in the same order."""
    home.ok("api", "add", "stock", "--audience", audience, "--scope", "b", "--scope", "a")
    printed = home.ok("--json", "api", "show", "stock", "--resource-metadata")
    verifier = Verifier(issuer=ISSUER, audience=audience)
    adapter = ProtectedResource(verifier, scopes=["a"], known=["b"])
    url = resource_metadata_url(audience)
    assert url is not None
    served = adapter.public("GET", url.removeprefix(f"{audience.partition('//')[0]}//{audience.split('/')[2]}"))
    verifier.close()
    assert served is not None
    assert list(printed.json.items()) == list(json.loads(served.body).items())
    people = home.ok("api", "show", "stock", "--resource-metadata")
    assert (people.json, url in people.err) == (printed.json, True)
    assert home.ok("-q", "api", "show", "stock", "--resource-metadata").err == ""


@pytest.mark.rule("RS-MD-01", "RS-MD-06")
def test_an_api_without_metadata(home: Home) -> None:
    """One that knows no scope lists none, one whose audience is no https URL has no document, and nobody's has none."""
    home.ok("api", "add", "bare", "--audience", "https://bare.example")
    assert "scopes_supported" not in home.ok("api", "show", "bare", "--resource-metadata").json
    home.ok("api", "add", "urn", "--audience", "urn:example:stock")
    done = home("api", "show", "urn", "--resource-metadata")
    assert (done.code, done.out) == (3, "")
    assert "API urn has no such document: urn:example:stock is no https URL" in done.err
    assert home("api", "show", "none", "--resource-metadata").code == 3


@pytest.mark.rule("AS-DP-18", "RS-MD-02")
def test_an_api_that_wants_bound_tokens(home: Home) -> None:
    """Said when it is registered or later, shown, and told to clients in its metadata; an unknown demand is none."""
    added = home.ok("--json", "api", "add", "vault", "--audience", f"{STOCK}/vault", "--binding", "dpop").json
    assert (added["binding"], home.ok("--json", "api", "show", "vault").json) == ("dpop", added)
    assert home.ok("api", "show", "vault", "--resource-metadata").json["dpop_bound_access_tokens_required"] is True
    assert home.ok("--json", "api", "update", "vault", "--scope", "x").json["binding"] == "dpop"
    assert home.ok("--json", "api", "update", "vault", "--binding", "any").json["binding"] == "any"
    assert "dpop_bound_access_tokens_required" not in home.ok("api", "show", "vault", "--resource-metadata").json
    assert home.ok("--json", "api", "update", "vault", "--binding", "none").json["binding"] == "none"
    assert home("api", "update", "vault", "--binding", "rope").code == 2


@pytest.mark.rule("AS-DP-18")
def test_whom_a_demand_of_an_api_hits(home: Home) -> None:
    """Who may ask for it and need not prove anything so far; nobody where the demand becomes a weaker one."""
    demand = ("--json", "api", "update", "orders", "--dry-run", "--binding")
    why = "must prove {} for each token of orders"
    seen = home(*demand, "dpop")
    (loss,) = seen.json["losses"]
    assert (seen.code, loss["client_id"], loss["why"]) == (7, "billing", why.format("a key (DPoP)"))
    assert home(*demand, "any").json["losses"][0]["why"] == why.format("a key (DPoP) or a certificate")
    refused = home("--no-input", "api", "update", "orders", "--binding", "dpop")
    assert (refused.code, "billing: must prove a key" in refused.err) == (2, True)
    home.ok("client", "update", "billing", "--binding", "any")
    assert home(*demand, "any").json["losses"] == []
    assert len(home(*demand, "dpop").json["losses"]) == 1
    home.ok("client", "update", "billing", "--binding", "dpop")
    assert home.ok("--json", "--no-input", "api", "update", "orders", "--binding", "dpop").json["binding"] == "dpop"
    home.ok("client", "update", "billing", "--binding", "none")
    assert home(*demand, "any").json["losses"] == []
