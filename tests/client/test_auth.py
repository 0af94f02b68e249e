"""The auth flow: where the token goes, what a 401 and a 403 cause, over both libraries and both ways."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from groat.client import ClientError, InsufficientScope, MachineClient, OriginNotAllowed, raise_for_scope
from groat.client.origin import allowed_origins, parse_origin, show_origin
from groat.protocol.errors import ConfigError

from .conftest import Call, MakeMachine
from .servers import INVALID_TOKEN, Api, AuthorizationServer, Reply, Seen, Server


@pytest.mark.rule("CL-19")
def test_bearer_header(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """The token goes into the Authorization header, and nowhere else; it is kept for the next request."""
    auth = machine.auth(resource=api.url, scopes=["orders:read"])
    for _ in range(3):
        assert call(auth, "POST", f"{api.url}/orders?x=1", json={"a": 1}).json()["scope"] == "orders:read"
    (token,) = issuer.issued
    assert api.tokens == [token] * 3
    for request in api.seen:
        assert token not in request.target
        assert token.encode() not in request.body
        assert [name for name, value in request.headers if token in value] == ["Authorization"]


@pytest.mark.rule("CL-20")
def test_opaque_token_works(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """A token that is no JWT goes through as it is."""
    issuer.members["access_token"] = "abc"
    api.script.append(Reply(200, {}))
    assert call(machine.auth(api.url), "GET", f"{api.url}/").status_code == 200
    assert api.tokens == ["abc"]


@pytest.mark.rule("CL-15")
def test_refused_token_is_replaced(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """A 401 invalid_token costs one new token and one repetition, with the whole body."""
    auth = machine.auth(api.url)
    call(auth, "GET", f"{api.url}/")
    api.revoked |= issuer.issued.keys()
    response = call(auth, "POST", f"{api.url}/", content=b"x" * 1000)
    assert response.json()["bytes"] == 1000
    assert len(issuer.token_requests) == 2
    assert len(api.seen) == 3
    assert api.tokens[1] != api.tokens[2]


@pytest.mark.rule("CL-15")
def test_then_gives_up(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """An API that refuses every token sees exactly two calls, and the caller sees its 401."""
    auth = machine.auth(api.url)
    call(auth, "GET", f"{api.url}/")
    api.scripted_path = "/no"
    api.script += [INVALID_TOKEN] * 5
    assert call(auth, "GET", f"{api.url}/no").status_code == 401
    assert len(api.seen_at("/no")) == 2
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (401, 'Bearer realm="api"'),
        (401, 'Bearer error="invalid_request"'),
        (401, 'Bearer error="insufficient_scope"'),
        (401, 'Basic error="invalid_token"'),
        (401, 'Bearer realm="error=invalid_token"'),
        (401, None),
        (400, 'Bearer error="invalid_token"'),
        (403, 'Bearer error="invalid_token"'),
        (200, 'Bearer error="invalid_token"'),
        (503, None),
    ],
)
def test_other_answers_pass(
    machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call, status: int, challenge: str | None
) -> None:
    """Whatever is not a 401 invalid_token of the Bearer scheme is handed through at once."""
    api.script.append(Reply(status, {}, {"WWW-Authenticate": challenge} if challenge else {}))
    assert call(machine.auth(api.url), "GET", f"{api.url}/").status_code == status
    assert (len(api.seen), len(issuer.token_requests)) == (1, 1)


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer error="invalid_token"',
        "bearer error=invalid_token",
        'BEARER realm="a, b", Error="invalid_token", error_description="it \\"expired\\""',
        'Basic realm="x", Bearer realm="y", error="invalid_token"',
        'Negotiate abc==, Bearer error="invalid_token"',
    ],
)
def test_challenges_understood(machine: MachineClient, api: Api, call: Call, challenge: str) -> None:
    """The challenge is read as RFC 9110 writes it: any case, several schemes, quoted or not."""
    api.script.append(Reply(401, {}, {"WWW-Authenticate": challenge}))
    assert call(machine.auth(api.url), "GET", f"{api.url}/").status_code == 200
    assert len(api.seen) == 2


@pytest.mark.rule("CL-15")
def test_streamed_body_is_not_resent(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """A body that was a stream is gone: the 401 is the answer, and the next request gets a new token."""

    def parts() -> Iterator[bytes]:
        yield from (b"one", b"two")

    async def async_parts() -> AsyncIterator[bytes]:
        for part in parts():
            yield part

    auth = machine.auth(api.url)
    api.script.append(INVALID_TOKEN)
    assert call(auth, "POST", f"{api.url}/", content=async_parts() if call.is_async else parts()).status_code == 401
    assert [request.body for request in api.seen] == [b"onetwo"]
    assert len(issuer.token_requests) == 1
    assert call(auth, "GET", f"{api.url}/").status_code == 200
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-15")
def test_only_the_refused_token_is_dropped(make: MakeMachine, issuer: AuthorizationServer, api: Api) -> None:
    """Twenty requests that are refused with one old token cause one new token, not twenty."""
    client = make()
    auth = client.auth(api.url)
    client.token(api.url)
    api.revoked |= issuer.issued.keys()
    barrier = threading.Barrier(20)

    def send(_: int) -> int:
        with httpx2.Client(auth=auth) as http:
            barrier.wait(20)
            return http.get(f"{api.url}/").status_code

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(send, range(20))) == [200] * 20
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-16")
def test_insufficient_scope(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """A 403 causes one call, comes through untouched, and tells the scopes it wants."""
    challenge = 'Bearer realm="api", error="insufficient_scope", scope="orders:write orders:read"'
    api.script.append(Reply(403, {"why": "scope"}, {"WWW-Authenticate": challenge}))
    response = call(machine.auth(api.url), "GET", f"{api.url}/")
    assert (response.status_code, response.json()) == (403, {"why": "scope"})
    assert (len(api.seen), len(issuer.token_requests)) == (1, 1)
    with pytest.raises(InsufficientScope, match="orders:write orders:read") as refused:
        raise_for_scope(response)
    assert refused.value.required == ("orders:read", "orders:write")


@pytest.mark.rule("CL-16")
@pytest.mark.parametrize(
    ("status", "challenge", "required"),
    [
        (403, 'Bearer error="insufficient_scope"', ()),
        (403, 'Bearer error="insufficient_scope", scope="a \x7f b"', ("a", "b")),
        (403, 'Bearer error="invalid_token", scope="a"', None),
        (403, 'DPoP error="insufficient_scope", scope="a"', ("a",)),
        (403, 'Bearer realm="api", DPoP error="insufficient_scope", scope="a"', ("a",)),
        (403, 'Basic error="insufficient_scope", scope="a"', None),
        (403, None, None),
        (401, 'Bearer error="insufficient_scope", scope="a"', None),
        (200, None, None),
    ],
)
def test_raise_for_scope(status: int, challenge: str | None, required: tuple[str, ...] | None) -> None:
    """Only a 403 insufficient_scope of a scheme of ours raises; nameless scopes are an empty tuple."""
    response = httpx2.Response(status, headers={"WWW-Authenticate": challenge} if challenge else {})
    if required is None:
        raise_for_scope(response)
    else:
        with pytest.raises(InsufficientScope) as refused:
            raise_for_scope(response)
        assert refused.value.required == required


@pytest.mark.rule("CL-19")
def test_redirect_to_another_origin(machine: MachineClient, api: Api, call: Call) -> None:
    """Along a redirect to another host the token stays behind."""
    with Server() as other:
        api.script.append(Reply(302, headers={"Location": f"{other.url}/elsewhere"}))
        response = call(machine.auth(api.url), "GET", f"{api.url}/", follow_redirects=True)
        assert response.status_code == 404
        (request,) = other.seen
        assert request.header("authorization") is None
        assert "opaque" not in str(request)


@pytest.mark.rule("CL-19", "CL-15")
def test_redirect_target_has_no_say(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """A 401 from another origin, reached by a redirect, neither drops the token nor causes a new one."""
    auth = machine.auth(api.url)
    with Server() as other:
        other.script.append(INVALID_TOKEN)
        api.script.append(Reply(307, headers={"Location": f"{other.url}/"}))
        assert call(auth, "GET", f"{api.url}/", follow_redirects=True).status_code == 401
        assert (len(api.seen), len(other.seen)) == (1, 1)
    assert call(auth, "GET", f"{api.url}/").status_code == 200
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-19")
def test_same_origin_redirect(machine: MachineClient, api: Api, call: Call) -> None:
    """Within the origin a redirect keeps the token."""
    api.script.append(Reply(307, headers={"Location": "/next"}))
    assert call(machine.auth(api.url), "GET", f"{api.url}/", follow_redirects=True).status_code == 200
    assert len(set(api.tokens)) == 1 < len(api.tokens)


@pytest.mark.rule("CL-19")
def test_other_origin_is_refused(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """A request to an origin that was not configured fails before it, or a token request, is sent."""
    with Server() as other:
        with pytest.raises(OriginNotAllowed, match=f"{other.url} must not carry this token, which is for {api.url}"):
            call(machine.auth(api.url), "GET", f"{other.url}/")
        assert other.seen == issuer.token_requests == []


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}/", "http://localhost:{port}/", "http://127.0.0.1/"])
def test_nearly_the_same_origin(machine: MachineClient, api: Api, call: Call, url: str) -> None:
    """Scheme, host and port all count."""
    with pytest.raises(OriginNotAllowed):
        call(machine.auth(api.url), "GET", url.format(port=api.url.rpartition(":")[2]))


@pytest.mark.rule("CL-19")
def test_several_origins(machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call) -> None:
    """`origins` replaces the default; a resource that is no URL needs it."""
    auth = machine.auth(resource="urn:example:orders", origins=["https://orders.example", f"{api.url}/v1"])
    assert call(auth, "GET", f"{api.url}/v1/orders").status_code == 200
    assert issuer.token_requests[0].form["resource"] == "urn:example:orders"
    with pytest.raises(OriginNotAllowed):
        call(machine.auth(api.url, origins="https://orders.example"), "GET", f"{api.url}/")


@pytest.mark.rule("CL-19", "CL-02")
@pytest.mark.parametrize(
    ("resource", "origins"),
    [
        ("urn:example:orders", None),
        ("orders", None),
        (None, None),
        ("https://orders.example", []),
        ("http://orders.example", None),
        ("https://orders.example", ["http://orders.example"]),
        ("https://user@orders.example", None),
        ("https://örders.example", None),
        ("https://good.example\\@evil.example", None),
        ("https://good.example\\.evil.example", None),
        ("https://orders.example:port", None),
        ("ftp://orders.example", None),
        ("https://", None),
        ("https://[::1", None),
    ],
)
def test_unsafe_origin(machine: MachineClient, resource: str | None, origins: list[str] | None) -> None:
    """Without a safe origin there is no auth object."""
    with pytest.raises(ConfigError):
        machine.auth(resource=resource, origins=origins)


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize(
    ("url", "origin", "shown"),
    [
        ("https://Orders.Example/x?y", ("https", "orders.example", 443), "https://orders.example"),
        ("https://orders.example:443", ("https", "orders.example", 443), "https://orders.example"),
        ("https://orders.example:8443", ("https", "orders.example", 8443), "https://orders.example:8443"),
        ("http://[::1]:3002/", ("http", "::1", 3002), "http://[::1]:3002"),
        ("http://localhost", ("http", "localhost", 80), "http://localhost"),
    ],
)
def test_origin_of_a_url(url: str, origin: tuple[str, str, int], shown: str) -> None:
    """Default ports and the case of the host do not matter."""
    assert parse_origin(url) == origin
    assert show_origin(origin) == shown


@pytest.mark.rule("CL-02")
def test_listed_http_host() -> None:
    """Plain http needs the host to be listed by name."""
    hosts = frozenset({"orders.internal"})
    assert allowed_origins("http://orders.internal", None, hosts) == {("http", "orders.internal", 80)}


@pytest.mark.rule("CL-17")
def test_token_failure_reaches_the_request(
    machine: MachineClient, issuer: AuthorizationServer, api: Api, call: Call
) -> None:
    """When no token can be had, the request fails with our error and the API sees nothing."""
    issuer.script.append(Reply(401, {"error": "invalid_client"}))
    with pytest.raises(ClientError, match="invalid_client"):
        call(machine.auth(api.url), "GET", f"{api.url}/")
    assert api.seen == []


@pytest.mark.rule("CL-14")
def test_async_client_is_not_blocked(make: MakeMachine, issuer: AuthorizationServer, api: Api) -> None:
    """While a token is fetched the event loop goes on."""
    client = make()
    issuer.gate = gate = threading.Event()

    async def scene() -> int:
        async with httpx2.AsyncClient(auth=client.auth(api.url)) as http:
            request = asyncio.create_task(http.get(f"{api.url}/"))
            while len(issuer.token_requests) < 1:  # only a running loop gets here
                await asyncio.sleep(0.005)
            gate.set()
            return (await request).status_code

    assert asyncio.run(scene()) == 200


def test_repr(machine: MachineClient, api: Api) -> None:
    """The auth object says what it is for."""
    assert repr(machine.auth(api.url, "a")) == f"MachineAuth(client=billing resource={api.url} scope=a)"


@pytest.mark.rule("CL-19")
def test_callers_own_header_is_replaced(machine: MachineClient, api: Api, call: Call) -> None:
    """An Authorization header that was set by hand gives way to the token."""
    call(machine.auth(api.url), "GET", f"{api.url}/", headers={"authorization": "Basic eDp5"})
    (request,) = api.seen
    assert (request.header("authorization") or "").startswith("Bearer ")


def test_recorder_counts_repeats() -> None:
    """The recorder itself notices a header that is sent twice."""
    twice: Any = Seen("GET", "/", (("A", "1"), ("a", "2")), b"")
    with pytest.raises(AssertionError):
        twice.header("a")
