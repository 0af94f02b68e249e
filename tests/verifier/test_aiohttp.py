"""aiohttp's middleware where aiohttp is its own kind: streams, WebSockets, sub-applications. See also frameworks/."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from groat.verifier import ConfigError, any_of
from groat.verifier.aiohttp import CALLER, middleware
from tests.verifier.issuer import Issuer

METADATA_PATH = "/.well-known/oauth-protected-resource"


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def run(app: web.Application, scene: Callable[[aiohttp.ClientSession, str], Awaitable[Any]]) -> Any:
    async def play() -> Any:
        async with serving(app) as url, aiohttp.ClientSession() as session:
            return await scene(session, url)

    return asyncio.run(play())


def bearer(issuer: Issuer, **changes: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {issuer.token(**changes)}"}


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"one")
    await response.write(b"two")
    return response


async def own_rule(request: web.Request) -> web.StreamResponse:
    return web.Response(text="own", headers={"Cache-Control": "private, max-age=5"})


async def found(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def broken(request: web.Request) -> web.StreamResponse:
    raise RuntimeError("the handler failed")


async def socket(request: web.Request) -> web.StreamResponse:
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    await connection.send_str(request[CALLER].client_id)
    await connection.close()
    return connection


def application(issuer: Issuer, **options: Any) -> web.Application:
    app = web.Application(middlewares=[middleware(issuer.verifier(), exempt=["/health"], **options)])
    for path, handler in {
        "/health": hello, "/hello": hello, "/streamed": streamed, "/own": own_rule, "/found": found,
        "/broken": broken, "/ws": socket,
    }.items():  # fmt: skip
        app.router.add_get(path, handler)
    return app


@pytest.mark.rule("RS-26")
@pytest.mark.parametrize(
    ("path", "status", "cache_control"),
    [
        ("/hello", 200, "no-store"),
        ("/streamed", 200, "no-store"),
        ("/own", 200, "private, max-age=5"),
        ("/found", 302, "no-store"),
        ("/broken", 500, "no-store"),
        ("/nowhere", 404, "no-store"),
        ("/health", 200, None),
    ],
)
def test_what_callers_get_is_not_kept(running: Issuer, path: str, status: int, cache_control: str | None) -> None:
    """Whatever way the answer goes out; a rule of the application's own stays, and open paths are left alone."""

    async def scene(session: aiohttp.ClientSession, url: str) -> None:
        for asked in ("/hello", path):  # over one connection: what is said of a request ends with it
            async with session.get(url + asked, headers=bearer(running), allow_redirects=False) as response:
                await response.read()
        assert (response.status, response.headers.get("Cache-Control")) == (status, cache_control)

    run(application(running), scene)


