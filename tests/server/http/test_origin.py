"""What trusted proxies say of a request: its source, its id, its trace; and that nobody else is listened to."""

import re
from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groat.server.http.proxied import read_trace
from groat.server.http.source import MAX_HOPS, request_source
from tests.server.builders import Party, base
from tests.server.lab import Lab
from tests.server.wire import FORM, Answer, check_ec, check_ok, check_refused

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
PROXIED = '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n'
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


# Where it comes from


@pytest.mark.rule("FO-2")
@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("203.0.113.7", "203.0.113.7"),
        ('"203.0.113.7"', "203.0.113.7"),
        ('"203.0.113.7:4711"', "203.0.113.7"),
        ("[2001:db8::1]:4711", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ('"[2001:db8::1]:4711"', "2001:db8::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0::0:1", "2001:db8::/64"),
        ("2001:db8::1%eth0", "2001:db8::/64"),
        ("[2001:db8::1%eth0]:80", "2001:db8::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:4711", "203.0.113.7"),
        ("  203.0.113.7 ", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7:1", "203.0.113.7"),
        ("203.0.113.7, ", "203.0.113.7"),
        ("203.0.113.7,,10.0.0.2", "203.0.113.7"),
        ("203.0.113.7:4711, 10.0.0.2:5000, [fd00::2]:5000", "203.0.113.7"),
        ("", "10.0.0.1"),
        (" , ", "10.0.0.1"),
    ],
)
def test_forms_that_proxies_write(hop: str, expected: str) -> None:
    """With a port, in brackets, quoted, with a zone, with empty members: the address is the source."""
    source = request_source("10.0.0.1", [hop.encode()], TRUSTED)
    assert (source.name, source.unreadable) == (expected, None)


