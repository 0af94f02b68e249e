"""AS-TE-01 to 16: what a token request must look like, row by row, over a real socket."""

import json
from typing import Any

import pytest

from tests.server.builders import ABSENT, ORDERS, Party, base, base_fields
from tests.server.lab import Lab
from tests.server.wire import FORM, check_ec, check_ok, check_refused, encoded, send


@pytest.mark.rule("AS-TE-01", "A19", "DEMO-27")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
@pytest.mark.parametrize("where", ["query", "body"])
def test_only_post_reaches_the_endpoint(lab: Lab, method: str, where: str) -> None:
    """Other methods get 405, Allow and no token, wherever the parameters stand."""
    good = base(lab.party.assertion())
    target = "/token?" + good.decode() if where == "query" else "/token"
    body = good if where == "body" else None
    answer = send(lab.address, method, target, [("Content-Type", FORM)], body)
    assert answer.header("allow") == "POST"
    if method == "HEAD":
        assert (answer.status, answer.body) == (405, b"")
    else:
        check_refused(answer, "invalid_request", 405)


@pytest.mark.rule("AS-TE-03", "A22", "DEMO-31")
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["application/json"], id="json"),
        pytest.param(["multipart/form-data; boundary=x"], id="multipart"),
        pytest.param(["text/plain"], id="text"),
        pytest.param([], id="missing"),
        pytest.param([""], id="empty"),
        pytest.param([FORM, FORM], id="twice"),
        pytest.param([f"{FORM}, {FORM}"], id="joined"),
        pytest.param([f"{FORM};charset=utf-16"], id="utf-16"),
        pytest.param([f"{FORM};charset=iso-8859-1"], id="latin-1"),
        pytest.param([f"{FORM}x"], id="longer"),
        pytest.param([f"{FORM};" + " " * 6000 + "x"], id="long-space"),
    ],
)
def test_other_media_types_are_malformed(lab: Lab, values: list[str]) -> None:
    """A body that is not declared as one UTF-8 form is refused, and its assertion stays unused."""
    assertion = lab.party.assertion()
    answer = send(lab.address, "POST", "/token", [("Content-Type", v) for v in values], base(assertion))
    check_refused(answer, "invalid_request")
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-TE-03")
@pytest.mark.parametrize(
    "value", ["Application/X-WWW-Form-Urlencoded; charset=utf-8", f'{FORM};charset="UTF-8"', f"{FORM} ; CHARSET=UTF-8"]
)
def test_the_media_type_is_case_insensitive(lab: Lab, value: str) -> None:
    """Case and a UTF-8 charset parameter do not matter."""
    check_ok(lab.post(base(lab.party.assertion()), value))


@pytest.mark.rule("AS-TE-03")
def test_a_json_body_is_malformed(lab: Lab) -> None:
    """JSON with every right member is still no form."""
    answer = lab.post(json.dumps(base_fields(lab.party.assertion())).encode(), "application/json")
    check_refused(answer, "invalid_request")


@pytest.mark.rule("A22")
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_a_compressed_body_is_malformed(lab: Lab, coding: str) -> None:
    """Nothing decodes a content coding, so none may be declared."""
    answer = lab.post(base(lab.party.assertion()), FORM, ("Content-Encoding", coding))
    check_refused(answer, "invalid_request")


@pytest.mark.rule("AS-TE-04")
@pytest.mark.parametrize(
    "part",
    ["scope=%zz", "scope=%ff", "scope=%00", "scope=%", "scope=%4", "x=%C0%AF", "%ff=1", "foo=%ED%A0%80", "scope=\xff"],
)
def test_broken_encodings_are_malformed(lab: Lab, part: str) -> None:
    """Broken escapes, bytes that are no UTF-8 and NUL are refused, in fields nobody knows as well."""
    body = base(lab.party.assertion()) + b"&" + part.encode("latin-1")
    check_refused(lab.post(body), "invalid_request")


@pytest.mark.rule("AS-TE-05", "A19")
@pytest.mark.parametrize(
    "name",
    [
        "grant_type",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "scope",
        "resource",
        "audience",
    ],
)
def test_parameters_in_the_url_are_malformed(lab: Lab, name: str) -> None:
    """A protocol parameter in the query is refused even when the body is complete; it is never used."""
    assertion = lab.party.assertion()
    moved = {**base_fields(assertion), "client_id": "billing", "client_secret": "s", "scope": "orders:read"}
    moved |= {"resource": ORDERS, "audience": ORDERS}
    query = encoded([(name, moved[name])]).decode()
    for body in (base(assertion), base(assertion, **{name: ABSENT})):
        answer = send(lab.address, "POST", f"/token?{query}", [("Content-Type", FORM)], body)
        check_refused(answer, "invalid_request")
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-TE-12")
def test_unknown_parameters_are_ignored(lab: Lab) -> None:
    """Unknown fields, repeats of them and unknown query parameters change nothing."""
    body = base(lab.party.assertion()) + b"&foo=1&foo=2&&a%5Bb%5D=3&=x"
    check_ok(send(lab.address, "POST", "/token?trace=1&trace=2", [("Content-Type", FORM)], body))


