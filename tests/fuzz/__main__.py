"""`make fuzz`: a million mutated requests, or as many as an hour allows; exits with 1 where a promise was broken.

python -m tests.fuzz [REQUESTS [SEED]]
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from .run import Fuzz, Result, furnish, target

REQUESTS: Final = 1_000_000
SHOWN: Final = 20
MAX_GROWTH_MB: Final = 32


def main() -> int:
    """Run, and say what came out."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    result = Result(int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time()))
    print(f"seed {result.seed}; again: make fuzz REQUESTS={requests} SEED={result.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="groat-fuzz-") as directory:
        furnish(Path(directory))
        with target(Path(directory)) as server:
            Fuzz(server, result).run(requests)
    for breach in result.breaches[:SHOWN]:
        print(breach)
    print(result)
    if result.growth > MAX_GROWTH_MB:
        print(f"the server grew by {result.growth} MB after its first quarter; at most {MAX_GROWTH_MB} are allowed")
    return bool(result.breaches) or result.growth > MAX_GROWTH_MB


if __name__ == "__main__":
    sys.exit(main())
