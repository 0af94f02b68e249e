"""An API that knows who calls it. Copy this file and put your own routes in.

    export GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com
    python example_api.py

It needs groat, starlette and uvicorn. GROAT_JWKS_URI skips discovery; HOST and PORT say where to listen (127.0.0.1,
3002). TLS ends in front of it, or here with TLS_CERTIFICATE_FILE and TLS_KEY_FILE.
"""

import logging
import os

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from groat.verifier import Caller, Verifier
from groat.verifier.asgi import GroatMiddleware


async def health(request: Request) -> JSONResponse:
    """Alive; anybody may ask."""
    return JSONResponse({"status": "ok"})


async def protected(request: Request) -> JSONResponse:
    """Say who called: the middleware has verified the token by now."""
    return JSONResponse({"message": "protected data", **_who(request)})


async def add_order(request: Request) -> JSONResponse:
    """Pretend to store an order."""
    return JSONResponse({"message": "order added", **_who(request)}, status_code=201)


def _who(request: Request) -> dict[str, object]:
    caller: Caller = request.state.caller
    return {"client": caller.client_id, "scopes": sorted(caller.scopes)}


def create_app(verifier: Verifier) -> GroatMiddleware:
    """Every path needs orders:read but /health, so that a forgotten route is closed; writing needs more."""
    may_write = Middleware(GroatMiddleware, verifier=verifier, scopes=["orders:write"])
    routes = [
        Route("/health", health),
        Route("/protected", protected),
        Route("/orders", add_order, methods=["POST"], middleware=[may_write]),
    ]
    return GroatMiddleware(Starlette(routes=routes), verifier, scopes=["orders:read"], exempt=["/health"])


def main() -> None:
    """Serve until a signal ends it. Raises ConfigError when the environment says too little."""
    # The reason of a refusal is in this log, never in the answer.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "3002"))
    certificate, key = os.environ.get("TLS_CERTIFICATE_FILE"), os.environ.get("TLS_KEY_FILE")
    app = create_app(Verifier.from_env())
    # No access log: a token that somebody puts into a URL would end up there.
    uvicorn.run(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ssl_ciphers="ECDHE+AESGCM",  # for TLS 1.2 what RFC 9325 recommends
        workers=1,
        log_config=None,
        access_log=False,
    )


if __name__ == "__main__":
    main()
