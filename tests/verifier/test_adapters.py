"""The ASGI middleware and the FastAPI guard: the same bytes for the same request."""

import ast
import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Response, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import groat.verifier.fastapi
from groat.verifier import Caller, ConfigError, Verifier, any_of
from groat.verifier.asgi import App, GroatMiddleware, Message, Receive, Scope, Send, path_inside
from groat.verifier.fastapi import Guard
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.tokens import AUD

SCOPES: Final = {"orders:read": "Read orders", "orders:write": "Change orders"}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """A bare ASGI application that says who called."""
    caller = scope["state"]["caller"]
    assert scope["groat.caller"] is caller
    body = json.dumps({"client": caller.client_id}, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def plain_asgi(verifier: Verifier) -> App:
    return GroatMiddleware(hello, verifier, scopes=["orders:write"])


def with_guard(verifier: Verifier, *, install: bool = True) -> FastAPI:
    app, guard = FastAPI(), Guard(verifier, scopes=SCOPES)
    if install:
        guard.install(app)

    @app.post("/protected", name="posted")
    @app.get("/protected", name="read")
    async def protected(caller: Annotated[Caller, guard("orders:write")]) -> dict[str, str]:
        return {"client": caller.client_id}

    @app.get("/either")
    async def either(caller: Annotated[Caller, guard(any_of("orders:read", "orders:write"))]) -> dict[str, str]:
        return {"client": caller.client_id}

    @app.get("/raw")
    async def raw(caller: Annotated[Caller, guard()]) -> PlainTextResponse:
        return PlainTextResponse(caller.client_id)

    @app.get("/own")
    async def own(caller: Annotated[Caller, guard()], response: Response) -> str:
        response.headers["Cache-Control"] = "private, max-age=5"
        return caller.client_id

    @app.get("/open")
    async def everybody() -> str:
        return "hello"

    @app.websocket("/ws")
    async def ws(socket: WebSocket, caller: Annotated[Caller, guard("orders:read")]) -> None:
        await socket.accept()
        await socket.send_text(caller.client_id)
        await socket.close()

    return app


def without_install(verifier: Verifier) -> FastAPI:
    return with_guard(verifier, install=False)


def answer(
    app: Any, path: str = "/protected", headers: Any = None, method: str = "GET", **options: Any
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://orders.example.com") as client:
            return await client.request(method, path, headers=headers or [], **options)

    return asyncio.run(ask())


def bearer(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")]


Table = dict[str, tuple[int, str | None, str, list[tuple[str, str]]]]


def table(issuer: Issuer) -> Table:
    """id -> status, error code, query, headers."""
    good = issuer.token(scope="orders:write")
    return {
        "good": (200, None, "", bearer(good)),
        "lower case": (200, None, "", [("authorization", f"bearer {good}")]),
        "two spaces": (200, None, "", [("Authorization", f"BEARER  {good}")]),
        "no header": (401, None, "", []),
        "basic": (401, None, "", [("Authorization", "Basic dTpw")]),
        "query": (401, None, f"?access_token={good}", []),
        "query and header": (400, "invalid_request", f"?access_token={good}", bearer(good)),
        "two headers": (400, "invalid_request", "", bearer(good) * 2),
        "scheme alone": (400, "invalid_request", "", [("Authorization", "Bearer")]),
        "two words": (400, "invalid_request", "", [("Authorization", "Bearer a b")]),
        "garbage": (401, "invalid_token", "", bearer("garbage")),
        "expired": (401, "invalid_token", "", bearer(issuer.token(exp=1))),
        "audience": (401, "invalid_token", "", bearer(issuer.token(aud="https://x.example"))),
        "issuer": (401, "invalid_token", "", bearer(issuer.token(iss=issuer.url + "/"))),
        "typ": (401, "invalid_token", "", bearer(issuer.token(typ="JWT"))),
        "unknown kid": (401, "invalid_token", "", bearer(issuer.token(kid="stranger"))),
        "scope": (403, "insufficient_scope", "", bearer(issuer.token(scope="orders:read"))),
    }


CASES: Final = [
    *("good", "lower case", "two spaces", "no header", "basic", "query", "query and header", "two headers"),
    *("scheme alone", "two words", "garbage", "expired", "audience", "issuer", "typ", "unknown kid", "scope"),
]


@pytest.fixture(scope="module")
def rows(running: Issuer) -> Table:
    return table(running)


APPS: Final[list[Callable[[Verifier], Any]]] = [plain_asgi, with_guard, without_install]


@pytest.mark.rule("RS-01", "RS-02", "RS-03", "RS-04", "RS-05", "RS-06", "RS-08", "RS-09", "RS-10", "RS-28", "R19")
@pytest.mark.rule("DEMO-16", "DEMO-17")
@pytest.mark.parametrize("case", CASES)
def test_same_bytes_from_every_adapter(running: Issuer, rows: Table, case: str) -> None:
    """Status, all headers and body are the same from each adapter, and as RFC 6750 wants them."""
    status, code, query, headers = rows[case]
    answers = [answer(app(running.verifier()), "/protected" + query, headers) for app in APPS]
    assert len({without_metadata(each) for each in answers}) == 1
    assert len({tuple(sorted(each.headers.multi_items())) for each in answers[:2]}) == 1
    first = answers[0]
    assert first.status_code == status
    assert first.headers["Cache-Control"] == "no-store"
    if status == 200:
        assert first.json() == {"client": "billing"}
        return
    challenge = parsed_challenge(first.headers)
    assert challenge.get("error") == code
    assert first.json().get("error") == code
    assert challenge.get("scope") == (None if status == 400 else "orders:write")
    assert challenge["resource_metadata"] == METADATA_URL
    if code is None:
        assert set(challenge) == {"realm", "scope", "resource_metadata"}
    assert "eyJ" not in first.text + str(first.headers)


METADATA_URL: Final = AUD.replace("example.com", "example.com/.well-known/oauth-protected-resource")


def without_metadata(got: httpx.Response) -> tuple[Any, ...]:
    """All of an answer but where the metadata are, which a guard names only where it serves them."""
    headers = [
        (name, value.replace(f', resource_metadata="{METADATA_URL}"', "")) for name, value in got.headers.items()
    ]
    return got.status_code, tuple(sorted(headers)), got.content


def test_case_list_is_complete(rows: Table) -> None:
    """Every row of the table is run."""
    assert list(rows) == CASES


QUOTED: Final = r'"[\x20\x21\x23-\x5B\x5D-\x7E]*"'
CHALLENGE: Final = re.compile(rf"Bearer ([a-z_]+={QUOTED})(, [a-z_]+={QUOTED})*")


def parsed_challenge(headers: httpx.Headers) -> dict[str, str]:
    """Parse one challenge strictly: one header, the scheme, quoted parameters, none of them twice (RFC 6750 3)."""
    values = headers.get_list("WWW-Authenticate")
    assert len(values) == 1
    assert CHALLENGE.fullmatch(values[0]), values[0]
    pairs = re.findall(rf"([a-z_]+)=({QUOTED})", values[0])
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name: value[1:-1] for name, value in pairs}


@pytest.mark.rule("RS-07")
@pytest.mark.parametrize("app", APPS, ids=lambda app: app.__name__)
def test_token_in_the_form_body(running: Issuer, app: Callable[[Verifier], Any]) -> None:
    """A token in a form body is no credential."""
    got = answer(app(running.verifier()), method="POST", data={"access_token": running.token(scope="orders:write")})
    assert got.status_code == 401
    assert "error" not in parsed_challenge(got.headers)


@pytest.mark.rule("RS-21", "RS-28", "R17", "DEMO-33")
def test_keys_unavailable(running: Issuer) -> None:
    """Without keys: 503 with Retry-After and no challenge, the same bytes everywhere."""
    with serving() as down:
        down.spoil(JWKS, Answer(status=500))
        answers = [answer(app(down.verifier()), headers=bearer(down.token())) for app in APPS]
    seen = {(a.status_code, tuple(sorted(a.headers.multi_items())), a.content) for a in answers}
    assert len(seen) == 1
    assert answers[0].status_code == 503
    assert int(answers[0].headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answers[0].headers
    assert answers[0].json()["error"] == "temporarily_unavailable"


@pytest.mark.rule("RS-25", "RS-28")
def test_explanations_are_for_development_only(running: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """GROAT_DEV=1 adds a hint to the body; otherwise no cause can be told from another."""
    wrong = [running.token(iss=running.url + "/"), running.token(aud="https://x.example"), "garbage"]
    bodies = {answer(plain_asgi(running.verifier()), headers=bearer(token)).content for token in wrong}
    assert len(bodies) == 1
    monkeypatch.setenv("GROAT_DEV", "1")
    for app in APPS:
        got = answer(app(running.verifier()), headers=bearer(wrong[0]))
        assert got.json()["hint"] == f'iss is not "{running.url}"; they differ by the trailing slash only'
        assert "eyJ" not in got.text


@pytest.mark.rule("RS-26")
def test_cache_control(running: Issuer) -> None:
    """Authorised answers are no-store unless the application says otherwise; open ones are left alone."""
    token = bearer(running.token(scope="orders:write"))
    app = with_guard(running.verifier())
    assert answer(app, "/protected", token).headers["Cache-Control"] == "no-store"
    assert answer(app, "/raw", token).headers["Cache-Control"] == "no-store"
    assert answer(app, "/own", token).headers["Cache-Control"] == "private, max-age=5"
    assert "Cache-Control" not in answer(app, "/open").headers
    assert "Cache-Control" not in answer(app, "/open", token).headers

    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"private")]})
        await send({"type": "http.response.body", "body": b""})

    wrapped = GroatMiddleware(own, running.verifier())
    assert answer(wrapped, headers=token).headers.get_list("Cache-Control") == ["private"]


