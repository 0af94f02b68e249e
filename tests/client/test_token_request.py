"""The token request on the wire, and what happens when it fails."""

import asyncio
import threading
import time
from email.utils import formatdate
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import (
    ClientError,
    MachineClient,
    RetryPolicy,
    ServerUnreachable,
    TokenRequestRefused,
    TokenResponseInvalid,
)
from groat.protocol import jose
from groat.protocol.jwk import PrivateKey

from .clocks import EPOCH, Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import AuthorizationServer, Reply, Server


@pytest.mark.rule("CL-06")
@pytest.mark.parametrize("library", [httpx2, httpx])
def test_on_the_wire(make: MakeMachine, issuer: AuthorizationServer, library: Any) -> None:
    """A form in the body, one authentication method, nothing in the URL, no secret, no Authorization."""
    make(http=library.Client).token(resource="https://orders.example/ö", scopes=["b", "a", "b"])
    (request,) = issuer.token_requests
    assert (request.method, request.target) == ("POST", "/token")
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert request.header("accept") == "application/json"
    assert request.header("accept-encoding") == "identity"
    assert request.header("authorization") is None
    assert request.header("cookie") is None
    form = request.form
    assert form.pop("client_assertion").count(".") == 2
    assert form == {
        "grant_type": "client_credentials",
        "client_id": CLIENT_ID,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "scope": "a b",
        "resource": "https://orders.example/ö",
    }


@pytest.mark.rule("CL-06")
def test_nothing_asked_for(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """Without resource and scopes the form has no such fields, rather than empty ones."""
    machine.token()
    assert issuer.token_requests[0].form.keys().isdisjoint({"scope", "resource"})


@pytest.mark.rule("CL-06")
def test_no_cookies(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """A cookie of the authorization server is not brought back."""
    issuer.script.append(Reply(503, headers={"Set-Cookie": "id=1; Path=/"}))
    machine.token()
    assert [request.header("cookie") for request in issuer.token_requests] == [None, None]


@pytest.mark.rule("CL-07", "C06")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300])
def test_no_redirects(make: MakeMachine, issuer: AuthorizationServer, status: int) -> None:
    """A redirect is an error at once, also with a client that follows them; the other host sees nothing."""
    with Server() as other:
        issuer.script += [Reply(status, headers={"Location": f"{other.url}/token"})] * 2
        with pytest.raises(TokenResponseInvalid, match=f"redirects .{status}.") as refused:
            make().token()
        assert refused.value.status == status
        with httpx2.Client(follow_redirects=True) as follower, pytest.raises(TokenResponseInvalid):
            make(http=follower).token()
        assert other.seen == []
        assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-17", "C04")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "invalid_client"),
        (400, "invalid_client"),
        (400, "invalid_request"),
        (400, "invalid_grant"),
        (400, "unauthorized_client"),
        (400, "unsupported_grant_type"),
        (400, "invalid_scope"),
        (400, "invalid_target"),
        (403, "access_denied"),
        (413, "invalid_request"),
    ],
)
def test_oauth_error(machine: MachineClient, issuer: AuthorizationServer, status: int, code: str) -> None:
    """An OAuth error becomes a typed exception after exactly one request."""
    issuer.script.append(Reply(status, {"error": code, "error_description": "No.", "more": 1}))
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token(scopes="orders:write")
    error = refused.value
    assert (error.code, error.description, error.status, error.transient) == (code, "No.", status, False)
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-17")
@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("invalid_client", f"groat client key list {CLIENT_ID}"),
        ("invalid_scope", f"groat client update {CLIENT_ID} --allow API=SCOPE,SCOPE with all"),
        ("invalid_target", f"groat client show {CLIENT_ID}"),
        ("brand_new_error", ""),
    ],
)
def test_hints(machine: MachineClient, issuer: AuthorizationServer, code: str, hint: str) -> None:
    """The hint says what an operator may do next."""
    issuer.script.append(Reply(400, {"error": code}))
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token(scopes="orders:write")
    assert hint in refused.value.hint
    assert str(refused.value).startswith(code)


