"""`groat` with a fault built in, for tests alone: `python -m tests.faults.entry serve ...`.

GROAT_TEST_FAULT names what is wrong. The product knows nothing of it: this module changes the product's parts from
outside before the ordinary command runs, and an unknown name, or a part that is no longer there, is an error.
"""

import os

from groat.cli import main

from . import broken_stores, few_links, kill_points, later_schema


def install(fault: str) -> None:
    """Build the fault in. Raises KeyError for an unknown one."""
    kind, _, name = fault.partition(":")
    installers = {"store": broken_stores, "kill": kill_points, "schema": later_schema, "links": few_links}
    installers[kind].install(name)


if __name__ == "__main__":
    install(os.environ.pop("GROAT_TEST_FAULT"))
    main()