def test_any_of_in_a_guard(running: Issuer) -> None:
    """One of several scopes is enough where the endpoint says so, and the challenge names them."""
    app = with_guard(running.verifier())
    assert answer(app, "/either", bearer(running.token(scope="orders:read"))).status_code == 200
    refused = answer(app, "/either", bearer(running.token(scope="other")))
    assert refused.status_code == 403
    assert parsed_challenge(refused.headers)["scope"] == "orders:read orders:write"


def test_guard_shows_in_openapi(running: Issuer) -> None:
    """/docs knows the client credentials flow, its scopes and which endpoint needs which."""
    document = with_guard(running.verifier()).openapi()
    flow = document["components"]["securitySchemes"]["groat"]["flows"]["clientCredentials"]
    assert flow == {"tokenUrl": running.url + "/token", "scopes": SCOPES}
    assert document["paths"]["/protected"]["get"]["security"] == [{"groat": ["orders:write"]}]
    assert document["paths"]["/either"]["get"]["security"] == [{"groat": ["orders:read", "orders:write"]}]
    assert "security" not in document["paths"]["/open"]["get"]
    assert "parameters" not in document["paths"]["/protected"]["get"]
    other = Guard(running.verifier(), scopes=SCOPES, token_url="https://x.example/t", scheme_name="mine")
    app = FastAPI()

    @app.get("/")
    async def root(caller: Annotated[Caller, other()]) -> str:
        return caller.client_id

    schemes = app.openapi()["components"]["securitySchemes"]
    assert schemes["mine"]["flows"]["clientCredentials"]["tokenUrl"] == "https://x.example/t"