@pytest.mark.rule("AS-TE-06", "DEMO-06")
@pytest.mark.parametrize("value", [ABSENT, ""])
def test_grant_type_is_required(lab: Lab, value: Any) -> None:
    """Absent and empty are the same defect."""
    check_refused(lab.ask(grant_type=value), "invalid_request")


@pytest.mark.rule("AS-TE-07")
@pytest.mark.parametrize(
    "value",
    [
        "password", "authorization_code", "refresh_token", "CLIENT_CREDENTIALS", "client_credentials ", "x",
        "urn:ietf:params:oauth:grant-type:saml2-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
    ],
)  # fmt: skip
def test_other_grants_are_unsupported(lab: Lab, value: str) -> None:
    """Every grant but the one is unsupported, before any authentication, and the jti stays unused."""
    assertion = lab.party.assertion()
    check_refused(lab.ask(assertion, grant_type=value), "unsupported_grant_type")
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-TE-08", "DEMO-32")
def test_a_grant_the_client_may_not_use(lab: Lab) -> None:
    """A supported grant that this authenticated client lacks is unauthorized_client."""
    party = lab.add_client("no-grant", grant_types=())
    check_refused(lab.ask(party.assertion()), "unauthorized_client")


@pytest.mark.rule("AS-TE-09", "A19", "DEMO-30")
@pytest.mark.parametrize("second", ["same", "empty", "other"])
@pytest.mark.parametrize("name", ["grant_type", "scope", "client_id", "client_assertion", "client_assertion_type"])
def test_a_repeated_parameter_is_malformed(lab: Lab, name: str, second: str) -> None:
    """Twice is an error, with equal values and with an empty one, in either order."""
    assertion = lab.party.assertion()
    good = {**base_fields(assertion), "scope": "orders:read", "client_id": "billing"}
    extra = {"same": good[name], "empty": "", "other": "x"}[second]
    pairs = list(good.items())
    for fields in ([*pairs, (name, extra)], [(name, extra), *pairs]):
        check_refused(lab.post(encoded(fields)), "invalid_request")
    check_ok(lab.post(encoded(pairs)))


@pytest.mark.rule("AS-TE-11")
def test_an_empty_parameter_is_absent(lab: Lab) -> None:
    """Empty scope, client_id, resource and client_secret change nothing; an empty assertion is none."""
    document = check_ok(lab.ask(scope="", client_id="", resource="", client_secret=""))
    assert document["scope"] == "orders:read"
    check_ec(lab.post(encoded([*base_fields("").items()])))


@pytest.mark.rule("AS-TE-13", "A21")
@pytest.mark.parametrize(
    "scope",
    [
        "orders:read  orders:write", " orders:read", "orders:read ", "orders:read\torders:write", 'orders:"read',
        "orders\\read", "orders:réad", "orders:read\n", "\x7f", " ", "x" * 10_000, " ".join(["s"] * 3000), "a\x01b",
    ],
)  # fmt: skip
def test_scope_outside_the_grammar(lab: Lab, scope: str) -> None:
    """Double spaces, controls, quotes, backslashes, non-ASCII and absurd lengths are invalid_scope."""
    check_refused(lab.ask(scope=scope), "invalid_scope")


@pytest.mark.rule("AS-TE-13", "AS-TE-16", "A21")
def test_scope_order_and_repeats_do_not_matter(lab: Lab, wide: Party) -> None:
    """The same set in any order, with repeats, grants the same scopes; the answer states them."""
    granted = {
        frozenset(check_ok(lab.ask(wide.assertion(), scope=scope, resource=ORDERS))["scope"].split(" "))
        for scope in ("orders:read orders:write", "orders:write orders:read orders:write")
    }
    assert granted == {frozenset({"orders:read", "orders:write"})}


@pytest.mark.rule("AS-TE-13")
@pytest.mark.parametrize("scope", ["Orders:read", "ORDERS:READ", "orders:rea", "orders:read,orders:write"])
def test_scope_is_exact(lab: Lab, scope: str) -> None:
    """Case and near misses are other scopes."""
    check_refused(lab.ask(scope=scope), "invalid_scope")


@pytest.mark.rule("AS-TE-14", "A21", "DEMO-28")
@pytest.mark.parametrize("scope", ["nope", "orders:write", "orders:read orders:write", "orders:read nope"])
def test_scope_that_is_not_granted(lab: Lab, scope: str) -> None:
    """An unknown or ungranted scope is refused, not narrowed away."""
    check_refused(lab.ask(scope=scope), "invalid_scope")


@pytest.mark.rule("AS-TE-15", "A21")
def test_scope_omitted(lab: Lab) -> None:
    """With a default: that one. Without: invalid_scope."""
    assert check_ok(lab.ask())["scope"] == "orders:read"
    party = lab.add_client("no-default", allow={"orders": ["orders:read"]})
    check_refused(lab.ask(party.assertion()), "invalid_scope")
