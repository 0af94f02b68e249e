"""What a token costs inside the server, by how many requests come together: without sockets, without the database.

    python -m benchmarks.phases [--together 1 4 16 32] [--tokens 4000]

The app of production is called directly; its store answers at once. What remains is reading the request, both
signatures, the log line and the answer. The raw cost of the two signatures is measured in the same run.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from starlette.types import ASGIApp, Scope

from benchmarks.load.driver import presign_bodies, raw_cost
from benchmarks.servers import CLIENT, RESOURCE, SCOPE, run_groat
from groat.app import create_app
from groat.keys.files import read_private_key
from groat.protocol.models import OneTimeValue
from groat.server.log.event_log import EventLog
from groat.server.settings.config import load_config
from groat.server.store import Issuance, Owned, Receipt
from groat.server.store.sqlite.store import SqliteStore

ISSUER = "http://127.0.0.1:3001"
ROUNDS = 3


class Instant(SqliteStore):
    """Takes every value for new, in no time; the digest is computed all the same, the version read but once."""

    version: int | None = None

    async def use_once(
        self,
        once: OneTimeValue,
        issuance: Issuance | None,
        proof: OneTimeValue | None = None,
        owned: Owned | None = None,
    ) -> Receipt:
        assert once.digest
        self.version = self.version or await self.registry_version()
        return Receipt(True, self.version)


async def request(app: ASGIApp, body: bytes) -> None:
    """One token request; anything but 200 is an error."""
    answers: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        answers.append(message)

    headers = [(b"host", b"as.example"), (b"content-type", b"application/x-www-form-urlencoded")]
    scope: Scope = {
        "type": "http", "method": "POST", "path": "/token", "query_string": b"", "headers": headers,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    assert answers[0]["status"] == 200, answers


async def cost(app: ASGIApp, bodies: list[bytes], together: int) -> float:
    """CPU seconds per token; the least of several rounds."""
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for at in range(0, len(bodies), together):
            await asyncio.gather(*(request(app, body) for body in bodies[at : at + together]))
        spent.append((time.process_time() - begun) / len(bodies))
    return min(spent)


def prepare(directory: Path, tokens: int) -> tuple[ASGIApp, list[bytes]]:
    """An app on a store with one client, and its requests."""
    run_groat(directory, "init", "--issuer", ISSUER)
    run_groat(directory, "api", "add", "orders", "--audience", RESOURCE, "--scope", SCOPE)
    run_groat(directory, "client", "add", CLIENT, "--allow", f"orders={SCOPE}", "--new-key", "key.json")
    key = read_private_key(directory / "key.json").private_jwk()
    presign_bodies(
        directory / "bodies", tokens, client_id=CLIENT, private_jwk=key, alg="ES256", issuer=ISSUER,
        resource=RESOURCE, scope=SCOPE,
    )  # fmt: skip
    config = load_config(directory / "groat.toml", {})
    log = EventLog((directory / "log").open("w"), "info", False)
    return create_app(config, Instant.open(config.database), log=log), (directory / "bodies").read_bytes().splitlines()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--tokens", type=int, default=4000)
    options = parser.parse_args(arguments)
    print("| together | CPU per token | raw verify + sign | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        app, bodies = prepare(Path(name), options.tokens)
        for together in options.together:
            spent, raw = uvloop.run(cost(app, bodies, together)), raw_cost("ES256")
            print(f"| {together} | {spent * 1e6:.0f} us | {raw * 1e6:.0f} us | {spent / raw:.2f} |", flush=True)


if __name__ == "__main__":
    main()
