"""The guard of Flask, in gunicorn."""

from flask import Flask, g

from groat.verifier.flask import Guard
from tests.verifier.frameworks.apps import SCOPES, verifier
from tests.verifier.frameworks.apps.under_gunicorn import serve

app = Flask(__name__)
guard = Guard(verifier(), scopes=SCOPES)
guard.install(app)


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.route("/protected", methods=["GET", "HEAD", "POST", "OPTIONS"])
@guard("orders:write")
def protected() -> dict[str, str]:
    return {"client": g.caller.client_id}


@app.get("/whoami")
@guard()
def whoami() -> dict[str, object]:
    return {"client": g.caller.client_id, "scopes": sorted(g.caller.scopes)}


if __name__ == "__main__":
    serve(lambda: app)
