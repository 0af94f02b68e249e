"""GroatMiddleware around a bare ASGI application, in uvicorn."""

import json
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from groat.verifier.asgi import App, GroatMiddleware, Receive, Scope, Send, path_inside
from tests.verifier.frameworks.apps import SCOPES, port, prefix, verifier


def answering(document: dict[str, Callable[[Scope], Any]]) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = json.dumps({name: value(scope) for name, value in document.items()})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body.encode()})

    return app


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    if path_inside(scope) == "/health":
        await answering({"status": lambda _: "ok"})(scope, receive, send)
        return
    client = {"client": lambda scope: scope["groat.caller"].client_id}
    scopes = {"scopes": lambda scope: sorted(scope["groat.caller"].scopes)}
    document = {**client, **scopes} if path_inside(scope) == "/whoami" else client
    await answering(document)(scope, receive, send)


def routes() -> App:
    judge = verifier()
    any_caller: App = GroatMiddleware(inside, judge, exempt=["/health"], known=SCOPES)
    writers: App = GroatMiddleware(inside, judge, scopes=["orders:write"], known=SCOPES)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (writers if path_inside(scope) == "/protected" else any_caller)(scope, receive, send)

    return app


if __name__ == "__main__":
    app = Starlette(routes=[Mount(prefix(), routes())]) if prefix() else routes()
    uvicorn.run(app, host="127.0.0.1", port=port(), lifespan="off", log_level="warning")
