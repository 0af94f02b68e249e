"""A groat and the example API that demand proofs of possession, with nonces or without, for other people's clients."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.ports import free_port
from tests.waiting import wait_until

from .foreign_keys import private_jwk, public_jwks
from .processes import ENVIRONMENT, SCOPES, GroatServer, groat_server, stop

ALGORITHMS: Final = ("ES256", "PS256", "Ed25519")
BOUND_CLIENT: Final = "reporting"
_API: Final = """
import os
import uvicorn
from groat.demo.example_api import create_app
from groat.verifier import Dpop, Verifier

nonces = os.environ["NONCES"]
proofs = Dpop(nonces=nonces, nonce_secret=os.environ["SECRET"] if nonces != "off" else None)
uvicorn.run(create_app(Verifier.from_env(dpop=proofs)), port=int(os.environ["PORT"]), log_level="warning")
"""


@dataclass(frozen=True)
class BoundPlace:
    """Both sides; `api` is the origin and the audience of the API."""

    server: GroatServer
    api: str

    def wish(self, algorithm: str = ALGORITHMS[0]) -> Mapping[str, Any]:
        """What a foreign client is told: who it is, whom it asks, how its proofs are signed in turn, whom it calls."""
        return {
            "issuer": self.server.issuer,
            "client_id": BOUND_CLIENT,
            "private_jwk": private_jwk(BOUND_CLIENT, algorithm),
            "alg": algorithm,
            "proof_algs": list(ALGORITHMS),
            "resource": self.api,
            "scope": SCOPES[0],
            "url": f"{self.api}/protected?day=1",
        }


@contextmanager
def bound_place(directory: Path, nonces: str) -> Iterator[BoundPlace]:
    """Both sides up; the client has no tokens but bound ones."""
    with groat_server(directory, "ES256", GROAT_DPOP__NONCES=nonces) as server:
        port = free_port()
        api = f"http://127.0.0.1:{port}"
        server.run("api", "add", "bound", "--audience", api, "--scope", SCOPES[0], "--scope", SCOPES[1])
        file = directory / f"{BOUND_CLIENT}.jwks.json"
        file.write_text(json.dumps({"keys": public_jwks(BOUND_CLIENT, ALGORITHMS)}))
        allowed = ("--allow", f"bound={','.join(SCOPES)}")
        server.run("client", "add", BOUND_CLIENT, *allowed, "--jwks", str(file), "--binding", "dpop")
        env = {"GROAT_ISSUER": server.issuer, "GROAT_AUDIENCE": api, "PORT": str(port), "NONCES": nonces}
        secret = {"SECRET": secrets.token_hex(16)}
        process = subprocess.Popen([sys.executable, "-c", _API], env={**ENVIRONMENT, **env, **secret})
        try:
            wait_until(lambda: _up(api), 30)
            yield BoundPlace(server, api)
        finally:
            stop(process)


def _up(api: str) -> bool:
    try:
        return httpx2.get(f"{api}/health", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
