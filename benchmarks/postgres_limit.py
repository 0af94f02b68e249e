"""How many single uses one PostgreSQL takes: durable inserts into the real table, without groat in front.

    python -m benchmarks.postgres_limit [--seconds 8] [--batches 1 8 64] [--connections 1 3 8]

PostgreSQL's own pgbench sends statements like those of a replica: a batch of new digests, `ON CONFLICT DO NOTHING`, one
durable transaction each. A replica has one such connection, so connections stand for replicas.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.driver import cpu_seconds
from benchmarks.places import Place, postgres_place

_SCRIPT = """
INSERT INTO used_once (digest, client_id, token_id, kid, issued_at, replica, expires_at)
SELECT sha256((random()::text || i || :client_id)::bytea), 'billing', substr(md5(random()::text), 1, 22), 'kid',
       1800000000, 'host/1', 1800000300 + i
FROM generate_series(1, {batch}) AS n (i) ON CONFLICT DO NOTHING;
"""
HEADER = (
    "| connections | uses per transaction | transactions/s | uses/s | ms per transaction | PostgreSQL CPU per use |\n"
    "|---|---|---|---|---|---|"
)


def measure(place: Place, folder: Path, connections: int, batch: int, seconds: int) -> str:
    """One line of the table. Raises RuntimeError when pgbench says nothing."""
    assert place.postgres is not None
    script = folder / f"batch-{batch}.sql"
    script.write_text(_SCRIPT.format(batch=batch))
    before = _cpu_seconds_ever(place)
    printed = place.postgres.run(
        "pgbench", "--no-vacuum", "--protocol=prepared", "-T", str(seconds), "-c", str(connections),
        "-j", str(min(2, connections)), "-f", str(script), place.database_url,
    )  # fmt: skip
    used = _cpu_seconds_ever(place) - before
    rate, latency = _figures(printed)
    per_use = used / (rate * seconds * batch)
    return f"| {connections} | {batch} | {rate:,.0f} | {rate * batch:,.0f} | {latency:.2f} | {per_use * 1e6:.0f} us |"


def _cpu_seconds_ever(place: Place) -> float:
    """Of all of PostgreSQL's processes, those that have ended included: the kernel adds them to their parent."""
    while True:
        pids = place.postgres_pids
        try:
            living = cpu_seconds(pids)
        except FileNotFoundError:  # a backend ended in between, and counts with its parent now
            continue
        ended = Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[13:15]
        return living + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")


def _figures(printed: str) -> Sequence[float]:
    found = [re.search(pattern, printed) for pattern in (r"tps = ([\d.]+)", r"latency average = ([\d.]+)")]
    figures = [float(match[1]) for match in found if match]
    if len(figures) != 2:
        raise RuntimeError(printed)
    return figures


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 3, 8])
    options = parser.parse_args(arguments)
    print(HEADER)
    with postgres_place() as place, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for batch in options.batches:
            for connections in options.connections:
                print(measure(place, Path(folder), connections, batch, options.seconds), flush=True)


if __name__ == "__main__":
    main()
