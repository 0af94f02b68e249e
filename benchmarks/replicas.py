"""One replica and three, on SQLite and on PostgreSQL: tokens a second and CPU per token against the raw signatures.

    python -m benchmarks.replicas [--rounds 5] [--tokens 6000] [--replicas 1 3]

ES256 on both sides, 16 keep-alive connections to each replica, every request a fresh assertion, every answer durable.
CPU is that of groat's processes; PostgreSQL's own is in a column of its own, the load generator's in none.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.driver import LoadResult, cpu_seconds, presign_bodies, process_tree, raw_cost, run_wrk
from benchmarks.places import Place, postgres_place, sqlite_place
from benchmarks.servers import CLIENT, RESOURCE, SCOPE, free_port

CONNECTIONS = 16
ALGORITHM = "ES256"
HEADER = (
    "| store | replicas | tokens/s | p50 / p99 ms | groat CPU per token | raw verify + sign | ratio "
    "| PostgreSQL CPU per token |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: tokens a second, latencies in ms, CPU seconds per token of groat and PostgreSQL, and the raw cost."""

    rate: float
    p50: float
    p99: float
    groat: float
    postgres: float
    raw: float


def round_of(place: Place, pids: Sequence[int], ports: Sequence[int], tokens: int) -> Sample:
    """Load every replica at once with its share. Raises RuntimeError if any request was refused."""
    assert place.key is not None
    share = tokens // len(ports)
    database = place.postgres_pids
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(port) for port in ports]
        for file in files:
            presign_bodies(file, share, client_id=CLIENT, private_jwk=place.key.private_jwk(), alg=ALGORITHM,
                           issuer=place.issuer, resource=RESOURCE, scope=SCOPE)  # fmt: skip
        before, before_database = cpu_seconds(pids), cpu_seconds(database)
        with ThreadPoolExecutor(len(ports)) as pool:
            urls = [f"http://127.0.0.1:{port}/token" for port in ports]
            results = list(pool.map(lambda url, file: run_wrk(url, file, CONNECTIONS, 60), urls, files))
        used, used_database = cpu_seconds(pids) - before, cpu_seconds(database) - before_database
    _require_all_accepted(results, share)
    accepted = sum(result.accepted for result in results)
    return Sample(
        sum(result.accepted_per_second for result in results),
        statistics.median(result.latency_p50_ms for result in results),
        max(result.latency_p99_ms for result in results),
        used / accepted,
        used_database / accepted,
        raw_cost(ALGORITHM),
    )


def _require_all_accepted(results: Sequence[LoadResult], share: int) -> None:
    for result in results:
        if result.accepted != share or result.socket_errors:
            raise RuntimeError(f"not every request was answered 200: {result}")


def measure(place: Place, store: str, replicas: int, tokens: int, rounds: int) -> str:
    """Medians over the rounds, as one line of the table."""
    with ExitStack() as stack:
        servers = [stack.enter_context(place.serve_on(free_port())) for _ in range(replicas)]
        pids = [pid for server in servers for pid in process_tree(server.pid)]
        ports = [server.port for server in servers]
        round_of(place, pids, ports, 2000)
        samples = [round_of(place, pids, ports, tokens) for _ in range(rounds)]
    rate, p50, p99, groat, postgres, raw = (
        statistics.median(getattr(sample, name) for sample in samples)
        for name in ("rate", "p50", "p99", "groat", "postgres", "raw")
    )
    return (
        f"| {store} | {replicas} | {rate:,.0f} | {p50:.1f} / {p99:.1f} | {groat * 1e6:.0f} us | {raw * 1e6:.0f} us "
        f"| {groat / raw:.2f} | {f'{postgres * 1e6:.0f} us' if place.postgres else '-'} |"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 3])
    options = parser.parse_args(arguments)
    print(HEADER)
    for store, make in (("SQLite", sqlite_place), ("PostgreSQL", postgres_place)):
        for replicas in options.replicas:
            with make() as place:
                print(measure(place, store, replicas, options.tokens, options.rounds), flush=True)


if __name__ == "__main__":
    main()
