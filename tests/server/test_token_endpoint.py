"""AS-TE: the token endpoint, row by row, over a real socket."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from groat.protocol.jwk import generate_private_key
from groat.server import http, operations

from .builders import ABSENT, JWT_BEARER, ORDERS, STOCK, Party, base, base_fields, decoded
from .lab import DEFAULTS, Lab
from .wire import FORM, Answer, Connection, check_ec, check_ok, check_private_json, check_refused, encoded, raw, send

BOTH = {"orders": ["orders:read", "orders:write"], "stock": ["stock:read"]}


@pytest.fixture(scope="module")
def wide(lab: Lab) -> Party:
    """A client of both APIs without any default scope."""
    return lab.add_client("wide", allow=BOTH)


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
        "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
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


STEPS: list[tuple[str, Callable[[dict[str, Any]], None], tuple[str, int]]] = [
    ("method", lambda r: r.update(method="GET"), ("invalid_request", 405)),
    ("size", lambda r: r.update(pad=70_000), ("invalid_request", 413)),
    ("type", lambda r: r.update(type="text/plain"), ("invalid_request", 400)),
    ("decoding", lambda r: r["fields"].append(("scope", "again")), ("invalid_request", 400)),
    ("methods", lambda r: r["fields"].append(("client_secret", "s")), ("invalid_request", 400)),
    ("grant", lambda r: r["fields"].__setitem__(0, ("grant_type", "password")), ("unsupported_grant_type", 400)),
    ("authentication", lambda r: r["fields"].__setitem__(2, ("client_assertion", "a.b.c")), ("invalid_client", 401)),
    ("target", lambda r: r["fields"].append(("resource", "/x")), ("invalid_target", 400)),
    ("scope", lambda r: r["fields"].__setitem__(3, ("scope", "nope")), ("invalid_scope", 400)),
]


@pytest.mark.rule("AS-TE-28")
@pytest.mark.parametrize("first", range(len(STEPS)), ids=[step[0] for step in STEPS])
def test_the_earliest_defect_decides(lab: Lab, first: int) -> None:
    """With the defects of all later steps at once, the answer is that of the earliest one."""
    request: dict[str, Any] = {"method": "POST", "type": FORM, "pad": 0}
    request["fields"] = [*base_fields(lab.party.assertion()).items(), ("scope", "orders:read")]
    for _, spoil, _ in reversed(STEPS[first:]):
        spoil(request)
    body = encoded(request["fields"]) + b"&pad=" + b"x" * request["pad"]
    answer = send(lab.address, request["method"], "/token", [("Content-Type", request["type"])], body)
    check_refused(answer, *STEPS[first][2])


@pytest.mark.rule("AS-TE-29", "H01")
def test_a_body_over_the_limit(lab: Lab) -> None:
    """64 KiB pass, one byte more is 413 and closes, declared or chunked, and the server goes on."""
    good = base(lab.party.assertion())
    room = http.MAX_BODY_BYTES - len(good) - len(b"&pad=")
    check_ok(lab.post(good + b"&pad=" + b"x" * room))
    body = base(lab.party.assertion()) + b"&pad=" + b"x" * (http.MAX_BODY_BYTES - 100)
    answer = lab.post(body)
    check_refused(answer, "invalid_request", 413)
    assert answer.header("connection") == "close"
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % FORM.encode()
    chunk = b"%x\r\n%s\r\n" % (9000, b"x" * 9000)
    assert raw(lab.address, head + chunk * 8 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    check_ok(lab.ask())


@pytest.mark.rule("AS-TE-29", "H01")
def test_an_absurd_content_length(lab: Lab) -> None:
    """A declared size alone is enough to refuse, before any of the body is read."""
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %s\r\n\r\n"
    for length in (b"65537", b"9223372036854775807"):
        assert raw(lab.address, head % (FORM.encode(), length)).startswith(b"HTTP/1.1 413 ")
    check_ok(lab.ask())


@pytest.mark.rule("AS-TE-29", "H02")
def test_too_many_fields(lab: Lab) -> None:
    """50 fields pass, 51 do not, in the body and in the query."""
    good = base(lab.party.assertion())
    check_ok(lab.post(good + b"&f=1" * (50 - good.count(b"&") - 1)))
    good = base(lab.party.assertion())
    check_refused(lab.post(good + b"&f=1" * (51 - good.count(b"&") - 1)), "invalid_request")
    target = "/token?" + "&".join("f=1" for _ in range(51))
    check_refused(send(lab.address, "POST", target, [("Content-Type", FORM)], good), "invalid_request")


@pytest.mark.rule("AS-TE-29")
def test_a_slow_body_times_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time is 408 and the connection closes."""
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\ngrant" % FORM.encode()
    began = time.monotonic()
    received = raw(lab.address, head)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received.lower()
    assert time.monotonic() - began < 4


@pytest.mark.rule("AS-TE-29", "H08")
def test_a_client_that_goes_away_is_no_bug(lab: Lab) -> None:
    """A connection that ends inside the body leaves a line, no traceback, and a server that goes on."""
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\ngrant" % FORM.encode()
    before = len(lab.lines())
    with socket.create_connection(lab.address) as connection:
        connection.sendall(head)
        time.sleep(0.05)
    check_ok(lab.ask())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        lines = b"".join(lab.lines()[before:])
        if b"disconnected" in lines:
            break
        time.sleep(0.01)
    assert b"disconnected" in lines
    assert b"server.error" not in lines


