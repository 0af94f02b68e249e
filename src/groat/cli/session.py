"""What every command shares: the global options, printing, and the one mapping from failures to exit codes."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from groat.cli import people
from groat.cli.admin_errors import AdminRefused, AdminUnreachable
from groat.cli.missing import what_to_install
from groat.cli.people import visible
from groat.protocol.errors import ConfigError, JoseError, KeysUnavailable, VerificationError

if TYPE_CHECKING:
    from groat.server.log.event_log import EventLog
    from groat.server.operations import Operator
    from groat.server.settings.config import Config

Result = TypeVar("Result")


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    REFUSED = 4
    UNREACHABLE = 5
    INVALID = 6
    CHECK_FAILED = 7
    INTERRUPTED = 130


EXIT_MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.BUG: "a bug",
    Exit.USAGE: "wrong usage",
    Exit.INPUT: "configuration or input is wrong",
    Exit.REFUSED: "refused by a server",
    Exit.UNREACHABLE: "a server, the store, a key or standard output cannot be reached",
    Exit.INVALID: "a token or signature is not valid",
    Exit.CHECK_FAILED: "a check failed",
    Exit.INTERRUPTED: "interrupted",
}


class CommandFailed(Exception):
    """What went wrong, with the exit code and the kind that it has. Its text is for whoever reads the terminal."""

    def __init__(self, code: Exit, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind


@dataclass(slots=True)
class Session:
    """The global options of one invocation."""

    config_file: Path
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: bool = True
    yes: bool = False
    interactive: bool = True
    config_named: bool = False  # whether the command line itself says --config

    # Imports stand inside of the methods: `groat --help` and a completion must not wait for a server's modules.

    def config(self, flags: dict[str, Any] | None = None) -> "Config":
        """The settings in force. Raises ConfigError."""
        from groat.server.settings.config import load_config

        # The environment alone may be enough, but not in the place of a file that was asked for by name.
        if not self.config_file.exists() and (self.config_named or "GROAT_ISSUER" not in os.environ):
            raise ConfigError(
                f"{self.config_file} does not exist. At the server: groat init --issuer URL; elsewhere say --issuer"
            )
        return load_config(self.config_file, os.environ, flags)

    def log(self) -> "EventLog":
        """The audit lines of operations: the operator sees the outcome anyway, so they are for -v."""
        from groat.server.log.event_log import configure_logging

        return configure_logging("info" if self.verbose else "error")

    def operate(self, work: "Callable[[Operator], Coroutine[Any, Any, Result]]", *, dated: bool = False) -> Result:
        """Run one operation on the store of this configuration.

        Opened for this and closed again: a command may ask a person in between, and must not keep anything locked.
        `dated`: it writes down instants that others act on, so a clock that the store contradicts is refused.
        """
        import asyncio

        from groat.cli.actor import who_runs
        from groat.server.log.audit import Audit
        from groat.server.operations import Operator
        from groat.server.operations.clock import check_clock
        from groat.server.settings.engines import open_engine
        from groat.server.store import OPERATOR_PATIENCE

        config = self.config()
        # Before the store is opened: a GROAT_ACTOR that cannot be is no reason to touch anything.
        audit, actor = Audit(self.log()), who_runs()

        async def run() -> Result:
            store = open_engine(config, patience=OPERATOR_PATIENCE)
            operator = Operator(store, config.policy, audit, actor=actor)
            try:
                if dated and (doubt := await check_clock(store)):
                    self.note(f"warning: {doubt}")
                return await work(operator)
            finally:
                await store.close()

        return asyncio.run(run())

    def confirm(self, question: str, consequences: Sequence[str] = ()) -> None:
        """Ask before something that cannot be undone; --yes answers, --no-input without it refuses."""
        if self.yes:
            return
        # In a pipe nobody answers, and what stands in standard input was meant for something else.
        if not self.interactive or not sys.stdin.isatty():
            hit = f" ({' | '.join(consequences)})" if consequences else ""
            raise click.UsageError(f"{question}{hit} Say --yes to do it without asking.")
        for line in consequences:
            click.echo(line, err=True)
        click.confirm(question, abort=True, err=True)

    def show(self, record: Any, quiet: str) -> None:
        """Print one record: JSON with --json, only its id with -q, names and values otherwise."""
        document = plain(record)
        if self.as_json:
            click.echo(json.dumps(document))
        elif self.quiet:
            click.echo(visible(quiet))
        else:
            for line in people.lines(document):
                click.echo(line)

    def show_list(self, records: Iterable[Any], columns: Sequence[str], identity: str) -> None:
        """Print records: a JSON array, the ids alone, or a table of these columns."""
        documents = [plain(record) for record in records]
        if self.as_json:
            click.echo(json.dumps(documents))
        elif self.quiet:
            for document in documents:
                click.echo(document[identity])
        else:
            self._table(
                [[people.cell(column, document[column]) for column in columns] for document in documents], columns
            )

    def _table(self, rows: list[list[str]], columns: Sequence[str]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold" if self.color else "")
        for column in columns:
            table.add_column(Text(column.replace("_", " ")), overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # text, so that no name is read as markup
        # Whoever cuts columns out of a pipe wants a record on one line.
        width = None if sys.stdout.isatty() else 10_000
        Console(no_color=not self.color, width=width, highlight=False).print(table)

    def note(self, message: str) -> None:
        """Something worth knowing that is not the result."""
        if not self.quiet:
            click.echo(message, err=True)


def plain(record: Any) -> dict[str, Any]:
    """A record as JSON would have it."""
    document = asdict(record) if is_dataclass(record) and not isinstance(record, type) else dict(record)
    return {name: _jsonable(value) for name, value in document.items()}


def _jsonable(value: Any) -> Any:
    """Sets and tuples as lists; an empty one stays a list, so that programs need not ask whether it is there."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in value]
    return value


