"""How cost grows with the number of registered clients and of remembered uses, on both stores.

    python -m benchmarks.scaling [--stores sqlite postgres] [--clients 10 1000 ...] [--uses 0 1000000 ...]

One `groat serve` process; 1,000 clients ask in turn (10 where there are no more), over 8 keep-alive connections; each
request is a fresh assertion. What is compared is the median latency, and the CPU time of groat's process per token.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crowd import Crowd
from benchmarks.load.driver import cpu_seconds, presign_bodies, process_tree, run_wrk
from benchmarks.places import Place, postgres_place, sqlite_place
from benchmarks.servers import RESOURCE, SCOPE
from groat.protocol.jwk import PrivateKey, generate_private_key

CONNECTIONS = 8
TOKENS, ROUNDS, ASKING, SPREAD = 4000, 5, 1000, 20_000
CLIENTS = (10, 1_000, 100_000, 1_000_000)
USES = (0, 1_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the rounds; CPU in seconds of groat's process per token."""

    store: str
    clients: int
    asking: int
    uses: int
    tokens_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_per_token: float

    def line(self) -> str:
        return (
            f"| {self.store} | {self.clients:,} | {self.asking:,} | {self.uses:,} | {self.tokens_per_second:,.0f} "
            f"| {self.p50_ms:.2f} | {self.p99_ms:.1f} | {self.cpu_per_token * 1e6:.0f} us |"
        )


HEADER = (
    "| store | clients | of them asking | remembered uses | tokens/s | p50 ms | p99 ms | CPU per token |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Asking:
    """The clients that ask, and their keys."""

    names: Sequence[str]
    keys: Sequence[PrivateKey]

    def write(self, file: Path, issuer: str, count: int) -> None:
        """`count` request bodies, dealt out over the clients in random order."""
        lines: list[str] = []
        part = file.with_suffix(".part")
        chosen = random.sample(range(len(self.names)), min(count, len(self.names)))
        share = -(-count // len(chosen))
        for number in chosen:
            presign_bodies(part, share, client_id=self.names[number], private_jwk=self.keys[number].private_jwk(),
                           alg="ES256", issuer=issuer, resource=RESOURCE, scope=SCOPE)  # fmt: skip
            lines += part.read_text("ascii").splitlines(keepends=True)
        random.shuffle(lines)
        file.write_text("".join(lines[:count]), "ascii")


def measure(place: Place, crowd: Crowd, asking: Asking) -> Row:
    """A fresh server on this store, warmed up; medians of several rounds."""
    with place.serve() as served, tempfile.TemporaryDirectory() as folder:
        _load(place, served.pid, asking, Path(folder))
        samples = [_load(place, served.pid, asking, Path(folder)) for _ in range(ROUNDS)]
    medians = [statistics.median(values) for values in zip(*samples, strict=True)]
    return Row(crowd.engine, crowd.clients, len(asking.names), crowd.uses, *medians)


def _load(place: Place, pid: int, asking: Asking, folder: Path) -> tuple[float, float, float, float]:
    bodies = folder / "bodies"
    asking.write(bodies, place.issuer, TOKENS)
    pids = process_tree(pid)
    before = cpu_seconds(pids)
    result = run_wrk(place.token_url, bodies, CONNECTIONS, 60)
    used = cpu_seconds(pids) - before
    if result.accepted != TOKENS or result.socket_errors:
        raise RuntimeError(f"not every request was answered 200: {result}")
    return result.accepted / result.seconds, result.latency_p50_ms, result.latency_p99_ms, used / result.accepted


def by_clients(place: Place, sizes: Sequence[int]) -> None:
    """Grow the registry step by step; at the end let far more clients ask than a replica keeps in memory."""
    crowd = Crowd(place.database_url, place.password, clients=1)
    few = _register(crowd, "few", min(9, sizes[0]))
    print(measure(place, crowd, few).line(), flush=True)
    many = _register(crowd, "many", ASKING - crowd.clients)
    for size in sizes[1:]:
        crowd.grow_clients(size)
        print(measure(place, crowd, many).line(), flush=True)
    spread = _register(crowd, "spread", SPREAD)
    print(measure(place, crowd, spread).line(), flush=True)


def by_uses(place: Place, sizes: Sequence[int]) -> None:
    """Grow the memory of used assertions step by step, with a thousand clients."""
    crowd = Crowd(place.database_url, place.password, clients=1)
    many = _register(crowd, "many", ASKING - 1)
    for size in sizes:
        crowd.grow_uses(size)
        print(measure(place, crowd, many).line(), flush=True)


def _register(crowd: Crowd, prefix: str, count: int) -> Asking:
    keys = [generate_private_key("ES256") for _ in range(count)]
    return Asking(crowd.add_callers(prefix, keys), keys)


PLACES = {"sqlite": sqlite_place, "postgres": postgres_place}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--clients", nargs="*", type=int, default=CLIENTS)
    parser.add_argument("--uses", nargs="*", type=int, default=USES)
    options = parser.parse_args(arguments)
    print(HEADER)
    for store in options.stores:
        if options.clients:
            with PLACES[store]() as place:
                by_clients(place, options.clients)
        if options.uses:
            with PLACES[store]() as place:
                by_uses(place, options.uses)


if __name__ == "__main__":
    main()
