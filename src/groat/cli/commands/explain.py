"""`groat explain`: why a request was refused, what that means and what helps."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from groat.cli.admin_client import URL, AdminClient
from groat.cli.log_lines import instant_of, parsed, read_lines
from groat.cli.people import date, visible
from groat.cli.session import Session, plain
from groat.protocol.errors import ConfigError


@click.command()
@click.argument("request_id")
@click.option("--log", "logs", multiple=True, metavar="FILE", help="Look in this log (JSON lines); - reads stdin.")
@URL
@click.pass_obj
def explain(session: Session, request_id: str, logs: tuple[str, ...], admin_url: str | None) -> None:
    """Say why a request was refused: answers name it in X-Request-ID, and so do errors of client libraries."""
    found = _in_logs(request_id, logs) if logs else AdminClient.of(session, admin_url).refusal(request_id)
    if session.as_json or session.quiet:
        session.show(found, str(found.get("reason", "")))
        return
    for line in _lines(found):
        click.echo(line)


def _in_logs(request_id: str, logs: Iterable[str]) -> dict[str, Any]:
    """Raises ConfigError where no line has that id."""
    from groat.server.operations.refusals import explain as explained

    needle, other = request_id.encode(), None
    for name in logs:
        # Most lines are of others: only those that hold the id are read as JSON.
        for record in parsed(line for line in read_lines(name) if needle in line):
            if record.get("request_id") != request_id:
                continue
            if record.get("reason"):
                return plain(explained({**record, "at": instant_of(record)}))
            other = record
    if other is not None:
        raise ConfigError(f"request {request_id} was not refused: the log has {other.get('event')} of it")
    raise ConfigError(f"no line of {', '.join(logs)} has the request id {request_id}")


def _lines(found: Mapping[str, Any]) -> list[str]:
    """For people: who and when, the reason, and what to do."""
    at, status = found.get("at"), found.get("status")
    answered = f"{found.get('error') or found.get('event')}{f', {status}' if status else ''}"
    who = " ".join(
        f"{word} {found[name]}" for word, name in (("client", "client"), ("from", "source")) if found.get(name)
    )
    told = [
        ("request", found.get("request_id")),
        ("when", None if at is None else date(int(at))),
        ("who", who),
        ("answered", answered),
        ("reason", found.get("reason")),
        ("meaning", found.get("meaning")),
        ("here", found.get("expected")),
        ("remedy", found.get("remedy")),
    ]
    return [f"{name:10}{visible(str(value))}" for name, value in told if value]
