"""The same token endpoint on both stores, as ratios to the raw signature cost of the same run.

    python -m benchmarks.stores [--rounds 3] [--tokens 6000] [--workers 1]

PostgreSQL is the tests' own server with its default durability, on the same machine; its CPU time is not counted.
"""

import argparse

from benchmarks.servers import groat_server
from benchmarks.token_endpoint import CONNECTIONS, HEADER, line, measure
from tests.postgres import PostgresServer


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    options = parser.parse_args(arguments)
    print(HEADER)
    with PostgresServer.running() as postgres:
        for url in (None, postgres.database()):
            with groat_server("ES256", options.workers, storage_url=url) as server:
                print(line(measure(server, options.tokens, options.rounds, options.connections)), flush=True)


if __name__ == "__main__":
    main()
