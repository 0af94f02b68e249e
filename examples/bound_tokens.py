"""Bound tokens at both ends: an API that takes no others (DPoP), and a program that calls it.

    export GROAT_ISSUER=https://auth.example.com
    GROAT_AUDIENCE=https://orders.example.com PROOFS=sqlite:/run/proofs.db python examples/bound_tokens.py serve
    GROAT_CLIENT_ID=billing GROAT_KEY_FILE=billing.key.json python examples/bound_tokens.py call https://orders.example.com

At the server: groat api add orders --audience https://orders.example.com --scope orders:read --binding dpop
Needs: pip install ".[server]" in a clone; the caller alone ".[client]"
"""

import logging
import os
import sys

from groat.client import ClientError, MachineClient
from groat.verifier import Dpop, Verifier


def serve() -> None:
    """One proof counts once, in whichever process it comes to; PORT says where to listen, on loopback."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from groat.verifier.asgi import GroatMiddleware

    async def orders(request: Request) -> JSONResponse:
        caller = request.state.caller
        return JSONResponse({"client": caller.client_id, "key": caller.confirmation.thumbprint})

    # The URL that callers write: GROAT_PUBLIC_URL, or the host of the audience.
    verifier = Verifier.from_env(dpop=Dpop(required=True, replay=os.environ.get("PROOFS", "memory")))
    app = GroatMiddleware(Starlette(routes=[Route("/orders", orders)]), verifier, scopes=["orders:read"])
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, port=int(os.environ.get("PORT", "3002")), log_config=None, access_log=False)


def call(api: str) -> int:
    """Each request carries a proof of its own, made by a key of this process; nothing else differs."""
    import httpx2

    with MachineClient.from_env(dpop=True) as client:
        with httpx2.Client(base_url=api, auth=client.auth(resource=api, scopes=["orders:read"])) as http:
            try:
                for _ in range(3):
                    response = http.get("/orders")
                    print(response.status_code, response.json())
            except ClientError as error:
                print(error, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["call"] and len(sys.argv) == 3:
        sys.exit(call(sys.argv[2]))
    else:
        sys.exit(__doc__)
