"""The command line: noun, verb; the result on stdout, everything else on stderr.

Nothing is imported here that an installation without extras lacks: it can still say what to install.
"""

import sys

from groat.cli.interrupts import ended_by_ctrl_c
from groat.cli.missing import report_missing

INTERRUPTED = 130


def main() -> None:
    """Run one command and exit with its code (`Exit`)."""
    try:
        with ended_by_ctrl_c():
            from groat.cli.command import run
    except ModuleNotFoundError as error:
        sys.exit(report_missing(error, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


__all__ = ["main"]