def report_failure(error: BaseException, argv: Sequence[str]) -> int:
    """Say what went wrong on stderr, in one line a finding, and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    # A traceback is for whoever mends groat; an operator is told what to do, and a bug that it is one.
    code, kind, lines = _explain(error)
    if code == Exit.BUG and "--debug" in argv:
        traceback.print_exception(error)
    # Read from the words themselves: the options may be what could not be parsed.
    if "--json" in argv:
        request_id = getattr(error, "request_id", None)
        known = {"request_id": request_id} if request_id else {}
        click.echo(json.dumps({"error": kind, "message": "\n".join(lines), **known}), err=True)
    else:
        for line in lines:
            click.echo(f"groat: {line}", err=True)
    return code


def _explain(error: BaseException) -> tuple[int, str, list[str]]:
    """Exit code, kind and lines of any failure; what nobody foresaw is a bug."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code, "exit", []
    if isinstance(error, CommandFailed):
        return error.code, error.kind, [str(error)]
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return Exit.INTERRUPTED, "interrupted", ["interrupted"]
    if isinstance(error, click.FileError):
        return Exit.INPUT, "invalid_input", [error.format_message()]
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = [f"try: {context.command_path} --help"] if context is not None else []
        return Exit.USAGE, "usage", [error.format_message(), *hint]
    return _explain_ours(error) or _explain_client(error) or _bug(error)


def _explain_ours(error: BaseException) -> tuple[int, str, list[str]] | None:
    if isinstance(error, ModuleNotFoundError) and (line := what_to_install(error)) is not None:
        return Exit.INPUT, "invalid_input", [line]
    # A host of a client has no server's extras, so these are there only once something else has needed them.
    from groat.server.operations import NotRegistered
    from groat.server.store import StoreConflict
    from groat.server.unavailable import Unavailable

    if isinstance(error, ConfigError):
        return Exit.INPUT, "invalid_input", [str(finding) for finding in error.findings]
    if isinstance(error, (StoreConflict, NotRegistered, JoseError)):
        return Exit.INPUT, "invalid_input", [str(error)]
    if isinstance(error, Unavailable):
        return Exit.UNREACHABLE, "unreachable", [error.hint]
    if isinstance(error, KeysUnavailable):
        return Exit.UNREACHABLE, "unreachable", [error.hint or "the issuer's keys cannot be fetched"]
    if isinstance(error, VerificationError):
        return Exit.INVALID, error.code or error.reason, [f"{error.reason}: {error.hint}"]
    return None


def _explain_client(error: BaseException) -> tuple[int, str, list[str]] | None:
    from groat.client import errors

    if isinstance(error, AdminRefused):
        code = Exit.UNREACHABLE if error.status >= 500 else Exit.INPUT if error.status == 404 else Exit.REFUSED
        return code, "unreachable" if error.status >= 500 else "refused", [str(error)]
    if isinstance(error, AdminUnreachable):
        return Exit.UNREACHABLE, "unreachable", [str(error)]
    if isinstance(error, errors.TokenRequestRefused):
        told = " ".join(filter(None, (f"{error.code}: {error.description}", error.hint)))
        known = f" [request id {error.request_id}]" if error.request_id else ""
        if error.status >= 500:  # it is the server that cannot, whatever the code says: try again later
            return Exit.UNREACHABLE, error.code, [f"the server answered {error.status}: {told}{known}"]
        return Exit.REFUSED, error.code, [f"refused: {told}{known}"]
    if isinstance(error, (errors.ServerUnreachable, errors.TokenResponseInvalid)):
        return Exit.UNREACHABLE, "unreachable", [str(error)]
    if isinstance(error, errors.ClientError):
        return Exit.INPUT, "invalid_input", [str(error)]
    return None


def _bug(error: BaseException) -> tuple[int, str, list[str]]:
    return Exit.BUG, "bug", [f"unexpected {type(error).__name__}: a bug. Run again with --debug to see where"]
