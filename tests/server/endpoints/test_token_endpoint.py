"""AS-TE-16 to 27: what is answered, and for which resource."""

import re

import pytest

from tests.server.builders import JWT_BEARER, ORDERS, STOCK, Party, base, base_fields, decoded
from tests.server.lab import Lab
from tests.server.wire import FORM, check_ec, check_ok, check_refused, encoded


@pytest.mark.rule("AS-TE-17", "AS-TE-18", "AS-TE-19", "AS-TE-20", "DEMO-07", "DEMO-08")
def test_the_success_response(lab: Lab) -> None:
    """Exactly access_token, token_type, expires_in and scope, with their types, and never stored."""
    document = check_ok(lab.ask())
    assert isinstance(document["access_token"], str)
    assert document["token_type"] == "Bearer"
    assert type(document["expires_in"]) is int
    assert document["expires_in"] == 600


@pytest.mark.rule("AS-TE-16", "AT-07")
def test_scope_is_always_stated(lab: Lab) -> None:
    """The scope of the answer is the scope of the token, asked or not."""
    for fields in ({}, {"scope": "orders:read"}):
        document = check_ok(lab.ask(**fields))
        assert document["scope"] == decoded(document["access_token"])[1]["scope"] == "orders:read"


CANARIES = ['<script>alert("x")</script>', "canary\r\nSet-Cookie: a=b", "c\u00e4n\U0001f600ry", 'say "canary" \\ now']


@pytest.mark.rule("AS-TE-21", "AS-TE-22", "DEMO-09")
@pytest.mark.parametrize("canary", CANARIES, ids=["script", "crlf", "emoji", "quotes"])
@pytest.mark.parametrize("name", ["grant_type", "scope", "resource", "client_id", "client_assertion_type", "foo"])
def test_refusals_never_echo(lab: Lab, name: str, canary: str) -> None:
    """Whatever field carries it, no part of the answer repeats what was sent, and the characters stay in range."""
    answer = lab.ask(**{name: canary})
    if name == "foo":
        check_ok(answer)
        return
    check_refused(answer, answer.json["error"], answer.status)
    everything = answer.body + repr(answer.headers).encode()
    assert b"canary" not in everything
    assert b"<" not in everything
    assert answer.header("set-cookie") is None


@pytest.mark.rule("AS-TE-21")
def test_the_same_error_has_the_same_description(lab: Lab) -> None:
    """Descriptions are fixed phrases, so they cannot carry what one request did."""
    texts = {lab.ask(scope=scope).body for scope in ("nope", 'a"b', "x  y")}
    assert len(texts) == 1


@pytest.mark.rule("AS-TE-23", "DEMO-09")
@pytest.mark.parametrize(
    ("value", "scheme"), [("Basic YTpi", "Basic"), ("basic YTpi", "Basic"), ("Bearer x", "Bearer"), ("DPoP x", "DPoP"),
                          ("Basic", "Basic"), ("Basic !!!", "Basic"), ("Digest x", "Digest")]
)  # fmt: skip
def test_a_failed_authorization_header_is_challenged(lab: Lab, value: str, scheme: str) -> None:
    """401 with a challenge of the scheme that was used, and the body of every other failure."""
    body = encoded([("grant_type", "client_credentials")])
    answer = lab.post(body, FORM, ("Authorization", value))
    check_refused(answer, "invalid_client", 401)
    assert re.fullmatch(rf'{scheme} realm="[^"]+"', answer.header("www-authenticate") or "")


@pytest.mark.rule("AS-TE-24", "A20")
@pytest.mark.parametrize("header", ["Basic YmlsbGluZzpz", "Bearer x", "x", ""])
def test_header_and_assertion_are_two_methods(lab: Lab, header: str) -> None:
    """An Authorization header beside an assertion is malformed, and uses up nothing."""
    assertion = lab.party.assertion()
    check_refused(lab.post(base(assertion), FORM, ("Authorization", header)), "invalid_request")
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-TE-24", "A20")
def test_secret_and_assertion_are_two_methods(lab: Lab) -> None:
    """A client_secret beside an assertion is malformed; two Authorization headers are as well."""
    check_refused(lab.ask(client_secret="s"), "invalid_request")
    body = encoded([("grant_type", "client_credentials")])
    answer = lab.post(body, FORM, ("Authorization", "Basic YTpi"), ("Authorization", "Basic YTpi"))
    check_refused(answer, "invalid_request")