@pytest.mark.rule("RS-02", "RS-28")
def test_a_websocket_is_refused_before_its_handshake(running: Issuer) -> None:
    """401 instead of 101; with a token it is a WebSocket like any other."""

    async def scene(session: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{url}/ws")
        assert refused.value.status == 401
        assert refused.value.headers is not None
        assert refused.value.headers["WWW-Authenticate"].startswith('Bearer realm="api"')
        async with session.ws_connect(f"{url}/ws", headers=bearer(running)) as connection:
            assert await connection.receive_str() == "billing"

    run(application(running), scene)


@pytest.mark.rule("ST-12")
def test_everything_is_covered(running: Issuer) -> None:
    """Paths that do not exist and methods that are not allowed tell strangers nothing."""

    async def scene(session: aiohttp.ClientSession, url: str) -> list[int]:
        asked = [("GET", "/nowhere"), ("DELETE", "/hello"), ("GET", "/"), ("GET", "/health/"), ("GET", "/HEALTH")]
        return [(await session.request(method, url + path)).status for method, path in asked]

    assert run(application(running), scene) == [401] * 5


@pytest.mark.rule("FO-6", "RS-MD-06")
def test_exempt_paths_are_those_inside(running: Issuer) -> None:
    """Whatever stands before the application: nothing, a mount, a mount in a mount, a mount below a host name."""

    def mounted(*prefixes: str) -> web.Application:
        app = application(running)
        for prefix in prefixes:
            outer = web.Application()
            outer.add_subapp(prefix, app)
            app = outer
        return app

    def by_host() -> web.Application:
        outer = web.Application()
        outer.add_domain("127.0.0.1", mounted("/h"))
        return outer

    async def scene(session: aiohttp.ClientSession, url: str) -> list[int]:
        paths = [f"{prefix}{path}" for path in ("/health", "/hello", METADATA_PATH)]
        return [(await session.get(url + path)).status for path in paths]

    for prefix, app in {
        "": mounted(), "/v1": mounted("/v1"), "/a/b": mounted("/b", "/a"),
        "/health": mounted("/health"), "/h": by_host(),
    }.items():  # fmt: skip
        assert run(app, scene) == [200, 401, 200], prefix


@pytest.mark.rule("FO-6")
@pytest.mark.parametrize("path", ["/files%2Fpublic", "/files/public%2F", "/files%2fpublic", "/files/../files/public"])
def test_an_exempt_path_opens_no_other_route(running: Issuer, path: str) -> None:
    """The path is compared as the router does: an encoded slash is no slash, to either."""
    app = web.Application(middlewares=[middleware(running.verifier(), exempt=["/files/public"])])
    app.router.add_get("/{name:.*}", hello)

    async def scene(session: aiohttp.ClientSession, url: str) -> tuple[int, int]:
        odd = await session.get(URL(url + path, encoded=True))
        return odd.status, (await session.get(f"{url}/files/public")).status

    assert run(app, scene) == (401, 200)


def test_an_application_in_another(running: Issuer) -> None:
    """The middleware of the outer application covers what is mounted in it; the inner one may ask for more."""
    inner = web.Application(middlewares=[middleware(running.verifier(), scopes=any_of("orders:write", "admin"))])
    inner.router.add_get("/hello", hello)
    app = application(running)
    app.add_subapp("/admin", inner)

    async def scene(session: aiohttp.ClientSession, url: str) -> list[int]:
        tokens = [{}, bearer(running), bearer(running, scope="admin")]
        return [(await session.get(f"{url}/admin/hello", headers=token)).status for token in tokens]

    assert run(app, scene) == [401, 403, 200]


def test_the_caller_is_there_under_both_names(running: Issuer) -> None:
    """The text key, of which aiohttp warns once, costs nobody a failed request where warnings are errors."""
    seen: list[object] = []

    async def remember(request: web.Request) -> web.Response:
        seen.append(request["caller"])
        assert request[CALLER] is request["caller"]
        return web.Response()

    app = web.Application(middlewares=[middleware(running.verifier())])
    app.router.add_get("/", remember)

    async def scene(session: aiohttp.ClientSession, url: str) -> list[int]:
        return [(await session.get(url, headers=bearer(running))).status for _ in range(2)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(app, scene) == [200, 200]
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scopes": "orders:read"}, "scopes must be a list"),
        ({"scopes": ["a b"]}, "not a scope"),
        ({"exempt": ["health"]}, "must hold paths"),
        ({"exempt": ["/files/*"]}, "exact paths"),
    ],
)
def test_what_could_not_work_is_refused_when_it_is_made(running: Issuer, options: Any, said: str) -> None:
    """As in every adapter."""
    with pytest.raises(ConfigError, match=said):
        middleware(running.verifier(), **options)


def test_a_body_that_is_on_its_way(running: Issuer) -> None:
    """A large upload of a stranger is refused, and the handler never sees it."""
    app = web.Application(middlewares=[middleware(running.verifier())])
    app.router.add_post("/", hello)

    async def scene(session: aiohttp.ClientSession, url: str) -> int:
        async with session.post(url, data=b"x" * 100_000) as response:
            assert (await response.json())["detail"]
            return response.status

    assert run(app, scene) == 401
