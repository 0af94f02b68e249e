"""An API with Flask: clients with `orders:read` may read orders, those with `orders:write` may add one.

GROAT_ISSUER=https://auth.example.com GROAT_AUDIENCE=https://orders.example.com gunicorn flask_api:app

`flask run` and every other WSGI server do as well; Apache's mod_wsgi needs `WSGIPassAuthorization On`.
"""

from flask import Flask, g, request

from groat.verifier import Verifier
from groat.verifier.flask import Guard

verifier = Verifier.from_env()  # asks the issuer for its keys when the first token comes in
guard = Guard(verifier, scopes={"orders:read": "Read orders", "orders:write": "Add orders"})

app = Flask(__name__)
guard.install(app)

orders: list[str] = ["1 sack of groats"]


@app.get("/health")
def health() -> dict[str, str]:
    """Anybody may ask."""
    return {"status": "ok"}


@app.get("/protected")
@guard()
def protected() -> dict[str, str]:
    """Any client with a token for this API may ask."""
    return {"message": f"Hello, {g.caller.client_id}", "client": g.caller.client_id}


@app.get("/orders")
@guard("orders:read")
def read_orders() -> list[str]:
    """Needs `orders:read`."""
    return orders


@app.post("/orders")
@guard("orders:write")
def add_order() -> tuple[dict[str, str], int]:
    """Needs `orders:write`."""
    order = request.args["order"]
    orders.append(order)
    return {"order": order, "by": g.caller.client_id}, 201
