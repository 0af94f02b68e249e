"""What honest clients get beside a burst of forged assertions in the name of a client that publishes its keys.

    python -m benchmarks.burst [--workers 1] [--size 300] [--seconds 8] [--pace 100]

`groat serve` on SQLite, behind a proxy that it trusts, so that each forged request has a source of its own; the host of
the key set is silent. Honest requests, each on a connection of its own, come at an even pace from this process whether
or not the ones before are answered; a second process sends `size` forged ones for each worker at once, in the middle.
Not measured: TLS.
"""

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from benchmarks.neighbour import Address, Client, forged, head_of, signed, status_of
from benchmarks.servers import CLIENT, SCOPE, Server, groat_server
from groat.protocol.client_settings import ClientSettings
from groat.server import operations
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations.operator import Operator
from groat.server.settings.config import load_config
from groat.server.store.sqlite.store import SqliteStore

PUBLISHER: Final = "silent"
SETTINGS: Final = {
    "GROAT_KEYS__CLIENT_NETWORKS": "127.0.0.0/8",
    "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Beside:
    """What honest requests met. `times`: seconds until the answer of those that were served."""

    asked: int
    times: tuple[float, ...]

    def quantile(self, percent: int) -> float:
        return statistics.quantiles(self.times, n=100)[percent - 1] if len(self.times) > 1 else float("nan")


async def ask(address: Address, body: bytes, source: str) -> tuple[int, float]:
    """One request on a connection of its own, from this source; returns its status and how long the answer took."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(*address)
    try:
        field = b"X-Forwarded-For: %b\r\n" % source.encode()
        writer.write(head_of(body, close=True).replace(b"\r\n", b"\r\n" + field, 1) + body)
        head, _, _ = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return status_of(head)[0], time.monotonic() - began


async def ask_evenly(address: Address, bodies: Sequence[bytes], pace: float) -> Beside:
    """So many a second, whatever becomes of those before."""

    async def one(number: int, body: bytes) -> tuple[int, float]:
        await asyncio.sleep(number / pace)
        return await ask(address, body, "192.0.2.1")

    answers = await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))
    return Beside(len(answers), tuple(took for status, took in answers if status == 200))


async def _all_at_once(address: Address, bodies: Sequence[bytes]) -> None:
    sources = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(len(bodies))]
    await asyncio.gather(*(ask(address, body, source) for body, source in zip(bodies, sources, strict=True)))


def _burst(address: Address, issuer: str, size: int, after: float) -> None:
    bodies = [forged(issuer, PUBLISHER) for _ in range(size)]
    time.sleep(after)
    asyncio.run(_all_at_once(address, bodies))


@contextmanager
def silence() -> Iterator[str]:
    """The URI of a key set at a host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/jwks.json"


def publish(server: Server, uri: str) -> None:
    """Register the client whose keys are there."""

    async def add() -> None:
        config = load_config(server.directory / "groat.toml", {})
        store = SqliteStore.open(config.database)
        operator = Operator(store, config.policy, Audit(EventLog(level="error")))
        await operations.add_client(operator, PUBLISHER, {"orders": [SCOPE]}, (), ClientSettings(jwks_uri=uri))
        await store.close()

    asyncio.run(add())


def measure(workers: int, size: int, seconds: float, pace: float) -> tuple[Beside, Beside]:
    """The honest requests of a quiet stretch, and those of one with a burst in its middle."""
    with silence() as uri, groat_server("ES256", workers, env=SETTINGS) as server:
        publish(server, uri)
        parts = urlsplit(server.token_url)
        address = (str(parts.hostname), int(parts.port or 80))
        client: Client = (CLIENT, server.client_key)
        count = int(seconds * pace)

        def stretch() -> Beside:
            return asyncio.run(ask_evenly(address, [signed(client, server.issuer) for _ in range(count)], pace))

        stretch()  # warm
        quiet = stretch()
        arguments = (address, server.issuer, size * workers, seconds / 2)
        process = multiprocessing.get_context("spawn").Process(target=_burst, args=arguments, daemon=True)
        process.start()
        beside = stretch()
        process.join(30)
        return quiet, beside


HEADER: Final = "| honest requests | served | median | p99 | longest | p99 to quiet |\n|---|---|---|---|---|---|"


def line(name: str, row: Beside, quiet: Beside) -> str:
    """One line of the Markdown table."""
    median, p99, longest = row.quantile(50), row.quantile(99), max(row.times, default=float("nan"))
    times = " | ".join(f"{seconds * 1000:.1f} ms" for seconds in (median, p99, longest))
    return f"| {name} | {len(row.times)} of {row.asked} | {times} | {p99 / quiet.quantile(99):.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--size", type=int, default=300, help="of the burst, for each worker")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--pace", type=float, default=100.0, help="honest requests a second")
    options = parser.parse_args(arguments)
    quiet, beside = measure(options.workers, options.size, options.seconds, options.pace)
    print(HEADER, line("alone", quiet, quiet), line("beside a burst", beside, quiet), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