@pytest.mark.rule("AS-TE-25", "A21", "AT-05")
@pytest.mark.parametrize("name", ["resource", "audience"])
def test_a_named_resource_becomes_the_audience(lab: Lab, wide: Party, name: str) -> None:
    """`resource`, and its older spelling, select the API; the token is for it alone."""
    for target, scope in ((ORDERS, "orders:read"), (STOCK, "stock:read")):
        token = lab.token(wide.assertion(), scope=scope, **{name: target})
        assert decoded(token)[1]["aud"] == target


@pytest.mark.rule("AS-TE-25", "A21")
@pytest.mark.parametrize(
    "target",
    ["/x", f"{ORDERS}#f", f"{ORDERS}#", "https://unknown.example", STOCK, f"{ORDERS}/", "HTTPS://orders.example",
     "orders", "//orders.example", "https://[", " ", f"{ORDERS} ", "https://as.example"],
)  # fmt: skip
def test_a_resource_that_cannot_be_had(lab: Lab, target: str) -> None:
    """Relative, with fragment, unknown, not granted or merely similar: invalid_target."""
    check_refused(lab.ask(resource=target), "invalid_target")


@pytest.mark.rule("AS-TE-10", "AS-TE-26")
@pytest.mark.parametrize("names", [("resource", "resource"), ("resource", "audience"), ("audience", "audience")])
def test_two_resources_are_one_too_many(lab: Lab, wide: Party, names: tuple[str, str]) -> None:
    """`resource` may repeat, but one token has one audience; the same one twice is one."""
    pairs = [*base_fields(wide.assertion()).items(), ("scope", "orders:read")]
    check_refused(lab.post(encoded([*pairs, (names[0], ORDERS), (names[1], STOCK)])), "invalid_target")
    pairs = [*base_fields(wide.assertion()).items(), ("scope", "orders:read")]
    check_ok(lab.post(encoded([*pairs, (names[0], ORDERS), (names[1], ORDERS), (names[1], "")])))


@pytest.mark.rule("AS-TE-26")
def test_scope_and_resource_must_belong_together(lab: Lab, wide: Party) -> None:
    """A scope of another API than the named one is invalid_scope, alone and mixed in."""
    for scope in ("stock:read", "orders:read stock:read"):
        check_refused(lab.ask(wide.assertion(), scope=scope, resource=ORDERS), "invalid_scope")


@pytest.mark.rule("AS-TE-25", "AS-TE-26")
def test_without_resource_the_scope_decides(lab: Lab, wide: Party) -> None:
    """Scopes that one API knows select it; scopes of two, or none, are ambiguous."""
    assert decoded(lab.token(wide.assertion(), scope="stock:read"))[1]["aud"] == STOCK
    check_refused(lab.ask(wide.assertion(), scope="stock:read orders:read"), "invalid_scope")
    check_refused(lab.ask(wide.assertion()), "invalid_target")


@pytest.mark.rule("AS-TE-27")
@pytest.mark.parametrize(
    "fields",
    [{}, {"client_id": "billing"}, {"client_secret": "s"}, {"client_id": "billing", "client_secret": "s"},
     {"client_assertion_type": JWT_BEARER}],
    ids=lambda fields: "+".join(fields) or "nothing",
)  # fmt: skip
def test_only_authenticated_clients_get_tokens(lab: Lab, fields: dict[str, str]) -> None:
    """A name, a secret or nothing proves nothing."""
    check_ec(lab.post(encoded([("grant_type", "client_credentials"), *fields.items()])))
