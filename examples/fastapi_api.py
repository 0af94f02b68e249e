"""An API with FastAPI: clients with `orders:read` may read orders, those with `orders:write` may add one.

GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com uvicorn fastapi_api:app

Try it: http://127.0.0.1:8000/docs shows which endpoint needs which scope.
"""

from typing import Annotated

from fastapi import FastAPI

from groat.verifier import Caller, Verifier
from groat.verifier.fastapi import Guard

verifier = Verifier.from_env()  # asks the issuer for its keys when the first token comes in
guard = Guard(verifier, scopes={"orders:read": "Read orders", "orders:write": "Add orders"})

app = FastAPI(title="Orders")
guard.install(app)

orders: list[str] = ["1 sack of groats"]


@app.get("/health")
async def health() -> dict[str, str]:
    """Anybody may ask."""
    return {"status": "ok"}


@app.get("/protected")
async def protected(caller: Annotated[Caller, guard()]) -> dict[str, str]:
    """Any client with a token for this API may ask."""
    return {"message": f"Hello, {caller.client_id}", "client": caller.client_id}


@app.get("/orders")
async def read_orders(caller: Annotated[Caller, guard("orders:read")]) -> list[str]:
    """Needs `orders:read`."""
    return orders


@app.post("/orders", status_code=201)
async def add_order(order: str, caller: Annotated[Caller, guard("orders:write")]) -> dict[str, str]:
    """Needs `orders:write`."""
    orders.append(order)
    return {"order": order, "by": caller.client_id}
