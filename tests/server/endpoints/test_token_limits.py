"""AS-TE-29 to 32: limits, broken callers, and the form of every answer and log line."""

import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from groat.protocol.jwk import generate_private_key
from groat.server import operations
from groat.server.http import forms
from tests.server.builders import STOCK, base, decoded
from tests.server.lab import DEFAULTS, Lab
from tests.server.wire import FORM, Answer, Connection, check_ec, check_ok, check_private_json, check_refused, raw, send

BOTH = {"orders": ["orders:read", "orders:write"], "stock": ["stock:read"]}


@pytest.mark.rule("AS-TE-29", "H01")
def test_a_body_over_the_limit(lab: Lab) -> None:
    """64 KiB pass, one byte more is 413 and closes, declared or chunked, and the server goes on."""
    good = base(lab.party.assertion())
    room = forms.MAX_BODY_BYTES - len(good) - len(b"&pad=")
    check_ok(lab.post(good + b"&pad=" + b"x" * room))
    body = base(lab.party.assertion()) + b"&pad=" + b"x" * (forms.MAX_BODY_BYTES - 100)
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
    monkeypatch.setattr(forms, "BODY_SECONDS", 0.2)
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
@pytest.mark.parametrize("path", ["/token/", "/Token", "/TOKEN", "//token", "/", "/token/x", "/token%00"])
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

    monkeypatch.setattr("groat.server.endpoints.token.decide_grant", bug)
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
def test_every_refusal_is_logged_once_with_its_id(fresh_lab: Callable[..., Lab]) -> None:
    """The request id of the answer finds exactly one line, which has a reason, the status and the code."""
    lab = fresh_lab()
    for answer in _requests(lab):
        event = lab.event(answer)
        assert event["event"] == ("request.refused" if answer.status == 404 else "token.refused")
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