@pytest.mark.rule("RS-16")
def test_unknown_scopes_are_found_at_once(running: Issuer) -> None:
    """A misspelt or malformed scope is an error when the application is built."""
    guard = Guard(running.verifier(), scopes=SCOPES)
    for scopes in (["orders:raed"], [any_of("orders:read", "x")], [any_of("orders:read"), "orders:read"]):
        with pytest.raises(ConfigError):
            guard(*scopes)
    with pytest.raises(ConfigError):
        Guard(running.verifier(), scopes={"two words": ""})
    for wrong in ("orders:read", ['a"b'], ["a b"], [""], any_of("a\\b")):
        with pytest.raises(ConfigError):
            GroatMiddleware(hello, running.verifier(), scopes=wrong)


def test_guard_for_the_whole_application(running: Issuer) -> None:
    """Given as a dependency of the application, the guard covers every endpoint."""
    guard = Guard(running.verifier(), scopes=SCOPES)
    app = FastAPI(dependencies=[guard("orders:read")])

    @app.get("/")
    async def root() -> str:
        return "in"

    assert answer(app, "/").status_code == 401
    assert answer(app, "/", bearer(running.token())).json() == "in"


def test_exempt_paths_and_state(running: Issuer) -> None:
    """Only the exact exempt paths are open; the caller does not leak into shared state."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    wrapped = GroatMiddleware(app, running.verifier(), exempt=["/health"], state_key="who")
    assert answer(wrapped, "/health").status_code == 200
    for path in ("/health/", "/healthz", "/Health", "/x/../protected", "//health", "/health;x"):
        assert answer(wrapped, path).status_code == 401
    shared = {"db": object()}

    asyncio.run(wrapped(http_scope(running.token(), state=shared), no_message, ignore))
    assert seen[-1]["state"]["who"].client_id == "billing"
    assert seen[-1]["state"]["db"] is shared["db"]
    assert "who" not in shared
    assert "state" not in seen[0] or "who" not in seen[0]["state"]


def http_scope(token: str, **more: Any) -> Scope:
    headers = [(b"Authorization", b"Bearer " + token.encode())]
    return {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b"", **more}


async def no_message() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(message: Message) -> None:
    return None


def test_lifespan_passes_through(running: Issuer) -> None:
    """Start-up and shutdown need no token."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    asyncio.run(GroatMiddleware(app, running.verifier())({"type": "lifespan"}, no_message, ignore))
    assert seen == ["lifespan"]


