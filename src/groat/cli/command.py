"""One invocation of the command line, from its words to its exit code."""

import re
import sys
import warnings
from collections.abc import Sequence
from typing import Final

import click
from joserfc.errors import SecurityWarning

from groat.cli.interrupts import ended_by_ctrl_c
from groat.cli.root import cli
from groat.cli.session import Exit, report_failure
from groat.cli.streams import fill_closed, patient_outputs

_ANYWHERE: Final = frozenset(
    {"--json", "-q", "--quiet", "-v", "--verbose", "--no-color", "--no-input", "--yes", "--debug"}
)
# A kid is a thumbprint, a request id is random, and one in 64 of those begins with a dash.
_DASHED_KID: Final = re.compile(r"-[A-Za-z0-9_-]{42}|-(?!-)[A-Za-z0-9_-]{21}")


def _in_order(argv: Sequence[str]) -> list[str]:
    """The words as click wants them: global flags first, kids that look like options behind `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    words, rest = argv[:end], list(argv[end:])
    flags = [word for word in words if word in _ANYWHERE]
    kids = [word for word in words if _DASHED_KID.fullmatch(word)]
    others = [word for word in words if word not in flags and word not in kids]
    return [*flags, *others, *(["--", *kids, *rest[1:]] if kids else rest)]


def run() -> None:
    """Run one command and exit with its code (`Exit`)."""
    fill_closed()
    # Keys that are too small are refused in words of our own.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    with patient_outputs() as outputs:
        code = _run()
        if (why := outputs.lost()) is not None:
            click.echo(f"groat: standard output cannot be written: {why}. The command itself is done", err=True)
            code = code or Exit.UNREACHABLE
    sys.exit(code)


def _run() -> int:
    try:
        with ended_by_ctrl_c():
            code = cli.main(_in_order(sys.argv[1:]), prog_name="groat", standalone_mode=False)
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        code = report_failure(error, sys.argv[1:])
    return code if isinstance(code, int) else 0