@pytest.mark.rule("AS-TE-29", "AS-TE-32")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT"])
@pytest.mark.parametrize("path", ["/token/", "/Token", "/TOKEN", "//token", "/", "/authorize", "/token/x", "/token%00"])
def test_no_redirects_and_json_everywhere(lab: Lab, method: str, path: str) -> None:
    """Paths beside the endpoint are 404 in JSON, never a redirect or HTML."""
    answer = send(lab.address, method, path, [("Content-Type", FORM)], base(lab.party.assertion()))
    assert answer.status == 404
    check_private_json(answer)
    if method != "HEAD":
        check_refused(answer, "invalid_request", 404)


@pytest.mark.rule("AS-TE-32")
def test_no_cookies_and_no_cors(lab: Lab) -> None:
    """An Origin or a cookie changes nothing, and a preflight is just a wrong method."""
    origin = (("Origin", "https://evil.example"), ("Cookie", "a=b"))
    check_ok(lab.post(base(lab.party.assertion()), FORM, *origin))
    preflight = send(lab.address, "OPTIONS", "/token", [*origin, ("Access-Control-Request-Method", "POST")])
    check_refused(preflight, "invalid_request", 405)


@pytest.mark.rule("AS-TE-32", "I10")
def test_a_bug_is_a_500_without_text(fresh_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong inside, the answer is JSON without any of it, and the log has the traceback."""
    lab = fresh_lab()

    def bug(*_: object) -> None:
        raise RuntimeError("canary inside")

    monkeypatch.setattr("groat.server.token_endpoint.decide_grant", bug)
    answer = lab.ask()
    check_refused(answer, "server_error", 500)
    assert b"canary" not in answer.body
    event = lab.event(answer)
    assert event["event"] == "server.error"
    assert "canary inside" in event["exception"]


@pytest.mark.rule("AS-TE-02", "H07", "OPS-02")
def test_the_host_header_does_not_matter(lab: Lab) -> None:
    """A foreign Host, or a forwarded one, changes neither the answer nor what an assertion may name."""
    headers = (("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example"))
    answer = lab.post(base(lab.party.assertion()), FORM, *headers)
    token = check_ok(answer)["access_token"]
    assert decoded(token)[1]["iss"] == "https://as.example"
    check_ec(lab.post(base(lab.party.assertion(aud="https://evil.example")), FORM, *headers))


@pytest.mark.rule("H09")
def test_pipelined_requests_are_answered_in_order(lab: Lab) -> None:
    """Three requests in one write get three answers, each its own."""
    bodies = [base(lab.party.assertion()), base("a.b.c"), base(lab.party.assertion(), scope="nope")]
    data = b"".join(
        b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s"
        % (FORM.encode(), len(body), b"Connection: close\r\n" if body is bodies[-1] else b"", body)
        for body in bodies
    )
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", raw(lab.address, data))
    assert statuses == [b"200", b"401", b"400"]


@pytest.mark.rule("A19")
def test_kept_connections_do_not_mix_answers(lab: Lab) -> None:
    """On one connection, good and bad requests alternate and each gets its own answer."""
    connection = Connection(lab.address)
    headers = [("Content-Type", FORM)]
    for _ in range(10):
        check_ok(connection.ask("POST", "/token", headers, base(lab.party.assertion())))
        check_ec(connection.ask("POST", "/token", headers, base(lab.party.assertion(aud="x"))))
    connection.close()


def _requests(lab: Lab) -> Iterator[Answer]:
    yield lab.ask(grant_type="x")
    yield lab.ask(scope="nope")
    yield lab.ask(resource="/x")
    yield lab.ask("a.b.c")
    yield lab.post(b"", "text/plain")
    yield send(lab.address, "GET", "/token")
    yield send(lab.address, "GET", "/nowhere")


@pytest.mark.rule("AS-TE-18", "AS-TE-21", "OPS-04")
def test_every_refusal_is_logged_once_with_its_id(lab: Lab) -> None:
    """The request id of the answer finds exactly one line, which has a reason, the status and the code."""
    for answer in _requests(lab):
        event = lab.event(answer)
        assert event["event"] == "token.refused"
        assert (event["status"], event["error"]) == (answer.status, answer.json["error"])
        assert event["reason"]


@pytest.mark.rule("AS-TE-25")
def test_removing_an_api_takes_its_tokens_away(fresh_lab: Callable[..., Lab]) -> None:
    """An API that is gone can no longer be asked for, and the client's other one can."""
    lab = fresh_lab(DEFAULTS)
    party = lab.add_client("both", generate_private_key("ES256"), allow=BOTH)
    check_ok(lab.ask(party.assertion(), resource=STOCK, scope="stock:read"))
    lab.operate(lambda op: operations.remove_api(op, "stock"))
    check_refused(lab.ask(party.assertion(), resource=STOCK, scope="stock:read"), "invalid_target")
    check_ok(lab.ask(party.assertion(), scope="orders:read"))
