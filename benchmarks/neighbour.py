"""What clients get for their first token while somebody behind the same address fails all the time.

    python -m benchmarks.neighbour [--workers 1] [--clients 300] [--pace 40]

`groat serve` with its default limits on SQLite. In each phase other clients than before, registered and never seen, ask
for one token each on a connection of their own, at an even pace. The neighbour, a process of its own, sends forged
assertions in the names of unknown clients at the phase's rate; it is past its limit (429) before the first client asks.
A request that is answered 429 or 503 is sent once more after Retry-After, with a new assertion, as the client library
would. Not measured: TLS, more than one address.
"""

import argparse
import asyncio
import json
import multiprocessing
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from benchmarks.servers import RESOURCE, SCOPE, Server, groat_server
from groat.protocol import jose
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key
from groat.server import operations
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations.operator import Operator
from groat.server.settings.config import load_config
from groat.server.store.sqlite.store import SqliteStore

RATES: Final = (0, 7, 50, 300, 100_000)  # failures a second; the last is as many as one connection can
Address = tuple[str, int]
Client = tuple[str, PrivateKey]
Outcome = tuple[int, int, float]  # first status, last status, seconds until the first answer


@dataclass(frozen=True, slots=True)
class Phase:
    """What came of one phase. `rate`: failures a second that were answered; `times`: of served requests, in seconds."""

    rate: float
    first: int
    served: int
    asked: int
    times: tuple[float, ...]

    def quantile(self, percent: int) -> float:
        return statistics.quantiles(self.times, n=100)[percent - 1] if len(self.times) > 1 else float("nan")


def form(assertion: str) -> bytes:
    """A token request."""
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": assertion,
        "scope": SCOPE,
        "resource": RESOURCE,
    }
    return urlencode(fields).encode()


def _claims(client_id: str, issuer: str) -> dict[str, object]:
    now = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": issuer, "iat": now, "exp": now + 60}
    return {**claims, "jti": secrets.token_urlsafe(16)}


def forged(issuer: str, client_id: str | None = None) -> bytes:
    """A request that nobody signed, in the name of an unknown client unless one is given."""
    header = base64url_encode(json.dumps({"alg": "ES256", "typ": ASSERTION_TYP}).encode())
    claims = base64url_encode(json.dumps(_claims(client_id or secrets.token_hex(8), issuer)).encode())
    return form(b".".join((header, claims, base64url_encode(secrets.token_bytes(64)))).decode())


