"""The API of the plans with certificates: one whose own server asks callers for theirs, and tells the adapter."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from aiohttp import web

from groat.verifier import Certificates, Response, Verifier
from groat.verifier.aiohttp import CALLER, middleware

from .parties import SCOPE
from .wire import Address, Site


async def protected(request: web.Request) -> web.Response:
    """Say who called."""
    return web.json_response({"client": request[CALLER].client_id})


@contextmanager
def certified_api(name: str, server: Site, both: Path, callers: Path) -> Iterator[Site]:
    """It takes tokens of the server that are bound in any way. `callers`: whose certificates it lets in."""

    def fetch(url: str, headers: Mapping[str, str]) -> Response:
        reply = server.ask("GET", "/.well-known/jwks.json")
        return Response(reply.status, dict(reply.headers), reply.body)

    jwks_uri, own = f"{server.url}/.well-known/jwks.json", Certificates()
    audience = f"https://{name}"
    judge = Verifier(server.url, audience, jwks_uri=jwks_uri, http=fetch, certificates=own, require_binding="any")
    with closing(judge):
        app = web.Application(middlewares=[middleware(judge, scopes=[SCOPE])])
        app.router.add_get("/protected", protected)
        with running(app, asking(both, callers)) as address:
            yield Site(name, address, server.authority)


def asking(both: Path, callers: Path) -> ssl.SSLContext:
    """The context of a server that asks for certificates, and takes those of `callers` and what they have signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    context.load_verify_locations(callers)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@contextmanager
def running(app: web.Application, context: ssl.SSLContext, listener: socket.socket | None = None) -> Iterator[Address]:
    """On an event loop in a thread of its own, at this socket or at a new one."""
    loop, listener = asyncio.new_event_loop(), listener or socket.create_server(("127.0.0.1", 0))
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.SockSite(runner, listener, ssl_context=context).start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield ("127.0.0.1", listener.getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
