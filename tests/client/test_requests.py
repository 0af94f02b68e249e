"""MachineAuth for requests: the same as the auth object for httpx2 and httpx does, over real sockets."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from groat.client import ClientError, InsufficientScope, MachineClient, OriginNotAllowed, raise_for_scope
from groat.client.requests import MachineAuth
from groat.protocol.errors import ConfigError

from .conftest import MakeMachine
from .servers import INVALID_TOKEN, Api, AuthorizationServer, Reply, Server


@pytest.fixture
def session(machine: MachineClient, api: Api) -> Iterator[requests.Session]:
    with requests.Session() as running:
        running.auth = MachineAuth(machine, resource=api.url, scopes=["orders:read"])
        yield running


@pytest.mark.rule("CL-19")
def test_bearer_header(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """The token goes into the Authorization header, and nowhere else; it is kept for the next request."""
    for _ in range(3):
        assert session.post(f"{api.url}/orders?x=1", json={"a": 1}).json()["scope"] == "orders:read"
    (token,) = issuer.issued
    assert api.tokens == [token] * 3
    for request in api.seen:
        assert token not in request.target
        assert token.encode() not in request.body
        assert [name for name, value in request.headers if token in value] == ["Authorization"]


def test_without_a_session(machine: MachineClient, api: Api) -> None:
    """An argument of one request."""
    assert requests.get(api.url, auth=MachineAuth(machine, api.url), timeout=20).status_code == 200


BODIES: dict[str, tuple[Any, int]] = {
    # Bodies that can be sent again, and how many bytes the server must then have got.
    "bytes": (b"x" * 1000, 1000),
    "text": ("x" * 1000, 1000),
    "form": ({"a": "1"}, 3),
    "nothing": (None, 0),
    "memory": (io.BytesIO(b"x" * 70), 70),
    "file": (Path(__file__), Path(__file__).stat().st_size - 9),
}


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize("kind", BODIES)
def test_refused_token_is_replaced(session: requests.Session, issuer: AuthorizationServer, api: Api, kind: str) -> None:
    """A 401 invalid_token costs one new token and one repetition, with the whole body from where it began."""
    session.get(api.url)
    api.revoked |= issuer.issued.keys()
    body, length = BODIES[kind]
    with ExitStack() as stack:
        if isinstance(body, Path):
            body = stack.enter_context(body.open("rb"))
            body.seek(9)
        response = session.post(f"{api.url}/", data=body)
    assert response.json()["bytes"] == length
    assert len(issuer.token_requests) == 2
    assert [len(request.body) for request in api.seen] == [0, length, length]
    assert api.tokens[1] != api.tokens[2]
    assert [one.status_code for one in response.history] == [401]
    assert session.get(api.url).status_code == 200
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-15")
def test_then_gives_up(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """An API that refuses every token sees exactly two calls, and the caller sees its 401."""
    session.get(api.url)
    api.scripted_path = "/no"
    api.script += [INVALID_TOKEN] * 5
    assert session.get(f"{api.url}/no").status_code == 401
    assert len(api.seen_at("/no")) == 2
    assert len(issuer.token_requests) == 2


class Unseekable(io.RawIOBase):
    """A pipe: it says where it is and goes nowhere."""

    def __init__(self) -> None:
        self.parts = [b"one", b"two"]

    def read(self, _: int = -1) -> bytes:
        return self.parts.pop(0) if self.parts else b""

    def tell(self) -> int:
        return 0

    def seek(self, *_: Any) -> int:
        raise OSError("not seekable")


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize("kind", ["generator", "pipe"])
def test_streamed_body_is_not_resent(
    session: requests.Session, issuer: AuthorizationServer, api: Api, kind: str
) -> None:
    """A body that was a stream is gone: the 401 is the answer, and the next request gets a new token."""
    body: Any = iter((b"one", b"two")) if kind == "generator" else Unseekable()
    api.script.append(INVALID_TOKEN)
    assert session.post(api.url, data=body).status_code == 401
    assert [request.body for request in api.seen] == [b"onetwo"]
    assert len(issuer.token_requests) == 1
    assert session.get(api.url).status_code == 200
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (401, 'Bearer realm="api"'),
        (401, 'Bearer error="invalid_request"'),
        (401, 'Basic error="invalid_token"'),
        (401, None),
        (400, 'Bearer error="invalid_token"'),
        (403, 'Bearer error="invalid_token"'),
        (403, 'Bearer error="insufficient_scope", scope="orders:write"'),
        (503, None),
    ],
)
def test_other_answers_pass(
    session: requests.Session, issuer: AuthorizationServer, api: Api, status: int, challenge: str | None
) -> None:
    """Whatever is not a 401 invalid_token of the Bearer scheme is handed through at once."""
    api.script.append(Reply(status, {}, {"WWW-Authenticate": challenge} if challenge else {}))
    assert session.get(api.url).status_code == status
    assert (len(api.seen), len(issuer.token_requests)) == (1, 1)


@pytest.mark.rule("CL-16")
def test_insufficient_scope(session: requests.Session, api: Api) -> None:
    """raise_for_scope reads the answers of requests as well."""
    challenge = 'Bearer realm="api", error="insufficient_scope", scope="orders:write orders:read"'
    api.script.append(Reply(403, {}, {"WWW-Authenticate": challenge, "X-Request-Id": "r1"}))
    with pytest.raises(InsufficientScope, match="r1") as refused:
        raise_for_scope(session.get(api.url))
    assert refused.value.required == ("orders:read", "orders:write")
    raise_for_scope(session.get(api.url))


@pytest.mark.rule("CL-15")
def test_only_the_refused_token_is_dropped(make: MakeMachine, issuer: AuthorizationServer, api: Api) -> None:
    """Twenty requests of as many threads, refused with one old token, cause one new token, not twenty."""
    client = make()
    auth = MachineAuth(client, api.url)
    client.token(api.url)
    api.revoked |= issuer.issued.keys()
    barrier = threading.Barrier(20)

    def send(_: int) -> int:
        barrier.wait(20)
        return requests.get(api.url, auth=auth, timeout=20).status_code

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(send, range(20))) == [200] * 20
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_origin(session: requests.Session, api: Api, status: int) -> None:
    """Along a redirect to another host the token stays behind."""
    with Server() as other:
        api.script.append(Reply(status, headers={"Location": f"{other.url}/elsewhere"}))
        assert session.post(api.url, data=b"x").status_code == 404
        (request,) = other.seen
        assert request.header("authorization") is None
        assert "opaque" not in str(request)


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize(
    "target", ["https://127.0.0.1:{port}/", "http://localhost:{port}/", "//localhost:{port}/", "https://127.0.0.1/"]
)
def test_the_token_is_off_before_a_redirect_leaves(session: requests.Session, api: Api, target: str) -> None:
    """Whatever requests would think of the way, such as http to https of one host."""
    location = target.format(port=api.url.rpartition(":")[2])
    api.script.append(Reply(302, headers={"Location": location}))
    response = session.get(api.url, allow_redirects=False)
    assert response.next is not None
    assert "Authorization" not in response.next.headers


@pytest.mark.rule("CL-19")
def test_a_redirect_after_the_repetition(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """Within the origin it is followed with the new token, to another without any."""
    with Server() as other:
        for place in ("/next", f"{other.url}/"):
            api.script += [INVALID_TOKEN, Reply(307, headers={"Location": place})]
            session.post(api.url, data=b"x")
        assert [request.header("authorization") for request in other.seen] == [None]
    assert api.tokens[1] == api.tokens[2]
    assert len(set(api.tokens)) == len(issuer.token_requests) == 3


@pytest.mark.rule("CL-19", "CL-15")
def test_redirect_target_has_no_say(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """A 401 from another origin, reached by a redirect, neither drops the token nor causes a new one."""
    with Server() as other:
        other.script.append(INVALID_TOKEN)
        api.script.append(Reply(307, headers={"Location": f"{other.url}/"}))
        assert session.get(api.url).status_code == 401
        assert (len(api.seen), len(other.seen)) == (1, 1)
    assert session.get(api.url).status_code == 200
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-15")
def test_one_repetition_for_all_redirects(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """A chain of redirects that refuses at each step costs one new token, not one for each."""
    api.script += [INVALID_TOKEN, Reply(307, headers={"Location": "/"}), INVALID_TOKEN]
    assert session.get(api.url).status_code == 401
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}/", "http://localhost:{port}/", "http://127.0.0.1/"])
def test_other_origin_is_refused(session: requests.Session, issuer: AuthorizationServer, api: Api, url: str) -> None:
    """Scheme, host and port all count; nothing is sent, no token is asked for."""
    with pytest.raises(OriginNotAllowed, match="must not carry this token"):
        session.get(url.format(port=api.url.rpartition(":")[2]))
    assert api.seen == issuer.token_requests == []


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize(
    "trick", ["http://good.example\\@{host}/", "http://{host}\\.good.example/", "http://a@{host}:1/"]
)
def test_a_url_that_is_read_in_two_ways(machine: MachineClient, api: Api, trick: str) -> None:
    """Whatever requests makes of it, the token goes where it may or nowhere."""
    host = api.url.removeprefix("http://")
    with pytest.raises((OriginNotAllowed, requests.exceptions.RequestException)):
        requests.get(trick.format(host=host), auth=MachineAuth(machine, "http://localhost:9"), timeout=5)
    assert api.seen == []


@pytest.mark.rule("CL-19")
def test_several_origins(machine: MachineClient, issuer: AuthorizationServer, api: Api) -> None:
    """`origins` replaces the default; a resource that is no URL needs it."""
    auth = MachineAuth(machine, resource="urn:example:orders", origins=["https://orders.example", f"{api.url}/v1"])
    assert requests.get(f"{api.url}/v1/orders", auth=auth, timeout=20).status_code == 200
    assert issuer.token_requests[0].form["resource"] == "urn:example:orders"
    with pytest.raises(ConfigError, match="the resource is no URL"):
        MachineAuth(machine, resource="urn:example:orders")
    with pytest.raises(ConfigError, match="not a scope"):
        MachineAuth(machine, resource=api.url, scopes=["a b"])


@pytest.mark.rule("CL-17")
def test_token_failure_reaches_the_request(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """When no token can be had, the request fails with our error and the API sees nothing."""
    issuer.script.append(Reply(401, {"error": "invalid_client"}))
    with pytest.raises(ClientError, match="invalid_client"):
        session.get(api.url)
    assert api.seen == []


@pytest.mark.rule("CL-17")
def test_no_token_for_the_repetition(session: requests.Session, issuer: AuthorizationServer, api: Api) -> None:
    """Where the second token cannot be had, that is the error: nobody is told a 401 that would be over by now."""
    session.get(api.url)
    api.revoked |= issuer.issued.keys()
    issuer.script.append(Reply(401, {"error": "invalid_client"}))
    with pytest.raises(ClientError, match="invalid_client"):
        session.get(api.url)


def test_a_session_of_many_requests_stays_small(session: requests.Session, api: Api) -> None:
    """Nothing gathers in the session, whose hooks stay its own."""
    for _ in range(3):
        session.get(api.url)
    assert session.hooks == {"response": []}


def test_repr(machine: MachineClient, api: Api) -> None:
    """The auth object says what it is for."""
    assert repr(MachineAuth(machine, api.url, "a")) == f"MachineAuth(client=billing resource={api.url} scope=a)"
