"""CPU time per token of two commits, their servers up at once and loaded in turn, so that a noisy host hits both alike.

    python -m benchmarks.pair BEFORE AFTER [--rounds 16] [--tokens 4000] [--workers 1 2] [--algorithm ES256] [--lists]

BEFORE and AFTER are worktrees, each with its own `.venv`; registration and load are those of this tree. What is printed
beside the medians is the ratio of CPU time pair by pair, the later one to the earlier. With `--lists` the tokens of
AFTER, which may be the same tree, stand in status lists. Needs wrk.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.load.driver import raw_cost
from benchmarks.servers import Server, groat_server
from benchmarks.token_endpoint import CONNECTIONS, WARM_UP_TOKENS, load


@dataclass(slots=True)
class Pairs:
    """CPU seconds per token of both, round by round, and the raw cost between."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of the ratios of each round."""
        return statistics.median(new / old for old, new in zip(self.before, self.after, strict=True))


@contextmanager
def _served_by(tree: Path, algorithm: str, workers: int) -> Iterator[Server]:
    own = servers.GROAT
    servers.GROAT = str(tree / ".venv" / "bin" / "groat")
    try:
        with groat_server(algorithm, workers) as server:
            yield server
    finally:
        servers.GROAT = own


def measure(options: argparse.Namespace, workers: int) -> Pairs:
    """So many rounds, who comes first changing with each."""
    pairs, algorithm, tokens = Pairs(), options.algorithm, options.tokens
    with ExitStack() as stack:
        both = [stack.enter_context(_served_by(tree.resolve(), algorithm, workers)) for tree in options.trees]
        if options.lists:
            servers.run_groat(both[1].directory, "api", "update", "orders", "--status", "list")
        for server in both:
            load(server, WARM_UP_TOKENS, CONNECTIONS)
        sides = [(both[0], pairs.before), (both[1], pairs.after)]
        for _ in range(options.rounds):
            for server, costs in sides:
                costs.append(load(server, tokens, CONNECTIONS)[1])
            pairs.raw.append(raw_cost(algorithm))
            sides.reverse()
    return pairs


HEADER: Final = (
    "| algorithm | workers | before | after | raw verify + sign | before to raw | after to raw | after to before |\n"
    "|---|---|---|---|---|---|---|---|"
)


def line(algorithm: str, workers: int, pairs: Pairs) -> str:
    """One line of the Markdown table."""
    before, after, raw = (statistics.median(costs) for costs in (pairs.before, pairs.after, pairs.raw))
    costs = " | ".join(f"{seconds * 1e6:.0f} us" for seconds in (before, after, raw))
    ratios = " | ".join(f"{ratio:.2f}" for ratio in (before / raw, after / raw))
    return f"| {algorithm} | {workers} | {costs} | {ratios} | {pairs.ratio:.3f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", type=Path, nargs=2)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--algorithm", default="ES256")
    parser.add_argument("--lists", action="store_true")
    options = parser.parse_args(arguments)
    print(HEADER)
    for workers in options.workers:
        pairs = measure(options, workers)
        print(line(options.algorithm, workers, pairs), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
