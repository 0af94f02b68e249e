"""`groat` with a fault built in, for tests alone: `python -m tests.faults.entry serve ...`.

GROAT_TEST_FAULT names what is wrong. The product knows nothing of it: this module changes the product's parts from
outside before the ordinary command runs, and an unknown name, or a part that is no longer there, is an error.
"""

import importlib
import os

KINDS = {
    "clock": "clocks",  # before anything of the product is imported
    "store": "broken_stores",
    "kill": "kill_points",
    "schema": "later_schema",
    "links": "few_links",
}


def install(fault: str) -> None:
    """Build the fault in. Raises KeyError for an unknown one."""
    kind, _, name = fault.partition(":")
    importlib.import_module(f".{KINDS[kind]}", __package__).install(name)


if __name__ == "__main__":
    install(os.environ.pop("GROAT_TEST_FAULT"))
    importlib.import_module("groat.cli").main()
