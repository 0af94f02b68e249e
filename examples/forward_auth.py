"""A gate for APIs that cannot check tokens themselves: nginx, Caddy and others ask it before every request.

    export GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com SCOPE=orders:read
    uvicorn --factory examples.forward_auth:create_app --port 3003

204 lets the request through and says who calls in X-Groat-Client and X-Groat-Scopes; 401 and 403 come with their
challenge, 503 when the issuer's keys cannot be had. The proxy must take both headers from here and never from the
caller: deploy/nginx/forward-auth.conf and deploy/caddy/forward-auth.Caddyfile do.
"""

import os

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from groat.verifier import Caller, Verifier
from groat.verifier.asgi import GroatMiddleware


async def admit(scope: Scope, receive: Receive, send: Send) -> None:
    """Whoever gets here has a good token."""
    caller: Caller = Request(scope).state.caller
    headers = {"X-Groat-Client": caller.client_id or "", "X-Groat-Scopes": " ".join(sorted(caller.scopes))}
    await Response(status_code=204, headers=headers)(scope, receive, send)


def create_app() -> GroatMiddleware:
    """The gate. Raises ConfigError when the environment says too little."""
    return GroatMiddleware(admit, Verifier.from_env(), scopes=os.environ.get("SCOPE", "").split())