async def ask(address: Address, body: bytes) -> tuple[int, float]:
    """One request on a connection of its own; returns status and Retry-After in seconds."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(head_of(body, close=True) + body)
        head, _, _ = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return status_of(head)


def head_of(body: bytes, *, close: bool = False) -> bytes:
    return (
        b"POST /token HTTP/1.1\r\nHost: groat\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"%bContent-Length: %d\r\n\r\n" % (b"Connection: close\r\n" if close else b"", len(body))
    )


def status_of(head: bytes) -> tuple[int, float]:
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    return int(head[9:12]), float(fields.get(b"retry-after", b"0"))


async def _fail_for_ever(address: Address, issuer: str, rate: float, counts: "dict[int, Synchronized[int]]") -> None:
    reader, writer = await asyncio.open_connection(*address)
    due = time.monotonic()
    while True:
        due = max(due + 1 / rate, time.monotonic() - 0.1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        body = forged(issuer)
        writer.write(head_of(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        status, _ = status_of(head)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        await reader.readexactly(int(fields[b"content-length"]))
        counts[status].value += 1


def _neighbour(address: Address, issuer: str, rate: float, counts: "dict[int, Synchronized[int]]") -> None:
    asyncio.run(_fail_for_ever(address, issuer, rate, counts))


async def serve_clients(
    address: Address, issuer: str, clients: Sequence[Client], pace: float
) -> list[tuple[int, int, float]]:
    """Let each client ask for one token, so many a second; returns first status, last status and seconds of each."""

    async def first_token(number: int, client: Client) -> tuple[int, int, float]:
        await asyncio.sleep(number / pace)
        began = time.monotonic()
        first, wait = await ask(address, signed(client, issuer))
        took, last = time.monotonic() - began, first
        if first in (429, 503):
            await asyncio.sleep(wait)
            last, _ = await ask(address, signed(client, issuer))
        return first, last, took

    return await asyncio.gather(*(first_token(number, client) for number, client in enumerate(clients)))


def signed(client: Client, issuer: str) -> bytes:
    """A good request of this client."""
    name, key = client
    return form(jose.sign_jwt(_claims(name, issuer), key, ASSERTION_TYP))


def register(directory: Path, count: int) -> list[Client]:
    """So many clients that have never asked for anything."""
    config = load_config(directory / "groat.toml", {})
    clients = [(f"c{secrets.token_hex(6)}", generate_private_key("ES256")) for _ in range(count)]

    async def add() -> None:
        store = SqliteStore.open(config.database)
        operator = Operator(store, config.policy, Audit(EventLog(level="error")))
        for name, key in clients:
            await operations.add_client(operator, name, {"orders": [SCOPE]}, (key.public,))
        await store.close()

    asyncio.run(add())
    return clients


def phase(server: Server, clients: Sequence[Client], rate: float, pace: float, workers: int) -> Phase:
    """One phase: the neighbour at this rate, and the clients beside it."""
    parts = urlsplit(server.token_url)
    address = (str(parts.hostname), int(parts.port or 80))
    if rate:
        asyncio.run(_exhaust(address, server.issuer, workers))
    counts = {status: multiprocessing.Value("i", 0) for status in (401, 429, 503)}
    process = multiprocessing.Process(target=_neighbour, args=(address, server.issuer, rate, counts), daemon=True)
    if rate:
        process.start()
        time.sleep(1.0)
    before, began = sum(count.value for count in counts.values()), time.monotonic()
    outcomes = asyncio.run(serve_clients(address, server.issuer, clients, pace))
    failures, seconds = sum(count.value for count in counts.values()) - before, time.monotonic() - began
    if rate:
        process.terminate()
        process.join()
    tally = Counter(first for first, _, _ in outcomes)
    times = tuple(took for first, _, took in outcomes if first == 200)
    return Phase(failures / seconds, tally[200], sum(last == 200 for _, last, _ in outcomes), len(outcomes), times)


async def _exhaust(address: Address, issuer: str, workers: int) -> None:
    """Fail until no worker takes it for anything but a source over its limit."""
    refused = 0
    while refused < 20 * workers:
        answers = await asyncio.gather(*(ask(address, forged(issuer)) for _ in range(20)))
        refused = refused + 20 if all(status == 429 for status, _ in answers) else 0


def measure(workers: int, clients: int, pace: float, rates: Sequence[float] = RATES) -> list[Phase]:
    """All phases on one server, the quiet one first."""
    with groat_server("ES256", workers) as server:
        warm, *groups = [register(server.directory, clients) for _ in range(len(rates) + 1)]
        phase(server, warm, 0, pace, workers)
        return [phase(server, group, rate, pace, workers) for group, rate in zip(groups, rates, strict=True)]


HEADER: Final = (
    "| failures a second beside | first tokens served at once | after one more try | median | p99 | p99 to quiet |\n"
    "|---|---|---|---|---|---|"
)


def line(row: Phase, quiet: Phase) -> str:
    """One line of the Markdown table."""
    median, p99 = (row.quantile(percent) for percent in (50, 99))
    served = f"{row.first} of {row.asked} | {row.served} of {row.asked}"
    times = f"{median * 1000:.1f} ms | {p99 * 1000:.1f} ms | {p99 / quiet.quantile(99):.1f}"
    return f"| {row.rate:.0f} | {served} | {times} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=300, help="in each phase")
    parser.add_argument("--pace", type=float, default=40.0, help="of these, a second")
    options = parser.parse_args(arguments)
    rows = measure(options.workers, options.clients, options.pace)
    print(HEADER, *(line(row, rows[0]) for row in rows), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
