"""Two workers against one, and the time from `groat serve` to ready, in one run."""

from benchmarks.load.driver import rss_bytes
from benchmarks.servers import groat_server
from benchmarks.token_endpoint import measure

CONNECTIONS = 64


def main() -> None:
    rates = []
    for workers in (1, 2):
        with groat_server("ES256", workers) as server:
            row = measure(server, 6000, 3, CONNECTIONS)
            rates.append(row.tokens_per_second)
            memory = max(rss_bytes(pid) for pid in server.pids) / 2**20
            print(
                f"- {workers} worker(s), {CONNECTIONS} connections: {row.tokens_per_second:,.0f} tokens/s, "
                f"{row.cpu_per_token * 1e6:.0f} us CPU per token, largest process {memory:.0f} MB, "
                f"ready {server.started_in:.2f} s after the command"
            )
    print(f"- two workers / one worker: {rates[1] / rates[0]:.2f} (the load generator shares the cores)")


if __name__ == "__main__":
    main()