@pytest.mark.rule("FO-2")
@pytest.mark.parametrize(
    ("forwarded", "expected", "unreadable"),
    [
        ([b"unknown"], "10.0.0.1", "unknown"),
        ([b"_hidden"], "10.0.0.1", "_hidden"),
        ([b"203.0.113.7, unknown"], "10.0.0.1", "unknown"),
        ([b"unknown, 203.0.113.7"], "203.0.113.7", None),
        ([b"203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2", "unknown"),
        ([b"203.0.113.7", b"unknown", b"10.0.0.2"], "10.0.0.2", "unknown"),
        ([b"203.0.113.7:99999999"], "10.0.0.1", "203.0.113.7:99999999"),
        ([b"203.0.113.300"], "10.0.0.1", "203.0.113.300"),
        ([b"for=203.0.113.7"], "10.0.0.1", "for=203.0.113.7"),
        ([b"\xff\xfe"], "10.0.0.1", "\xff\xfe"),
        ([b"x" * 500], "10.0.0.1", "x" * 64),
        ([b"unknown, fd00::9"], "fd00::/64", "unknown"),
    ],
)
def test_a_hop_that_is_no_address(forwarded: list[bytes], expected: str, unreadable: str | None) -> None:
    """The proxy that wrote it stands in, so that callers behind different proxies do not share one count."""
    source = request_source("10.0.0.1", forwarded, TRUSTED)
    assert (source.name, source.unreadable) == (expected, unreadable)


@pytest.mark.rule("FO-2", "I14")
def test_a_long_list_is_not_read_to_its_beginning() -> None:
    """Thirty thousand bytes of proxies cost what sixteen do."""
    source = request_source("10.0.0.1", [b"203.0.113.7," + b"10.0.0.2," * 3000 + b"10.0.0.3"], TRUSTED)
    assert source.name == "10.0.0.2"
    assert request_source("10.0.0.1", [b"203.0.113.7" + b",10.0.0.2" * (MAX_HOPS - 1)], TRUSTED).name == "203.0.113.7"


@pytest.mark.rule("FO-2", "ST-5")
def test_a_proxy_that_writes_ports_keeps_callers_apart(fresh_lab: Callable[..., Lab]) -> None:
    """Nobody's failures are counted for another address, and the port does not make a new source of the same caller."""
    lab = fresh_lab(f"{PROXIED}[throttle]\nclient_failures = 2\nsource_failures = 3\n")

    def ask(hop: str) -> Answer:
        return lab.post(base("a.b.c"), FORM, ("X-Forwarded-For", hop))

    answers = [ask(f"203.0.113.7:{4711 + n}") for n in range(6)]
    check_refused(answers[-1], "temporarily_unavailable", 429)
    assert lab.event(answers[-1])["source"] == "203.0.113.7"
    check_ec(ask("203.0.113.8:4711"))
    check_ec(ask("[2001:db8::1]:4711"))


@pytest.mark.rule("FO-2")
def test_an_unreadable_hop_is_said_and_locks_nobody_out(fresh_lab: Callable[..., Lab]) -> None:
    """The log names the proxy and what it wrote; whoever comes that way with a good signature is served."""
    lab = fresh_lab(f"{PROXIED}[throttle]\nclient_failures = 2\nsource_failures = 3\n")
    unknown = ("X-Forwarded-For", "unknown")
    for _ in range(8):
        answer = lab.post(base("a.b.c"), FORM, unknown)
    check_refused(answer, "temporarily_unavailable", 429)
    assert lab.event(answer)["source"] == "127.0.0.1"
    check_ok(lab.post(base(lab.party.assertion()), FORM, unknown))
    check_ec(lab.post(base("a.b.c"), FORM, ("X-Forwarded-For", "203.0.113.8")))
    (line, *_) = [line for line in lab.lines() if b'"proxy.unreadable"' in line]
    assert b"127.0.0.1 has unknown" in line


@pytest.mark.rule("FO-2")
def test_the_forwarded_field_is_not_read(fresh_lab: Callable[..., Lab]) -> None:
    """RFC 7239 says the same in other words; here X-Forwarded-For alone counts."""
    lab = fresh_lab(PROXIED)
    answer = lab.post(base("a.b.c"), FORM, ("Forwarded", 'for="203.0.113.7:4711"'))
    assert lab.event(answer)["source"] == "127.0.0.1"


# Its id and its trace


@pytest.mark.rule("OP-13")
def test_id_and_trace_come_from_a_trusted_proxy(fresh_lab: Callable[..., Lab]) -> None:
    """Both stand in the answer and in the log line, of a token and of a refusal."""
    lab = fresh_lab(PROXIED)
    for number, body in enumerate((base(lab.party.assertion()), base("a.b.c"))):
        name = f"7f3c-{number}.edge/1"
        answer = lab.post(body, FORM, ("X-Request-ID", name), ("traceparent", TRACEPARENT))
        assert answer.request_id == name
        assert answer.header("traceparent") == TRACEPARENT
        event = lab.event(answer)
        assert (event["trace_id"], event["span_id"]) == (TRACE, SPAN)
        assert event["event"] == ("token.refused" if number else "token.issued")
    answer = lab.get("/.well-known/jwks.json", ("X-Request-ID", "jwks-1"), ("traceparent", TRACEPARENT))
    assert (answer.request_id, answer.header("traceparent")) == ("jwks-1", TRACEPARENT)


@pytest.mark.rule("OP-13")
@pytest.mark.parametrize("proxies", ["[]", '["192.0.2.1"]'])
def test_id_and_trace_of_anybody_else_are_ignored(fresh_lab: Callable[..., Lab], proxies: str) -> None:
    """A caller does not choose the id that his own request is found by."""
    lab = fresh_lab(f"[server]\ntrusted_proxies = {proxies}\n")
    answer = lab.post(base("a.b.c"), FORM, ("X-Request-ID", "mine"), ("traceparent", TRACEPARENT))
    assert answer.request_id != "mine"
    assert answer.header("traceparent") is None
    assert lab.event(answer).keys().isdisjoint({"trace_id", "span_id"})


@pytest.mark.rule("OP-13", "OPS-03")
def test_an_id_that_is_none_is_replaced(fresh_lab: Callable[..., Lab]) -> None:
    """Too long, not ASCII, or with characters that mean something elsewhere: groat's own id stands instead."""
    lab = fresh_lab(PROXIED)
    values = ("", "a b", "x" * 129, "a;b", 'a"b', "<script>", "a,b", "caf\u00e9", "$(id)", "a\tb", "\u2028")
    for value in values:
        answer = lab.post(base("a.b.c"), FORM, ("X-Request-ID", value))
        assert re.fullmatch(r"[A-Za-z0-9_-]{16,64}", answer.request_id)
        assert lab.event(answer)["request_id"] == answer.request_id
    twice = lab.post(base("a.b.c"), FORM, ("X-Request-ID", "one"), ("X-Request-ID", "two"))
    assert twice.request_id not in ("one", "two")


@pytest.mark.rule("OP-13")
@pytest.mark.parametrize(
    ("value", "good"),
    [
        (TRACEPARENT, True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-more", True),
        (f"cc-{TRACE}-{SPAN}-01.more", False),
        (f"cc-{TRACE}-{SPAN}-01more", False),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"00-{TRACE}-{SPAN}-01-", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE[1:]}-{SPAN}-01", False),
        (f"0-{TRACE}-{SPAN}-01", False),
        (f"{TRACEPARENT},{TRACEPARENT}", False),
        ("", False),
        ("x" * 30_000, False),
    ],
)
def test_the_grammar_of_traceparent(value: str, good: bool) -> None:
    """W3C Trace Context 3.2.2: lower-case hex, no zeros alone, version 00 ends there, later ones may go on."""
    trace = read_trace(value.encode())
    assert (trace is not None) is good
    if trace is not None:
        assert trace.header == b"00-%b-%b-%b" % (TRACE.encode(), SPAN.encode(), value[53:55].encode())


@pytest.mark.rule("OP-13", "H06")
@given(
    st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}", fullmatch=True)
)
@settings(max_examples=200, deadline=None)
def test_any_traceparent_is_read_or_ignored(value: bytes) -> None:
    """What is taken over is 55 characters of its alphabet."""
    trace = read_trace(value)
    assert trace is None or re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace.header)


@pytest.mark.rule("OP-13")
def test_an_id_is_no_key_to_anything(fresh_lab: Callable[..., Lab]) -> None:
    """The same id twice is two requests: both are served, and both are in the log."""
    lab = fresh_lab(PROXIED)
    party = Party("billing", lab.party.key)
    for _ in range(2):
        check_ok(lab.post(base(party.assertion()), FORM, ("X-Request-ID", "the-same-id-twice")))
    assert sum(b'"the-same-id-twice"' in line for line in lab.lines()) == 2
