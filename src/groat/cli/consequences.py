"""Whom a change hits: named before it is done (and asked about), instead of it (--dry-run), and after it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import click

from groat.cli.session import Exit, Session, plain
from groat.server.operations.losses import Loss

MAX_NAMED: Final = 20
DRY_RUN: Final = click.option(
    "--dry-run", is_flag=True, help="Change nothing; say whom it would hit. Exit code 7: something would change."
)


def loss_lines(losses: Sequence[Loss]) -> list[str]:
    """Who loses what, for people; of very many, a part of them."""
    more = [f"and {len(losses) - MAX_NAMED} more: --dry-run --json names all"] if len(losses) > MAX_NAMED else []
    return [*map(str, losses[:MAX_NAMED]), *more]


def agree(session: Session, question: str, losses: Sequence[Loss]) -> None:
    """Ask before a change that takes something from these clients. Raises UsageError where nobody can answer."""
    session.confirm(question, loss_lines(losses))


def show_dry_run(session: Session, identity: Mapping[str, Any], losses: Sequence[Loss], *, changes: bool) -> NoReturn:
    """Say what would happen, and end with the exit code for that."""
    document = {**identity, "outcome": "would change" if changes else "unchanged"}
    if session.as_json:
        document["losses"] = [plain(loss) for loss in losses]
    if session.as_json or not session.quiet:
        session.show(document, "")
    if not session.as_json:
        for loss in losses:
            click.echo(loss.client_id if session.quiet else str(loss))
    raise click.exceptions.Exit(Exit.CHECK_FAILED if changes else Exit.DONE)


def show_done(session: Session, record: Any, quiet: str, losses: Sequence[Loss], *, others: bool = False) -> None:
    """Print the result, and who lost by it: for people on standard error.

    In JSON as its member `losses`, where `others` lost than the one whom the record is about.
    """
    document = plain(record)
    if others and session.as_json and losses:
        document["losses"] = [plain(loss) for loss in losses]
    session.show(document, quiet)
    if not session.as_json:
        for line in loss_lines(losses):
            session.note(line)
