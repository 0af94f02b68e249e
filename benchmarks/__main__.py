"""All benchmarks in one run: `python -m benchmarks`."""

import sys

from benchmarks import bound, generations, guard, phases, token_endpoint, verify, workers


def main() -> int:
    print("## Token endpoint\n")
    token_endpoint.main([])
    print("\n## Verification\n")
    verify.main()
    print("\n## Bound tokens\n")
    bound.main([])
    print("\n## The guard\n")
    guard.main([])
    print("\n## Without sockets and database\n")
    phases.main([])
    print("\n## Workers and start\n")
    workers.main([])
    try:
        workers.main(["--share", "0.5"])
    except OSError as error:
        print(f"- not measured with each worker held to half a core, which needs root and cgroups: {error}")
    print("\n## Three generations of signing keys under this load\n")
    return generations.main([])


if __name__ == "__main__":
    sys.exit(main())
