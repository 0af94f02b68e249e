"""The HTTP layer: entity tags, HEAD, header limits, forwarded addresses, and arbitrary input over the socket."""

import json
import re
import socket
import time
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groat.server.connection import states
from groat.server.http.answers import MAX_ENTITY_TAGS, etag_matches
from groat.server.http.exchange import header_values
from groat.server.http.source import request_source
from tests.server.builders import JWT_BEARER, base, base_fields, segment
from tests.server.lab import Lab
from tests.server.wire import CHARSET, CODES, FORM, Answer, check_ok, check_private_json, encoded, raw, send

DOCUMENTS = ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]


def _scope(*values: bytes) -> dict[str, Any]:
    return {"headers": [(b"if-none-match", value) for value in values] + [(b"other", b'"a"')]}


@pytest.mark.rule("AS-MD-14")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b'"a"'], True), ([b'W/"a"'], True), ([b'"b", "a"'], True), ([b'"b",W/"a"'], True), ([b'"b"', b'"a"'], True),
        ([b"*"], True), ([b" * "], True), ([b'"b" , "a"'], True), ([], False), ([b""], False), ([b'"b"'], False),
        ([b"a"], False), ([b'"aa"'], False), ([b'"A"'], False), ([b'w/"a"'], False), ([b'"a'], False), ([b'"x"a"'], False),
    ],
)  # fmt: skip
def test_etag_comparison(values: list[bytes], expected: bool) -> None:
    """If-None-Match lists tags, weak or strong, in one header or several; `*` matches everything."""
    assert etag_matches(_scope(*values), b'"a"') is expected


@pytest.mark.rule("H03", "I9")
@pytest.mark.parametrize(
    "value",
    [b"a" + b" " * 60_000 + b"b", b"," * 60_000, b" ," * 30_000, b"\t" * 60_000 + b"W/", b"W/" * 30_000],
    ids=["spaces", "commas", "pairs", "tabs", "weak"],
)
def test_etag_comparison_is_linear(value: bytes) -> None:
    """A long hostile header costs milliseconds, not seconds: whoever may read the JWKS may send one."""
    began = time.perf_counter()
    etag_matches(_scope(value), b'"a"')
    assert time.perf_counter() - began < 0.5


@pytest.mark.rule("AS-MD-14", "AS-MD-13", "DEMO-20")
@pytest.mark.parametrize("path", DOCUMENTS)
def test_conditional_requests(lab: Lab, path: str) -> None:
    """ETag and Cache-Control come with every document; whoever has it gets 304 without a body."""
    first = lab.get(path)
    etag = first.header("etag") or ""
    assert re.fullmatch(r'"[^"]+"', etag)
    assert first.header("cache-control") == "public, max-age=300"
    for condition in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = lab.get(path, ("If-None-Match", condition))
        assert (again.status, again.body, again.header("etag")) == (304, b"", etag)
        assert again.header("cache-control") == "public, max-age=300"
    assert lab.get(path, ("If-None-Match", '"x"')).body == first.body


@pytest.mark.rule("AS-MD-13", "AS-MD-02")
@pytest.mark.parametrize("path", [*DOCUMENTS, "/health", "/livez", "/readyz"])
def test_head_is_get_without_the_body(lab: Lab, path: str) -> None:
    """HEAD has the headers of GET, length included, and no body; other methods are 405 with Allow."""
    get, head = lab.get(path), send(lab.address, "HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.comparable()[1] == get.comparable()[1]
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = send(lab.address, method, path, [], b"")
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")
        assert answer.json["error"] == "invalid_request"


@pytest.mark.rule("H01", "I9", "Z05")
@pytest.mark.parametrize("kind", ["one long header", "many headers", "a long path"])
def test_headers_are_bounded(lab: Lab, kind: str) -> None:
    """Two megabytes of headers or path are refused: what is not limited before parsing fills the memory."""
    filler = {
        "one long header": b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Pad: " + b"a" * 2_000_000,
        "many headers": b"GET /livez HTTP/1.1\r\nHost: a" + b"\r\nX-Pad: aaaaaaaaa" * 100_000,
        "a long path": b"GET /livez?" + b"a" * 2_000_000 + b" HTTP/1.1\r\nHost: a",
    }[kind]
    received = raw(lab.address, filler + b"\r\nConnection: close\r\n\r\n")
    # Closing at once, without any answer, is as good.
    assert received == b"" or re.match(rb"HTTP/1\.1 4\d\d ", received), received[:200]
    check_ok(lab.ask())


@pytest.mark.rule("H05")
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Length: 5\r\nContent-Length: 6", id="two-lengths"),
        pytest.param(b"Content-Length: +5", id="plus"),
        pytest.param(b"Content-Length: -1", id="negative"),
        pytest.param(b"Content-Length: 0x5", id="hex"),
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked", id="both"),
        pytest.param(b"Transfer-Encoding: xchunked", id="other-coding"),
        pytest.param(b"Transfer-Encoding : chunked", id="space-before-colon"),
        pytest.param(b"X: a\r\n folded\r\nContent-Length: 5", id="obs-fold"),
    ],
)
def test_ambiguous_framing_is_refused(lab: Lab, head: bytes) -> None:
    """A message whose length two readers could read differently is 400 and the end of the connection."""
    good = base(lab.party.assertion())
    smuggled = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        FORM.encode(), len(good), good,
    )  # fmt: skip
    data = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\n%s\r\n\r\n0\r\n\r\n" % (FORM.encode(), head)
    received = raw(lab.address, data + smuggled, timeout=1.0)
    assert b" 200 " not in received
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    check_ok(lab.post(good))


