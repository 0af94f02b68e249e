"""`groat trust`: whose tokens are taken besides assertions of clients, and what would become of one."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from groat.cli.consequences import DRY_RUN, agree, show_done, show_dry_run
from groat.cli.session import Exit, Session
from groat.cli.trust_options import MAX_FILE_BYTES, text_of, trust_change, trust_options
from groat.protocol.federation.presets import PRESETS
from groat.protocol.federation.trust import SourceKind, Trust
from groat.protocol.jwk import PublicKey
from groat.protocol.unset import UNSET
from groat.server import operations
from groat.server.operations.trusts import keys_in

COLUMNS: Final = ("name", "issuer", "preset", "keys", "replay", "enabled")


@click.group()
def trust() -> None:
    """Issuers whose tokens are taken: clusters, pipelines, clouds, trust domains."""


@trust.command("add")
@click.argument("name")
@click.option("--issuer", required=True, help="Exactly as iss has it; of a SPIFFE trust spiffe://DOMAIN.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="The platform, whose further checks apply.")
@trust_options
@click.pass_obj
def add(session: Session, /, name: str, issuer: str, preset: str | None, **given: Any) -> None:
    """Trust an issuer."""
    change = trust_change(given)
    if change.source is UNSET:
        raise click.UsageError("give one of --jwks, --jwks-file, --jwks-uri, --discovery")
    record = session.operate(lambda operator: operations.add_trust(operator, name, issuer, preset or "", change))
    session.show(record.document(), name)


@trust.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List all trusts."""
    session.show_list([one.document() for one in session.operate(operations.list_trusts)], COLUMNS, "name")


@trust.command()
@click.argument("name")
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show one trust."""
    record = session.operate(lambda operator: operations.find_trust(operator, name))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@trust_options
@click.pass_obj
def update(session: Session, /, name: str, **given: Any) -> None:
    """Change a trust; what is not named stays as it is."""
    change = trust_change(given)
    record = session.operate(lambda operator: operations.update_trust(operator, name, change))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@click.pass_obj
def enable(session: Session, name: str) -> None:
    """Take tokens of this issuer again, from the next request on."""
    record = session.operate(lambda operator: operations.enable_trust(operator, name, enabled=True))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@DRY_RUN
@click.pass_obj
def disable(session: Session, name: str, dry_run: bool) -> None:
    """Take none from the next request on. Does not ask: it can be undone."""
    plan = session.operate(lambda operator: operations.plan_trust_stop(operator, name))
    if dry_run:
        show_dry_run(session, {"name": name}, plan.losses, changes=True)
    record = session.operate(lambda operator: operations.enable_trust(operator, name, enabled=False))
    show_done(session, record.document(), name, plan.losses, others=True)


@trust.command()
@click.argument("name")
@DRY_RUN
@click.pass_obj
def remove(session: Session, name: str, dry_run: bool) -> None:
    """Remove a trust, with all rules about its tokens."""
    plan = session.operate(lambda operator: operations.plan_trust_removal(operator, name))
    if dry_run:
        show_dry_run(session, {"name": name}, plan.losses, changes=True)
    agree(session, f"Remove trust {name}?", plan.losses)
    agreed = None if session.yes else plan.losses
    gone = session.operate(lambda operator: operations.remove_trust(operator, name, agreed=agreed))
    rule_ids = [one.rule.rule_id for one in gone]
    show_done(session, {"name": name, "outcome": "removed", "rules": rule_ids}, name, plan.losses, others=True)


@trust.command()
@click.argument("name")
@click.option("--token", "token_file", required=True, metavar="FILE", help="The token; - reads standard input.")
@click.option("--client", "client_id", help="The client that the request would name.")
@click.pass_obj
def test(session: Session, name: str, token_file: str, client_id: str | None) -> None:
    """Say what would become of a token now, without using it: the client and the rule, or what it lacks."""
    token = (sys.stdin.read(MAX_FILE_BYTES) if token_file == "-" else text_of(Path(token_file))).strip()
    record = session.operate(lambda operator: operations.find_trust(operator, name))
    # What is fetched is the servers' business: this host may have no way to it, and should not have the token for it.
    keys = _keys_at_hand(session, record.trust)
    found = session.operate(
        lambda operator: operations.explain_token(operator, name, token, keys, client_id), dated=True
    )
    session.show(found, str(found.get("client_id", found["outcome"])))
    if found["outcome"] != "accepted":
        raise click.exceptions.Exit(Exit.INVALID)


def _keys_at_hand(session: Session, trust: Trust) -> tuple[PublicKey, ...] | None:
    """Copied keys, or those of a file that can be read here; nothing is fetched."""
    if trust.source.kind is SourceKind.COPIED:
        return keys_in(trust.source.at, trust)
    if trust.source.kind is SourceKind.FILE and os.access(trust.source.at, os.R_OK):
        return keys_in(text_of(Path(trust.source.at)), trust)
    session.note(f"the keys of {trust.name} are not here ({trust.source.kind}), so the signature is not checked")
    return None
