"""All benchmarks in one run: `python -m benchmarks`."""

import os
import sys

from benchmarks import generations, phases, token_endpoint, verify, workers


def main() -> int:
    print("## Token endpoint\n")
    token_endpoint.main([])
    print("\n## Verification\n")
    verify.main()
    print("\n## Without sockets and database\n")
    phases.main([])
    print("\n## Workers and start\n")
    workers.main([])
    if os.geteuid() == 0:
        workers.main(["--share", "0.5"])
    print("\n## Three generations of signing keys under this load\n")
    return generations.main([])


if __name__ == "__main__":
    sys.exit(main())