@pytest.mark.rule("OPS-02")
@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        pytest.param("10.0.0.1", [b"1.1.1.1"], [], "10.0.0.1", id="nobody-trusted"),
        pytest.param("10.0.0.1", [b"1.1.1.1"], ["10.0.0.0/8"], "1.1.1.1", id="trusted"),
        pytest.param("9.9.9.9", [b"1.1.1.1"], ["10.0.0.0/8"], "9.9.9.9", id="peer-not-trusted"),
        pytest.param("10.0.0.1", [b"6.6.6.6, 1.1.1.1"], ["10.0.0.0/8"], "1.1.1.1", id="spoofed-first-hop"),
        pytest.param("10.0.0.1", [b"6.6.6.6", b"1.1.1.1"], ["10.0.0.0/8"], "1.1.1.1", id="two-headers"),
        pytest.param("10.0.0.1", [b"1.1.1.1, 10.0.0.2"], ["10.0.0.0/8"], "1.1.1.1", id="two-proxies"),
        pytest.param("10.0.0.1", [], ["10.0.0.0/8"], "10.0.0.1", id="no-header"),
        pytest.param("10.0.0.1", [b"10.0.0.2"], ["10.0.0.0/8"], "10.0.0.2", id="only-proxies"),
        pytest.param("2001:db8:1:2:3:4:5:6", [], [], "2001:db8:1:2::/64", id="v6-by-block"),
        pytest.param("2001:db8:1:2::9", [], [], "2001:db8:1:2::/64", id="v6-same-block"),
        pytest.param("::1", [b"1.1.1.1"], ["::1"], "1.1.1.1", id="v6-proxy"),
        pytest.param("10.0.0.1", [b"2001:db8::7"], ["10.0.0.0/8"], "2001:db8::/64", id="v6-client"),
        pytest.param("::ffff:1.2.3.4", [], [], "1.2.3.4", id="mapped-v4"),
        pytest.param("::ffff:10.0.0.1", [b"1.1.1.1"], ["10.0.0.0/8"], "1.1.1.1", id="mapped-proxy"),
    ],
)
def test_the_source_of_a_request(peer: str, forwarded: list[bytes], trusted: list[str], expected: str) -> None:
    """Forwarded addresses count from trusted proxies alone; IPv6 counts by /64, IPv4 inside it as IPv4."""
    assert request_source(peer, forwarded, [ip_network(network) for network in trusted]).name == expected


