"""An API without any framework: everything but /health needs a token with `orders:read`.

GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com uvicorn asgi_api:app

The middleware is plain ASGI, so that Starlette, Litestar, Quart or Django under ASGI can be wrapped the same way.
"""

import json

from groat.verifier import Caller, Verifier
from groat.verifier.asgi import GroatMiddleware, Receive, Scope, Send, path_inside


async def orders(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request that the middleware has let through."""
    if scope["type"] != "http":
        return
    if path_inside(scope) == "/health":
        await answer(send, {"status": "ok"})
        return
    caller: Caller = scope["state"]["caller"]
    await answer(send, {"message": f"Hello, {caller.client_id}", "client": caller.client_id})


async def answer(send: Send, document: dict[str, str]) -> None:
    """Send one JSON object."""
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = GroatMiddleware(orders, Verifier.from_env(), scopes=["orders:read"], exempt=["/health"])
