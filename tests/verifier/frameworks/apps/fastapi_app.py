"""The guard of FastAPI, in uvicorn."""

from typing import Annotated

import uvicorn
from fastapi import FastAPI

from groat.verifier import Caller
from groat.verifier.fastapi import Guard
from tests.verifier.frameworks.apps import SCOPES, port, prefix, verifier

app = FastAPI()
guard = Guard(verifier(), scopes=SCOPES)
guard.install(app)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.api_route("/protected", methods=["GET", "HEAD", "POST", "OPTIONS"])
async def protected(caller: Annotated[Caller, guard("orders:write")]) -> dict[str, str]:
    return {"client": caller.client_id}


@app.get("/whoami")
async def whoami(caller: Annotated[Caller, guard()]) -> dict[str, object]:
    return {"client": caller.client_id, "scopes": sorted(caller.scopes)}


if __name__ == "__main__":
    whole = FastAPI()
    whole.mount(prefix(), app)
    uvicorn.run(whole, host="127.0.0.1", port=port(), log_level="warning")