def handshake(
    app: GroatMiddleware | FastAPI, extensions: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": headers, "query_string": b"", "extensions": extensions}
    asyncio.run(app(scope, receive, send))
    return sent


@pytest.mark.rule("RS-02", "RS-28")
def test_websocket_handshake(running: Issuer) -> None:
    """A WebSocket without a token is closed with 1008, or denied with the full answer where the server can send it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "who": scope["groat.caller"].client_id})

    wrapped = GroatMiddleware(app, running.verifier())
    assert handshake(wrapped, {}, []) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    start, body = handshake(wrapped, {"websocket.http.response": {}}, [])
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", f'Bearer realm="api", resource_metadata="{METADATA_URL}"'.encode()) in start["headers"]
    assert body["body"] == b'{"detail":"Authentication is required."}'
    token = [(b"authorization", b"Bearer " + running.token().encode())]
    assert handshake(wrapped, {}, token) == [{"type": "websocket.accept", "who": "billing"}]
    with serving() as down:
        down.spoil(JWKS, Answer(status=500))
        unavailable = GroatMiddleware(app, down.verifier())
        token = [(b"authorization", b"Bearer " + down.token().encode())]
        assert handshake(unavailable, {}, token) == [{"type": "websocket.close", "code": 1013, "reason": ""}]


def test_websocket_endpoint_in_fastapi(running: Issuer) -> None:
    """The guard works on WebSocket endpoints as well."""
    closed = handshake(with_guard(running.verifier()), {}, [])
    assert closed == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    client = TestClient(with_guard(running.verifier()))
    with client.websocket_connect("/ws", headers=dict(bearer(running.token()))) as socket:
        assert socket.receive_text() == "billing"


@pytest.mark.rule("RS-28")
def test_refusal_without_our_handler(running: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Starlette's handlers cannot be reached, only the body differs: status and challenge stay, never a 500."""
    expected = answer(without_install(running.verifier()), headers=bearer("garbage"))
    monkeypatch.setattr(groat.verifier.fastapi, "_HANDLERS", "elsewhere")
    got = answer(without_install(running.verifier()), headers=bearer("garbage"))
    assert (got.status_code, got.headers["WWW-Authenticate"]) == (401, expected.headers["WWW-Authenticate"])
    assert got.headers["Cache-Control"] == "no-store"
    assert got.json() == {"detail": expected.json()}


def test_audience_is_known_to_adapters(running: Issuer) -> None:
    """A verifier tells its issuers, audience and realm to whoever wraps it."""
    verifier = running.verifier(realm="orders")
    assert (verifier.issuers, verifier.audience, verifier.realm) == ((running.url,), AUD, "orders")


@pytest.mark.rule("FO-6")
@pytest.mark.parametrize(
    ("path", "root", "inside"),
    [
        ("/health", "", "/health"),
        ("/api/health", "/api", "/health"),
        ("/api//health", "/api/", "/health"),
        ("/api/health", "/api/", "/health"),
        ("/health", "/api", "/health"),
        ("/a/b/health", "/a/b", "/health"),
        ("/api", "/api", "/"),
        ("/apihealth", "/api", "/apihealth"),
        ("/health/health", "/health", "/health"),
        ("/health/orders", "/health", "/orders"),
        ("", "", ""),
    ],
)
def test_the_path_inside(path: str, root: str, inside: str) -> None:
    """The root path is taken off where it is a whole part of the path, and nothing else ever is."""
    assert path_inside({"path": path, "root_path": root}) == inside
    assert path_inside({"path": path}) == path


@pytest.mark.rule("FO-6")
def test_exempt_paths_are_those_inside(running: Issuer) -> None:
    """Mounted, under a root path or both, the same exempt path opens the same endpoint, and no other."""

    async def open_to_all(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(path_inside(scope))(scope, receive, send)

    guarded = GroatMiddleware(open_to_all, running.verifier(), exempt=["/health"])
    mounted = Starlette(routes=[Mount("/v1", guarded), Mount("/health", guarded), Mount("/a", Mount("/b", guarded))])
    for app, root, path, status in (
        (guarded, "/api", "/api/health", 200),
        (guarded, "", "/health", 200),
        (guarded, "/api", "/api/orders", 401),
        (guarded, "/health", "/health/orders", 401),
        (mounted, "", "/v1/health", 200),
        (mounted, "", "/v1/health/", 401),
        (mounted, "", "/a/b/health", 200),
        (mounted, "", "/health/health", 200),
        (mounted, "", "/health/", 401),
        (mounted, "/api", "/api/v1/health", 200),
        (mounted, "/api", "/api/v1/orders", 401),
    ):
        got = TestClient(app, root_path=root).get(path)
        assert (path, got.status_code) == (path, status)
        assert status == 401 or got.text == "/health"


def whole_application(verifier: Verifier) -> FastAPI:
    """Every way of adding something to an application whose dependencies demand a token."""
    app, router, inner = FastAPI(dependencies=[Guard(verifier)()]), APIRouter(), FastAPI()
    for where, path in ((app, "/endpoint"), (router, "/routed"), (inner, "/endpoint")):
        where.get(path)(whoever)
    app.include_router(router)
    app.mount("/mounted", inner)
    app.add_route("/added", lambda _: PlainTextResponse("hello"))
    app.add_api_route("/api-route", whoever)

    @app.websocket("/socket")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        await connection.close()

    return app


async def whoever() -> str:
    return "hello"


COVERED: Final = ["/endpoint", "/routed", "/api-route"]
NOT_COVERED: Final = ["/mounted/endpoint", "/added", "/docs", "/openapi.json"]


@pytest.mark.rule("ST-12")
def test_what_a_guard_for_the_whole_application_covers(running: Issuer) -> None:
    """Its endpoints, those of its routers and its WebSockets; not what is mounted or added beside them."""
    app = whole_application(running.verifier())
    assert {path: answer(app, path).status_code for path in COVERED} == dict.fromkeys(COVERED, 401)
    assert {path: answer(app, path).status_code for path in NOT_COVERED} == dict.fromkeys(NOT_COVERED, 200)
    assert {answer(app, path, bearer(running.token())).status_code for path in COVERED} == {200}
    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/socket"):
        pass
    words = Guard.__doc__ or ""
    assert all(
        word in words for word in ("mounted applications", "add_route", "/docs", "/openapi.json", "GroatMiddleware")
    )


@pytest.mark.rule("ST-12")
def test_the_middleware_covers_the_rest(running: Issuer) -> None:
    """Around the same application nothing is open, what does not exist included."""
    app = GroatMiddleware(whole_application(running.verifier()), running.verifier(), exempt=["/docs"])
    for path in [*COVERED, *NOT_COVERED, "/nowhere"]:
        assert answer(app, path).status_code == (200 if path == "/docs" else 401)
    assert answer(app, "/mounted/endpoint", bearer(running.token())).status_code == 200
    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/socket"):
        pass


def test_adapters_ask_the_verifier_in_one_place() -> None:
    """What more of a request the verifier is to see is said once, for all of them."""
    asked = []
    for path in Path(groat.verifier.fastapi.__file__).parent.glob("*.py"):
        names = [node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        asked += [path.name for name in names if name in ("verify_request", "averify_request")]
    assert set(asked) == {"protected_resource.py"}


@pytest.mark.rule("RS-28")
def test_bytes_are_never_compared_with_text() -> None:
    """Frameworks hand over either; an application that runs under `python -bb` must not fail for it."""
    program = """
from groat.testing import FakeIssuer
from groat.verifier.protected_resource import ApiRequest, ProtectedResource
issuer = FakeIssuer()
resource, token = ProtectedResource(issuer.verifier()), issuer.token()
for line in (f"Bearer {token}", f"Bearer {token}".encode(), f"bearer {token}", f"bearer {token}".encode()):
    print(resource.admit(ApiRequest(lambda name: [line] if name == "authorization" else [])).client_id)
"""
    ran = subprocess.run([sys.executable, "-bb", "-c", program], capture_output=True, text=True, check=False)
    assert (ran.stdout.split(), ran.stderr) == (["test-client"] * 4, "")
