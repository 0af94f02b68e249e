"""`groat log`: the log for people."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from groat.cli.admin_client import URL, AdminClient
from groat.cli.instants import span_of_time
from groat.cli.log_lines import LOOK_AGAIN_SECONDS, Wanted, for_people, instant_of, parsed, read_lines
from groat.cli.session import Session
from groat.cli.streams import reader_is_gone

AT_ONCE: Final = 500


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@click.option("--client", default="", metavar="ID", help="Of this client alone.")
@click.option("--refused", is_flag=True, help="Refusals alone.")
@click.option("--since", type=span_of_time, metavar="SPAN", help="Not older than that, such as 15m.")
@click.option("--follow", is_flag=True, help="Wait for what comes, until Ctrl-C.")
@URL
@click.pass_obj
def log(
    session: Session,
    /,
    files: tuple[str, ...],
    client: str,
    refused: bool,
    since: int | None,
    follow: bool,
    admin_url: str | None,
) -> None:
    """Show log files (JSON lines), standard input, or else the refusals that the running server remembers."""
    wanted = Wanted(client, refused, 0.0 if since is None else time.time() - since)
    if follow and len(files) > 1:
        raise click.UsageError("--follow takes one file")
    if files:
        records: Iterable[dict[str, Any]] = _of_files(files, wanted, follow)
    else:
        records = _remembered(AdminClient.of(session, admin_url), wanted, follow)
    for record in records:
        click.echo(json.dumps(record) if session.as_json else for_people(record))
        if reader_is_gone():
            return


def _of_files(files: Iterable[str], wanted: Wanted, follow: bool) -> Iterator[dict[str, Any]]:
    for name in files:
        yield from filter(wanted.admits, parsed(read_lines(name, follow)))


def _remembered(admin: AdminClient, wanted: Wanted, follow: bool) -> Iterator[dict[str, Any]]:
    """The server keeps refusals alone; those that come are asked for again and again, each shown once."""
    since = wanted.since
    while True:
        page = admin.get("/refusals", limit=AT_ONCE, client=wanted.client, since=since)
        for record in page["items"]:
            since = max(since, instant_of(record) or 0.0)
            yield record
        if not follow:
            return
        time.sleep(LOOK_AGAIN_SECONDS)
