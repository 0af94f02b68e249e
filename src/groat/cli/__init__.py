"""The command line: noun, verb; the result on stdout, everything else on stderr."""

import os
import sys

from groat.cli.root import cli
from groat.cli.session import report_failure


def main() -> None:
    """Run one command and exit with its code (0, 1 bug, 2 usage, 3 input, 4 refused, 5 unreachable, 6 invalid)."""
    try:
        code = cli.main(prog_name="groat", standalone_mode=False)
    except SystemExit as error:  # click's answer to a closed pipe
        code = error.code
    except BaseException as error:
        code = report_failure(error, sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code if isinstance(code, int) else 0)


__all__ = ["cli", "main"]
