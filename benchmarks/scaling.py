"""How cost grows with the number of registered clients and of remembered uses, on both stores.

    python -m benchmarks.scaling [--stores sqlite postgres] [--clients 1000 ...] [--uses 1000000 ...]

Two servers run side by side: one with ten clients and no remembered use, and the one that grows. Load goes to them in
turn, over 8 keep-alive connections, each request a fresh assertion of one of up to 1,000 clients, so that a noisy
neighbour hits both alike. What counts is the ratio of the medians; CPU is that of groat's process. The last two rows by
clients are of 20,000 that ask, each in its turn: more than a replica remembers by default, and with
`server.remembered_clients` raised.
"""

import argparse
import itertools
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crowd import Crowd
from benchmarks.load.driver import cpu_seconds, presign_bodies, process_tree, run_wrk
from benchmarks.places import Place, postgres_place, sqlite_place
from benchmarks.servers import RESOURCE, SCOPE
from groat.protocol.jwk import PrivateKey, generate_private_key

CONNECTIONS = 8
TOKENS, ROUNDS, WARM_UPS, FEW, ASKING, SPREAD = 2000, 7, 4, 10, 1000, 20_000
CLIENTS = (1_000, 100_000, 1_000_000)
USES = (1_000_000, 10_000_000)
PLACES = {"sqlite": sqlite_place, "postgres": postgres_place}
HEADER = (
    "| store | clients | of them asking | remembered uses | tokens/s | p50 ms | p99 ms | CPU per token "
    "| p50 / smallest | CPU / smallest |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One load: tokens a second, latencies in ms, CPU seconds of groat's process per token."""

    rate: float
    p50: float
    p99: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Asking:
    """The clients that ask, and their keys."""

    names: Sequence[str]
    keys: Sequence[PrivateKey]
    turns: Iterator[int]  # whose turn it is, for ever
    each: int  # requests of one client in one load, if there are clients enough

    @classmethod
    def register(cls, crowd: Crowd, prefix: str, count: int, each: int = 8) -> "Asking":
        keys = [generate_private_key("ES256") for _ in range(count)]
        return cls(crowd.add_callers(prefix, keys), keys, itertools.cycle(range(count)), each)

    def write(self, file: Path, issuer: str, count: int) -> None:
        """`count` request bodies of those whose turn it is, in random order."""
        lines: list[str] = []
        part = file.with_suffix(".part")
        chosen = list(itertools.islice(self.turns, min(count // self.each, len(self.names))))
        share = -(-count // len(chosen))
        for number in chosen:
            presign_bodies(part, share, client_id=self.names[number], private_jwk=self.keys[number].private_jwk(),
                           alg="ES256", issuer=issuer, resource=RESOURCE, scope=SCOPE)  # fmt: skip
            lines += part.read_text("ascii").splitlines(keepends=True)
        random.shuffle(lines)
        file.write_text("".join(lines[:count]), "ascii")


def load(place: Place, pid: int, asking: Asking) -> Sample:
    """Raises RuntimeError if over one request in a hundred was refused: a busy machine may answer some with 503."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        asking.write(bodies, place.issuer, TOKENS)
        pids = process_tree(pid)
        before = cpu_seconds(pids)
        result = run_wrk(place.token_url, bodies, CONNECTIONS, 60)
        used = cpu_seconds(pids) - before
    if result.accepted < TOKENS * 0.99 or result.socket_errors:
        raise RuntimeError(f"not every request was answered 200: {result}")
    return Sample(
        result.accepted / result.seconds, result.latency_p50_ms, result.latency_p99_ms, used / result.accepted
    )


@dataclass(frozen=True, slots=True)
class Smallest:
    """The server that everything is compared with; it keeps running."""

    place: Place
    pid: int
    asking: Asking

    def line(self) -> str:
        """The first line of the table."""
        samples = [load(self.place, self.pid, self.asking) for _ in range(ROUNDS)]
        return f"| {self.place.engine} | {FEW} | {FEW} | 0 | {_medians(samples)} | 1 | 1 |"

    def compare(self, place: Place, crowd: Crowd, asking: Asking) -> str:
        """A line for the grown store: its server is started, warmed up, and loaded in turn with the smallest."""
        with place.serve() as served:
            for _ in range(max(WARM_UPS, len(asking.names) * asking.each // TOKENS)):  # everybody asks once, at least
                load(place, served.pid, asking)
            pairs = [(load(self.place, self.pid, self.asking), load(place, served.pid, asking)) for _ in range(ROUNDS)]
        p50 = statistics.median(grown.p50 / small.p50 for small, grown in pairs)
        cpu = statistics.median(grown.cpu / small.cpu for small, grown in pairs)
        figures = _medians([grown for _, grown in pairs])
        return (
            f"| {place.engine} | {crowd.clients:,} | {len(asking.names):,} | {crowd.uses:,} | {figures} "
            f"| {p50:.2f} | {cpu:.2f} |"
        )


def _medians(samples: Sequence[Sample]) -> str:
    rate, p50, p99, cpu = (
        statistics.median(getattr(sample, name) for sample in samples) for name in ("rate", "p50", "p99", "cpu")
    )
    return f"{rate:,.0f} | {p50:.2f} | {p99:.1f} | {cpu * 1e6:.0f} us"


@contextmanager
def smallest(store: str) -> Iterator[Smallest]:
    """Ten clients, no remembered use."""
    with PLACES[store]() as place:
        asking = Asking.register(Crowd(place.database_url, place.password), "few", FEW)
        with place.serve() as served:
            load(place, served.pid, asking)
            yield Smallest(place, served.pid, asking)


def by_clients(small: Smallest, place: Place, sizes: Sequence[int]) -> None:
    """Grow the registry step by step; at the end let far more clients ask than a replica remembers by default."""
    crowd = Crowd(place.database_url, place.password)
    many = Asking.register(crowd, "many", ASKING)
    for size in sizes:
        crowd.grow_clients(size)
        print(small.compare(place, crowd, many), flush=True)
    spread = Asking.register(crowd, "spread", SPREAD, each=1)
    print(small.compare(place, crowd, spread), flush=True)
    place.settings["GROAT_SERVER__REMEMBERED_CLIENTS"] = str(crowd.clients)
    print(small.compare(place, crowd, spread), flush=True)


def by_uses(small: Smallest, place: Place, sizes: Sequence[int]) -> None:
    """Grow the memory of used assertions step by step, with a thousand clients."""
    crowd = Crowd(place.database_url, place.password)
    many = Asking.register(crowd, "many", ASKING)
    for size in sizes:
        crowd.grow_uses(size)
        print(small.compare(place, crowd, many), flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--clients", nargs="*", type=int, default=CLIENTS)
    parser.add_argument("--uses", nargs="*", type=int, default=USES)
    options = parser.parse_args(arguments)
    print(HEADER)
    for store in options.stores:
        with smallest(store) as small:
            print(small.line(), flush=True)
            for grow, sizes in ((by_clients, options.clients), (by_uses, options.uses)):
                if sizes:
                    with PLACES[store]() as place:
                        grow(small, place, sizes)


if __name__ == "__main__":
    main()
