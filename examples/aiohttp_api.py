"""An API with aiohttp: clients with `orders:read` may read orders, those with `orders:write` may add one.

GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com python examples/aiohttp_api.py

Needs: pip install ".[aiohttp]" in a clone
"""

import os

from aiohttp import web

from groat.verifier import Verifier
from groat.verifier.aiohttp import CALLER, middleware

ORDERS = web.AppKey("orders", list[str])


async def health(request: web.Request) -> web.Response:
    """Anybody may ask."""
    return web.json_response({"status": "ok"})


async def protected(request: web.Request) -> web.Response:
    """Any client with a token for this API and its scope may ask."""
    caller = request[CALLER]  # or request["caller"], which type checkers do not know
    return web.json_response({"message": f"Hello, {caller.client_id}", "client": caller.client_id})


async def read_orders(request: web.Request) -> web.Response:
    """Needs `orders:read`, as everything in this application."""
    return web.json_response(request.config_dict[ORDERS])


async def add_order(request: web.Request) -> web.Response:
    """Needs `orders:write` as well."""
    order = request.query["order"]
    request.config_dict[ORDERS].append(order)
    return web.json_response({"order": order, "by": request[CALLER].client_id}, status=201)


def create_app() -> web.Application:
    """The API; what only writers may do is an application of its own."""
    verifier = Verifier.from_env()  # asks the issuer for its keys when the first token comes in
    guard = middleware(verifier, scopes=["orders:read"], exempt=["/health"], known=["orders:write"])
    app = web.Application(middlewares=[guard])
    app[ORDERS] = ["1 sack of groats"]
    app.add_routes([web.get("/health", health), web.get("/protected", protected), web.get("/orders", read_orders)])
    writing = web.Application(middlewares=[middleware(verifier, scopes=["orders:write"], known=["orders:read"])])
    writing.add_routes([web.post("/add", add_order)])
    app.add_subapp("/orders/", writing)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