@pytest.mark.rule("CL-17", "C07")
@pytest.mark.parametrize("status", [400, 401, 404, 408, 418])
@pytest.mark.parametrize(
    "body", ["<html>no</html>", "", b"\xff\xfe", [], {"error": 7}, {"error": ""}, '{"error":"a","error":"b"}'], ids=repr
)
def test_4xx_without_oauth_error(machine: MachineClient, issuer: AuthorizationServer, status: int, body: Any) -> None:
    """A 4xx that is no OAuth error is typed too, and not tried again."""
    issuer.script.append(Reply(status, body))
    with pytest.raises(TokenResponseInvalid, match=f"answered {status} without") as refused:
        machine.token()
    assert refused.value.status == status
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-17", "CL-18", "C07")
def test_html_502(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A gateway's HTML page is a typed error after the retries."""
    issuer.script += [Reply(502, "<html>Bad Gateway</html>")] * 4
    with pytest.raises(ServerUnreachable) as failed:
        machine.token()
    assert (failed.value.status, failed.value.transient) == (502, True)
    assert len(issuer.token_requests) == 4


@pytest.mark.rule("CL-18")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_transient_status(machine: MachineClient, issuer: AuthorizationServer, status: int) -> None:
    """429 and 5xx are tried again, with or without an OAuth error in them."""
    issuer.script += [Reply(status, {"error": "temporarily_unavailable"}), Reply(status)]
    assert machine.token().value in issuer.issued
    assert len(issuer.token_requests) == 3


@pytest.mark.rule("CL-18")
def test_transient_oauth_error_in_the_end(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """When the retries are used up, the last answer is the error."""
    issuer.script += [Reply(503, {"error": "temporarily_unavailable"})] * 4
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token()
    assert (refused.value.code, refused.value.transient) == ("temporarily_unavailable", True)


@pytest.mark.rule("CL-18", "C04")
@pytest.mark.parametrize(
    ("header", "waits"),
    [
        ("2", 2.0),
        ("0", 0.0),
        (formatdate(EPOCH + 7, usegmt=True), 7.0),
        (formatdate(EPOCH - 7, usegmt=True), 0.0),
        ("soon", 0.0),
        ("-3", 0.0),
        ("1e3", 0.0),
        ("٣", 0.0),
        ("9" * 30, 0.0),
    ],
)
def test_retry_after(
    machine: MachineClient, issuer: AuthorizationServer, clock: Clock, header: str, waits: float
) -> None:
    """Retry-After is waited for, in both its forms; nonsense falls back to the backoff (here 0)."""
    raw = header.encode().decode("latin-1")
    issuer.script.append(Reply(503, headers={"Retry-After": raw, "Date": formatdate(EPOCH, usegmt=True)}))
    machine.token()
    assert clock.sleeps == [waits]


@pytest.mark.rule("CL-18")
def test_backoff_grows_with_jitter(make: MakeMachine, issuer: AuthorizationServer, clock: Clock) -> None:
    """Each wait is a random share of a bound that doubles up to its cap; Retry-After is never undercut."""
    clock.random = 0.5
    issuer.script += [Reply(503), Reply(503), Reply(503, headers={"Retry-After": "4"}), Reply(503)]
    make(**clock.options, retry=RetryPolicy(retries=4, base=1.0, cap=3.0)).token()
    assert clock.sleeps == [0.5, 1.0, 4.0 + 1.5, 1.5]


@pytest.mark.rule("CL-18", "C04")
@pytest.mark.parametrize("asked", ["31", "86400"])
def test_total_deadline(machine: MachineClient, issuer: AuthorizationServer, clock: Clock, asked: str) -> None:
    """A wait beyond the total deadline is not begun; the error says how long the server asked for."""
    issuer.script.append(Reply(429, headers={"Retry-After": asked}))
    with pytest.raises(ServerUnreachable) as failed:
        machine.token()
    assert failed.value.retry_after == float(asked)
    assert clock.sleeps == []


@pytest.mark.rule("CL-18")
def test_deadline_adds_up(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """Several waits share one deadline."""
    issuer.script += [Reply(503, headers={"Retry-After": "16"})] * 3
    with pytest.raises(ServerUnreachable):
        machine.token()
    assert clock.sleeps == [16.0]


@pytest.mark.rule("CL-18")
def test_connection_refused(make: MakeMachine, clock: Clock, key: PrivateKey) -> None:
    """Where nobody listens, the error is typed and the attempts are bounded."""
    with Server() as gone:
        url = gone.url
    client = make(issuer=url, **clock.options)
    with pytest.raises(ServerUnreachable, match="ConnectError") as failed:
        client.token()
    assert (failed.value.status, failed.value.transient, len(clock.sleeps)) == (None, True, 3)


@pytest.mark.rule("CL-18", "C07")
@pytest.mark.parametrize("limits", [{"timeout": 1.0}, {"timeout": 60.0, "retry": RetryPolicy(total=1.0)}], ids=str)
def test_slow_body(make: MakeMachine, issuer: AuthorizationServer, limits: dict[str, Any]) -> None:
    """A body that trickles in is cut at the timeout or the total deadline, although each single read is in time."""
    issuer.script.append(Reply(200, {"access_token": "x" * 200, "token_type": "Bearer"}, drip=0.05))
    options = {"token_endpoint": f"{issuer.url}/token", "retry": RetryPolicy(retries=0), **limits}
    began = time.monotonic()
    with pytest.raises(ServerUnreachable, match="too slowly"):
        make(**options).token()
    assert time.monotonic() - began < 8  # all of it would take 12 s


@pytest.mark.rule("CL-18")
def test_silent_server(make: MakeMachine, issuer: AuthorizationServer) -> None:
    """A server that does not answer runs into the timeout, and the next attempt may succeed."""
    issuer.script.append(Reply(200, "{", drip=5.0))
    client = make(timeout=1.0, retry=RetryPolicy(base=0.01), token_endpoint=f"{issuer.url}/token")
    assert client.token().value in issuer.issued
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-18")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_patience_of_the_caller(make: MakeMachine, key: PrivateKey, is_async: bool) -> None:
    """A call ends at the total deadline even if the request hangs where no timeout reaches; the next one is free."""
    signer = HangingOnce(key)
    client = make(key=signer, retry=RetryPolicy(total=2.0))
    with pytest.raises(ServerUnreachable, match=r"no token within 3\.0 s"):
        asyncio.run(client.atoken()) if is_async else client.token()
    assert client.token().value
    signer.release.set()


class HangingOnce:
    """A signer that does not come back from its first call until it is released."""

    algorithm = "ES256"

    def __init__(self, key: PrivateKey) -> None:
        self.kid = key.kid
        self.release = threading.Event()
        self._key = key
        self._calls = 0

    def sign(self, data: bytes, /) -> bytes:
        self._calls += 1
        if self._calls == 1:
            self.release.wait(30)
        return jose.sign(data, self._key)


@pytest.mark.rule("CL-24", "C05")
@pytest.mark.parametrize(
    ("offset", "says"),
    [(-120, "clock is about 120 s ahead of"), (+42, "clock is about 42 s behind"), (2, None), (None, None)],
)
def test_clock_hint(
    machine: MachineClient, issuer: AuthorizationServer, clock: Clock, offset: int | None, says: str | None
) -> None:
    """The Date header is a hint in the error of invalid_client, and changes nothing about the next assertion."""
    headers = {"Date": "nonsense" if offset is None else formatdate(EPOCH + offset, usegmt=True)}
    issuer.script.append(Reply(401, {"error": "invalid_client"}, headers))
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token()
    assert (says in refused.value.hint) if says else ("clock" not in refused.value.hint)
    machine.token()
    assert [claims["iat"] for claims in issuer.claims] == [int(EPOCH)] * 2


@pytest.mark.rule("CL-21")
def test_echoed_assertion_is_masked(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """A server that quotes the assertion does not get it into our error, nor control characters."""

    def echo(request: Any) -> Reply:
        told = f"bad\n\x1b[31m {request.form['client_assertion']}" + " and so on" * 100
        return Reply(400, {"error": "invalid_request", "error_description": told})

    issuer.issue = echo  # type: ignore[method-assign]
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token()
    shown = refused.value.description
    assert "***" in shown
    assert issuer.token_requests[0].form["client_assertion"][:50] not in shown
    assert shown.isprintable()
    assert len(shown) < 400


@pytest.mark.rule("CL-17")
def test_every_error_is_a_client_error() -> None:
    """One except clause catches whatever a call may raise."""
    from groat.client import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    outside = {cls.__name__ for cls in classes if not issubclass(cls, ClientError)}
    assert outside == {"ConfigError", "HttpClientMissing"}
