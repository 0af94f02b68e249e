"""CPU time and throughput of the token endpoint, as ratios to the raw signature cost and to a peer, in one run.

    python -m benchmarks.token_endpoint [--rounds 3] [--tokens 6000] [--algorithms ES256 RS256] [--connections 16]
                                        [--no-peer]

Every request is a unique, pre-signed assertion over keep-alive connections; the server is `groat serve` with its
log in a file and its durable SQLite store. What is divided is the CPU time of the server's processes (user and
system) by the tokens issued. The raw cost is one verification and one signature by `cryptography`, measured between
the rounds, so that a noisy neighbour hits both alike.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.load.driver import cpu_seconds, presign_bodies, raw_cost, rss_bytes, run_wrk
from benchmarks.servers import CLIENT, RESOURCE, SCOPE, Server, groat_server, oidc_provider

CONNECTIONS = 16
WARM_UP_TOKENS = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one server under one algorithm. CPU in seconds per token, memory in bytes per process.

    `load_cpu`: what the load generator took, in seconds per token.
    """

    server: str
    algorithm: str
    processes: int
    tokens_per_second: float
    cpu_per_token: float
    raw: float
    p50_ms: float
    p99_ms: float
    load_cpu: float
    rss: int

    @property
    def ratio(self) -> float:
        return self.cpu_per_token / self.raw


def measure(server: Server, tokens: int, rounds: int, connections: int = CONNECTIONS) -> Row:
    """Several rounds against a warm server; the medians. Raises RuntimeError if any request was refused."""
    load(server, WARM_UP_TOKENS, connections)
    samples = [(load(server, tokens, connections), raw_cost(server.algorithm)) for _ in range(rounds)]
    loads = [load for load, _ in samples]
    return Row(
        server.name,
        server.algorithm,
        len(server.pids),
        statistics.median(load[0] for load in loads),
        statistics.median(load[1] for load in loads),
        statistics.median(raw for _, raw in samples),
        statistics.median(load[2] for load in loads),
        statistics.median(load[3] for load in loads),
        statistics.median(load[4] for load in loads),
        max(rss_bytes(pid) for pid in server.pids),
    )


def load(
    server: Server, tokens: int, connections: int, sign_proofs: Callable[[Path, int], object] | None = None
) -> tuple[float, float, float, float, float]:
    """So many tokens: tokens a second, CPU seconds of the server for each, p50 and p99 in ms, CPU seconds of the load.

    `sign_proofs` writes a file with so many DPoP headers, where the tokens are to be bound. Raises RuntimeError if any
    request was refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        presign_bodies(
            bodies,
            tokens,
            client_id=CLIENT,
            private_jwk=server.client_key.private_jwk(),
            alg=server.algorithm,
            issuer=server.issuer,
            resource=RESOURCE,
            scope=SCOPE,
        )
        proofs = None if sign_proofs is None else Path(folder) / "proofs"
        if proofs is not None and sign_proofs is not None:
            sign_proofs(proofs, tokens)
        before = cpu_seconds(server.pids)
        result = run_wrk(server.token_url, bodies, connections, 60, proofs)
        used = cpu_seconds(server.pids) - before
    if result.accepted != result.requests or result.requests != result.sent or result.socket_errors:
        raise RuntimeError(f"{server.name}: not every request was answered 200: {result}")
    latency = result.latency_p50_ms, result.latency_p99_ms
    return result.accepted / result.seconds, used / result.accepted, *latency, result.cpu_seconds / result.accepted


Start = Callable[[str], AbstractContextManager[Server]]


def compare(algorithms: list[str], tokens: int, rounds: int, connections: int, *, peer: bool) -> list[Row]:
    """Ours with one worker and with one for each core, and the peer's, one after the other, for each algorithm."""
    starts: list[Start] = [groat_server, partial(groat_server, workers=2)]
    if peer:
        starts.append(oidc_provider)
    rows = []
    for algorithm in algorithms:
        for start in starts:
            with start(algorithm) as server:
                rows.append(measure(server, tokens, rounds, connections))
                print(line(rows[-1]), flush=True)
    return rows


HEADER = (
    "| server | algorithm | processes | tokens/s | CPU per token | raw verify + sign | ratio | p50 / p99 ms | RSS |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """One line of the Markdown table."""
    return (
        f"| {row.server} | {row.algorithm} | {row.processes} | {row.tokens_per_second:,.0f} "
        f"| {row.cpu_per_token * 1e6:.0f} us | {row.raw * 1e6:.0f} us | {row.ratio:.2f} "
        f"| {row.p50_ms:.1f} / {row.p99_ms:.1f} | {row.rss / 2**20:.0f} MB |"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--algorithms", nargs="+", default=["ES256", "RS256"])
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args(arguments)
    print(HEADER)
    compare(options.algorithms, options.tokens, options.rounds, options.connections, peer=not options.no_peer)


if __name__ == "__main__":
    main()
