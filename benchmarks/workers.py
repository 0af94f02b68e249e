"""Two workers against one, and the time from `groat serve` to ready, in one run.

    python -m benchmarks.workers [--share 0.5]

The load generator runs on the same cores. Its CPU time and the servers' say how much of the machine was left idle, and
how many times the tokens of one worker two could make if nothing were: what they have, divided by what both take. Both
servers run all the time and are measured in turn, so that a noisy neighbour hits both alike.

`--share` holds each worker to that part of a core (needs root), so that the load generator has room beside two of them.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks.load.driver import rss_bytes
from benchmarks.quota import held_to
from benchmarks.servers import Server, groat_server
from benchmarks.token_endpoint import Row, measure

CONNECTIONS = 64
TOKENS = 6000
ROUNDS = 5


def busy(row: Row) -> float:
    """Cores that server and load generator kept busy."""
    return row.tokens_per_second * (row.cpu_per_token + row.load_cpu)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, help="of one core, for each worker (default: no limit)")
    compare(parser.parse_args(arguments).share)


def compare(share: float | None) -> None:
    with ExitStack() as running:
        servers = [running.enter_context(groat_server("ES256", workers)) for workers in (1, 2)]
        if share is not None:
            running.enter_context(held_to(share, [pid for server in servers for pid in server.pids]))
        rounds = [[measure(server, TOKENS, 1, CONNECTIONS) for server in servers] for _ in range(ROUNDS)]
        for server, *rows in zip(servers, *rounds, strict=True):
            report(server, rows)
    times = statistics.median(two.tokens_per_second / one.tokens_per_second for one, two in rounds)
    room = statistics.median(min(2.0, (os.cpu_count() or 1) / busy(one)) for one, _ in rounds)
    held = "" if share is None else f", each worker held to {share} of a core"
    print(f"- two workers / one worker: {times:.2f}, of {room:.2f} that there is room for{held}")


def middle(rows: Sequence[Row], figure: Callable[[Row], float]) -> float:
    return statistics.median(map(figure, rows))


def report(server: Server, rows: Sequence[Row]) -> None:
    """The medians of a server's rounds."""
    cpu = middle(rows, lambda row: row.cpu_per_token)
    memory = max(rss_bytes(pid) for pid in server.pids) / 2**20
    print(
        f"- {server.name}, {CONNECTIONS} connections: {middle(rows, lambda row: row.tokens_per_second):,.0f} tokens/s, "
        f"{cpu * 1e6:.0f} us CPU per token ({cpu / middle(rows, lambda row: row.raw):.2f} times raw), "
        f"{middle(rows, lambda row: row.load_cpu) * 1e6:.0f} us of the load generator, "
        f"{middle(rows, busy):.2f} of {os.cpu_count()} "
        f"cores busy, largest process {memory:.0f} MB, ready {server.started_in:.2f} s after the command"
    )


if __name__ == "__main__":
    main()