@pytest.mark.rule("OPS-02", "H06")
@given(st.lists(st.binary(max_size=80), max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_forwarded_header_has_a_source(values: list[bytes]) -> None:
    """Whatever a trusted proxy passes on, there is a short source and no exception."""
    source = request_source("10.0.0.1", values, [ip_network("10.0.0.0/8")])
    assert len(source.name) <= 64
    assert len(source.unreadable or "") <= 64


def test_header_values_keeps_repeats() -> None:
    """Every value of a header, in order."""
    scope = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}
    assert header_values(scope, b"a") == [b"1", b"3"]


@pytest.mark.rule("ST-8", "I14")
def test_the_first_entity_tags_count() -> None:
    """However many a caller sends, a few dozen are compared."""
    for before, matched in ((0, True), (MAX_ENTITY_TAGS - 1, True), (MAX_ENTITY_TAGS, False), (15_000, False)):
        scope = {"headers": [(b"if-none-match", b'"x",' * before + b' W/"ours", "y"')]}
        assert etag_matches(scope, b'"ours"') is matched


# Arbitrary input

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
_NAMES = st.sampled_from(
    ["grant_type", "client_assertion", "client_assertion_type", "client_id", "client_secret", "scope", "resource", "x"]
)
_VALUES = st.one_of(
    _TEXT,
    st.sampled_from(
        ["client_credentials", JWT_BEARER, "billing", "orders:read", "a.b.c", "https://orders.example", ""]
    ),
)
_FORMS = st.lists(st.tuples(_NAMES, _VALUES), max_size=8).map(encoded)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
_CLAIMS = st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "x"]), _JSON, max_size=8)
_HEADER = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "cty", "b64"]), _JSON, max_size=5)
_JWTS = st.builds(
    lambda header, claims, signature: encoded(
        list(base_fields(f"{segment({'alg': 'ES256', **header})}.{segment(claims)}.{segment(signature)}").items())
    ),
    _HEADER,
    _CLAIMS,
    st.binary(max_size=70),
)
_BODIES = st.one_of(st.binary(max_size=400), _FORMS, _JWTS)
_HEADER_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
_HEADER_NAMES = st.sampled_from(
    [
        "Authorization",
        "X-Forwarded-For",
        "If-None-Match",
        "Content-Encoding",
        "Accept",
        "Origin",
        "Cookie",
        "X-Request-Id",
    ]
)
_TYPES = st.one_of(st.just(FORM), st.just(FORM + "; charset=utf-8"), _HEADER_VALUES)
_METHODS = st.sampled_from(["POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS"])
_TARGETS = st.one_of(
    st.just("/token"),
    st.text("abcXYZ019-._~%&=?/+", max_size=40).map(lambda tail: "/token?" + tail.replace("%", "%25")),
)


def check_any(answer: Answer) -> None:
    """What holds for every answer to anything: below 500, JSON, private, of known codes and characters."""
    assert answer.status < 500, answer
    check_private_json(answer)
    document = json.loads(answer.body)
    if answer.status != 200:
        assert document["error"] in CODES
        assert CHARSET.fullmatch(document["error_description"])


@pytest.mark.rule("Z01", "I10", "AS-TE-21", "AS-TE-22", "A12")
@given(
    method=_METHODS, target=_TARGETS, types=st.lists(_TYPES, max_size=2), body=_BODIES,
    headers=st.lists(st.tuples(_HEADER_NAMES, _HEADER_VALUES), max_size=3),
)  # fmt: skip
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_gets_a_json_answer_below_500(
    lab: Lab, method: str, target: str, types: list[str], body: bytes, headers: list[tuple[str, str]]
) -> None:
    """Arbitrary methods, queries, content types, headers and bodies: never 5xx, always JSON."""
    all_headers = [*(("Content-Type", value) for value in types), *headers]
    check_any(send(lab.address, method, target, all_headers, body))


@pytest.mark.rule("Z01", "I10")
@given(
    changes=st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "x"]), _JSON, max_size=3)
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_claims_well_signed_get_a_json_answer_below_500(lab: Lab, changes: dict[str, Any]) -> None:
    """Arbitrary claims under a good signature reach the inner rules, and none of them breaks."""
    check_any(lab.ask(lab.party.assertion(**changes)))


@pytest.mark.rule("H08", "Z05", "I9")
@pytest.mark.parametrize("sent", [b"", b"POST /token HTTP/1.1\r\nHost: a\r\n"], ids=["silence", "half a head"])
def test_a_connection_without_a_whole_head_is_cut_off(lab: Lab, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Who says nothing, or never finishes a head, is disconnected; here the limit is shortened to half a second."""
    for state in (states.State.NEW, states.State.HEAD):
        monkeypatch.setitem(states.SECONDS, state, 0.5)
    with socket.create_connection(lab.address, 5) as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""
    check_ok(lab.ask())


@pytest.mark.rule("AS-TE-21", "AS-TE-18", "AS-TE-32")
@pytest.mark.parametrize(
    "data",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"POST /token HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"<xml/>\r\n\r\n",
    ],
    ids=["no target", "TLS", "length", "no HTTP"],
)
def test_what_is_not_http_is_refused_in_json(lab: Lab, data: bytes) -> None:
    """Even where no request was understood: the error body, not to be kept, and nothing of what was sent."""
    head, _, body = raw(lab.address, data).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert json.loads(body) == {"error": "invalid_request", "error_description": "The request is malformed."}
    assert headers[b"content-type"] == b"application/json"
    assert (headers[b"cache-control"], headers[b"pragma"]) == (b"no-store", b"no-cache")
    assert (headers[b"connection"], headers[b"content-length"]) == (b"close", b"%d" % len(body))
    assert b"date" in headers
