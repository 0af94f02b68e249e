"""Two workers against one, and the time from `groat serve` to ready, in one run.

The load generator runs on the same cores. Its CPU time and the servers' say how much of the machine was left idle, and
how many times the tokens of one worker two could make if nothing were: what they have, divided by what both take.
"""

import os

from benchmarks.load.driver import rss_bytes
from benchmarks.servers import groat_server
from benchmarks.token_endpoint import Row, measure

CONNECTIONS = 64


def busy(row: Row) -> float:
    """Cores that server and load generator kept busy."""
    return row.tokens_per_second * (row.cpu_per_token + row.load_cpu)


def main() -> None:
    rows = []
    for workers in (1, 2):
        with groat_server("ES256", workers) as server:
            row = measure(server, 6000, 5, CONNECTIONS)
            rows.append(row)
            memory = max(rss_bytes(pid) for pid in server.pids) / 2**20
            print(
                f"- {workers} worker(s), {CONNECTIONS} connections: {row.tokens_per_second:,.0f} tokens/s, "
                f"{row.cpu_per_token * 1e6:.0f} us CPU per token, {row.load_cpu * 1e6:.0f} us of the load generator, "
                f"{busy(row):.2f} of {os.cpu_count()} cores busy, largest process {memory:.0f} MB, "
                f"ready {server.started_in:.2f} s after the command"
            )
    one, two = rows
    room = min(2.0, (os.cpu_count() or 1) / busy(one))
    times = two.tokens_per_second / one.tokens_per_second
    print(f"- two workers / one worker: {times:.2f}, of {room:.2f} that there is room for")


if __name__ == "__main__":
    main()
