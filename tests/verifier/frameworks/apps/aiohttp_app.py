"""The middleware of aiohttp, in aiohttp's own server; the part that needs a scope is an application of its own."""

from aiohttp import web

from groat.verifier.aiohttp import middleware
from tests.verifier.frameworks.apps import SCOPES, port, prefix, tls, verifier


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def protected(request: web.Request) -> web.Response:
    return web.json_response({"client": request["caller"].client_id})


async def whoami(request: web.Request) -> web.Response:
    caller = request["caller"]
    return web.json_response({"client": caller.client_id, "scopes": sorted(caller.scopes)})


def application() -> web.Application:
    judge = verifier()
    # The middleware of an inner application runs inside of the outer one's, which lets its paths pass to it.
    writers = web.Application(middlewares=[middleware(judge, scopes=["orders:write"], known=SCOPES)])
    writers.router.add_route("*", "", protected)
    app = web.Application(middlewares=[middleware(judge, exempt=["/health", "/protected"], known=SCOPES)])
    app.router.add_get("/health", health)
    app.router.add_get("/whoami", whoami)
    app.add_subapp("/protected", writers)
    return app


if __name__ == "__main__":
    whole = application()
    if prefix():
        outer = web.Application()
        outer.add_subapp(prefix(), whole)
        whole = outer
    web.run_app(whole, host="127.0.0.1", port=port(), print=None, ssl_context=tls())
