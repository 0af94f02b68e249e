"""`groat demo`: the four roles of machine-to-machine OAuth, for real, on loopback, in a few seconds."""


def run_demo(*, keep: bool = False, as_json: bool = False, color: bool = True, workload: bool = False) -> int:
    """Run the demo; returns 0 if every step and every refusal came out as expected, else 1.

    `keep` leaves the servers running and prints lines for curl; `as_json` prints one JSON object per step on stdout;
    `workload` shows workloads without a key in place of a client with one (nothing is kept then).
    Raises KeyboardInterrupt on Ctrl-C, SIGTERM or SIGHUP, when everything is cleaned up.
    """
    # Imported late: `python -m groat.demo.example_api` passes through here and needs none of it.
    import groat.app  # noqa: F401 - what will serve: a package that is missing is found before any process starts
    from groat.demo.play import perform

    return perform(keep=keep, as_json=as_json, color=color, workload=workload)


__all__ = ["run_demo"]
