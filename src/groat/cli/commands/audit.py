"""`groat audit`: who changed what, and whether that is all."""

import json
import time
from typing import Any, Final

import click

from groat.cli.instants import span_of_time
from groat.cli.people import visible
from groat.cli.session import Exit, Session
from groat.server import operations
from groat.server.operations import AuditFilter, audit_document
from groat.server.store.audit_trail import AuditRow

COLUMNS: Final = ("seq", "changed_at", "actor", "face", "operation", "object")
SINCE: Final = click.option("--since", type=span_of_time, metavar="SPAN", help="Only of the last, as in 1d.")
ACTOR: Final = click.option("--actor", default="", metavar="A", help="Only by this actor, or with this word in it.")
OBJECT: Final = click.option("--object", "name", default="", metavar="O", help="Only of this: client/ID, api/NAME, ...")


@click.group()
def audit() -> None:
    """Who changed what, when and by which face; and whether anybody changed that."""


@audit.command("list")
@SINCE
@ACTOR
@OBJECT
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Rows at most.")
@click.pass_obj
def list_(session: Session, since: int | None, actor: str, name: str, limit: int) -> None:
    """List changes, the newest first; --json shows what was before and after."""
    chosen = _filter(since, actor, name)
    rows = session.operate(lambda operator: operations.list_audit(operator, chosen, limit))
    documents = map(audit_document, rows)
    session.show_list(documents if session.as_json else map(_shown, rows), COLUMNS, "seq")


def _shown(row: AuditRow) -> dict[str, Any]:
    return audit_document(row) | {"changed_at": row.at}


@audit.command()
@SINCE
@ACTOR
@OBJECT
@click.option("--format", "form", default="jsonl", show_default=True, type=click.Choice(["jsonl", "ocsf"]))
@click.pass_obj
def export(session: Session, since: int | None, actor: str, name: str, form: str) -> None:
    """Print changes, the oldest first, one JSON object a line: as `list --json`, or as events of OCSF 1.3.0."""
    from groat.server.operations.ocsf import ocsf_event

    chosen, document = _filter(since, actor, name), ocsf_event if form == "ocsf" else audit_document
    session.operate(
        lambda operator: operations.export_audit(operator, chosen, lambda row: click.echo(json.dumps(document(row))))
    )


@audit.command()
@click.option("--head", metavar="HASH", help="A head that this command printed at some time: is it still in the trail?")
@click.pass_obj
def verify(session: Session, head: str | None) -> None:
    """Whether every row is there and as it was written. Exit code 7 if not; keep the head that it prints elsewhere."""
    found = session.operate(lambda operator: operations.verify_audit(operator, head.lower() if head else None))
    session.show(found, found.head)
    if head is None:
        session.note("keep this head where nobody of this database can write: groat audit verify --head HASH")
    if found.faults:
        for fault in found.faults if not session.as_json else ():
            click.echo(f"groat: {visible(fault)}", err=True)
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


def _filter(since: int | None, actor: str, name: str) -> AuditFilter:
    return AuditFilter(0 if since is None else int(time.time()) - since, actor, name)
