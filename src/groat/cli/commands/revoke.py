"""`groat revoke`: take access tokens back before their end."""

import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from groat.cli.commands.key import revoke as revoke_key
from groat.cli.instants import from_now
from groat.cli.session import Session, plain
from groat.protocol.revocation import Cut
from groat.server import operations

COLUMNS: Final = ("kind", "subject", "not_before", "made_at")
_REACH: Final = (
    "introspection says so at once, the feed in 2 s, status lists by their ttl; "
    "who hears none of it takes such tokens until they end"
)


@click.group(invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="Every token there is.")
@click.pass_context
def revoke(context: click.Context, everything: bool) -> None:
    """Take access tokens back before their end. New ones are not touched: groat client disable ends those, too."""
    if context.invoked_subcommand is None:
        if not everything:
            raise click.UsageError("say what: token, client, api, key, trust, or --all")
        session: Session = context.obj
        session.confirm("Revoke every token that was ever issued?", ["every client needs a new one"])
        _show(session, session.operate(operations.revoke_all_tokens), "all")
    elif everything:
        raise click.UsageError("--all stands alone")


@revoke.command("token")
@click.argument("given", metavar="JTI|FILE|-")
@click.pass_obj
def one_token(session: Session, given: str) -> None:
    """One token: its jti, or a file that holds it (- for standard input)."""
    file = Path(given)
    if given == "-":
        given = sys.stdin.read().strip()
    elif os.path.isfile(file):  # False for what cannot be the name of one, too
        given = file.read_text("ascii", errors="replace").strip()
    elif "." in given:
        raise click.UsageError("others can read a command line: give a file that holds the token, -, or its jti")
    taken = session.operate(lambda operator: operations.revoke_token(operator, given))
    document = {"client_id": taken.client_id or None, "ends_at": taken.ends_at, "outcome": "revoked"}
    session.show(document, "revoked")
    session.note(_REACH)


@revoke.command()
@click.argument("client_id")
@click.pass_obj
def client(session: Session, client_id: str) -> None:
    """Every token that a client has."""
    _show(session, session.operate(lambda operator: operations.revoke_client_tokens(operator, client_id)), client_id)


@revoke.command()
@click.argument("name")
@click.pass_obj
def api(session: Session, name: str) -> None:
    """Every token for an API, of all clients."""
    _show(session, session.operate(lambda operator: operations.revoke_api_tokens(operator, name)), name)


@revoke.command()
@click.argument("name")
@click.pass_obj
def trust(session: Session, name: str) -> None:
    """Every token of the clients that workloads of this trust are."""
    clients = session.operate(lambda operator: operations.revoke_trust_tokens(operator, name))
    session.show({"trust": name, "clients": list(clients), "outcome": "revoked" if clients else "no clients"}, name)
    session.note(_REACH)


revoke.add_command(revoke_key, "key")


@revoke.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """Whose tokens from before when are over. Tokens that were taken back one by one are not listed."""
    cuts, now = session.operate(operations.list_revocations), time.time()
    rows = [plain(cut) if session.as_json else _for_people(cut, now) for cut in cuts]
    session.show_list(rows, COLUMNS, "subject")


def _for_people(cut: Cut, now: float) -> dict[str, Any]:
    dated = {name: from_now(getattr(cut, name), now) for name in ("not_before", "made_at")}
    return {**plain(cut), "subject": cut.subject or "*", **dated}


def _show(session: Session, cut: Cut, quiet: str) -> None:
    session.show({**plain(cut), "outcome": "revoked"}, quiet)
    session.note(_REACH)
