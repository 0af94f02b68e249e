"""Which extra a command needs, where a package is not installed."""

import json
import sys
from collections.abc import Sequence
from typing import Final

from groat.extras import extra_of

INPUT: Final = 3  # `Exit.INPUT`, which cannot be imported without click


def what_to_install(error: ModuleNotFoundError) -> str | None:
    """One line that says it; None for a package that no extra brings: then it is a bug."""
    package = (error.name or "").partition(".")[0]
    extra = extra_of(error)
    if extra is None:
        return None
    if extra == "client":
        return (
            f"the package {package} is not installed. On a client's host: pip install 'groat[client]'; "
            "where the server runs: pip install 'groat[server]'"
        )
    return f"this needs the package {package}, which is not installed: pip install 'groat[{extra}]'"


def report_missing(error: ModuleNotFoundError, argv: Sequence[str]) -> int:
    """Say it on standard error, as the rest of the command line would; returns the exit code."""
    line = what_to_install(error)
    if line is None:
        raise error
    if sys.stderr is not None:
        shown = json.dumps({"error": "invalid_input", "message": line}) if "--json" in argv else f"groat: {line}"
        sys.stderr.write(shown + "\n")
    return INPUT
