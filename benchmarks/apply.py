"""How long `groat apply` takes to register many clients with a key each, and to find that nothing is left to do.

    python -m benchmarks.apply [--clients 10000] [--stores sqlite postgres]

Whole commands, from their start to their end: wall time, CPU time and memory of the command. PostgreSQL is on the same
machine, and its own CPU is not counted.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from benchmarks.places import Place, postgres_place, sqlite_place
from benchmarks.servers import GROAT, RESOURCE, SCOPE
from groat.protocol.jwk import generate_private_key

PLACES: Final[Mapping[str, Callable[[], AbstractContextManager[Place]]]] = {
    "sqlite": sqlite_place,
    "postgres": postgres_place,
}
FILE: Final = "registry.toml"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one command took: seconds, seconds of CPU, MB at most."""

    what: str
    wall: float
    cpu: float
    memory: float

    def line(self, store: str) -> str:
        return f"| {store} | {self.what} | {self.wall:.1f} s | {self.cpu:.1f} s | {self.memory:.0f} MB |"


def registry(clients: int) -> str:
    """One API, and so many clients."""
    parts = [f'[apis.orders]\naudience = "{RESOURCE}"\nscopes = ["{SCOPE}"]\n']
    for number in range(clients):
        jwk = json.dumps(dict(generate_private_key("ES256").public.jwk)).replace('":', '" =')
        parts.append(f'[clients.c{number}]\nallow = {{orders = ["{SCOPE}"]}}\nkeys = [{{jwk = {jwk}}}]\n')
    return "\n".join(parts)


def spent(place: Place, what: str, *arguments: str) -> Spent:
    """Run a command to its end, which must be a success."""
    begun = time.monotonic()
    output = place.directory / "output"
    with output.open("wb") as file:
        redirected = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        words = ["env", "-C", str(place.directory), GROAT, *arguments]
        pid = os.posix_spawnp("env", words, dict(place.env), file_actions=redirected)
        _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"groat {' '.join(arguments)}: {output.read_text()[-2000:]}")
    return Spent(what, time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(place: Place, clients: int) -> Iterator[Spent]:
    """All new, nothing left to do, one of them changed, all of them exported."""
    file = place.directory / FILE
    file.write_text(registry(clients))
    yield spent(place, f"apply, {clients:,} clients new", "apply", "-f", FILE)
    yield spent(place, "the same again: unchanged", "apply", "-f", FILE)
    file.write_text(file.read_text().replace("[clients.c0]\n", '[clients.c0]\nowner = "team zero"\n'))
    yield spent(place, "one of them changed", "apply", "-f", FILE)
    yield spent(place, "export", "export")


HEADER: Final = "| store | command | wall | CPU | memory |\n|---|---|---|---|---|"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--stores", nargs="+", choices=list(PLACES), default=list(PLACES))
    options = parser.parse_args(arguments)
    print(HEADER)
    for store in options.stores:
        with PLACES[store]() as place:
            for row in measure(place, options.clients):
                print(row.line(store), flush=True)


if __name__ == "__main__":
    main()
