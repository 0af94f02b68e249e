"""All benchmarks in one run: `python -m benchmarks`."""

from benchmarks import phases, token_endpoint, verify, workers


def main() -> None:
    print("## Token endpoint\n")
    token_endpoint.main([])
    print("\n## Verification\n")
    verify.main()
    print("\n## Without sockets and database\n")
    phases.main([])
    print("\n## Workers and start\n")
    workers.main()


if __name__ == "__main__":
    main()
