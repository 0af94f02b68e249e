"""`groat client trust`: which workloads of which trusts are a client."""

from typing import Final

import click

from groat.cli.consequences import DRY_RUN, show_done, show_dry_run
from groat.cli.session import Session
from groat.protocol.federation.claim_paths import parse_path
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.rules import ALLOW_DEFAULT, ALLOW_NAMES
from groat.server import operations

COLUMNS: Final = ("rule", "trust", "match", "copy")


@click.group("trust")
def client_trust() -> None:
    """The workloads that are a client, by what the platform says of them."""


@client_trust.command("add")
@click.argument("client_id")
@click.argument("trust")
@click.option(
    "--match", "matches", multiple=True, required=True, metavar="CONDITION",
    help="CLAIM=VALUE, CLAIM^=PREFIX (ends in a delimiter), CLAIM:=V1,V2 or CLAIM*=ONE_OF_A_LIST; all must hold.",
)  # fmt: skip
@click.option("--copy", multiple=True, metavar="CLAIM", help="A claim that the access token shows, too.")
@click.option("--allow-default", is_flag=True, help="Admit the Kubernetes service account `default`.")
@click.option("--allow-names", is_flag=True, help="Admit GitHub repositories by name, which others can take over.")
@click.pass_obj
def add(
    session: Session,
    /,
    client_id: str,
    trust: str,
    matches: tuple[str, ...],
    copy: tuple[str, ...],
    allow_default: bool,
    allow_names: bool,
) -> None:
    """Let a workload be this client."""
    conditions = [Condition.parse(text) for text in matches]
    copied = [parse_path(text) for text in copy]
    given = ((ALLOW_DEFAULT, allow_default), (ALLOW_NAMES, allow_names))
    allows = frozenset(name for name, said in given if said)
    record = session.operate(
        lambda operator: operations.add_rule(operator, client_id, trust, conditions, copied, allows)
    )
    if allow_names:
        session.note("warning: whoever takes the name of this repository after a rename or deletion is this client")
    session.show(record.document(), record.rule.rule_id)


@client_trust.command("list")
@click.argument("client_id")
@click.pass_obj
def list_(session: Session, client_id: str) -> None:
    """List the rules of a client."""
    rules = session.operate(lambda operator: operations.list_rules(operator, client_id))
    session.show_list([one.document() for one in rules], COLUMNS, "rule")


@client_trust.command("remove")
@click.argument("client_id")
@click.argument("rule")
@DRY_RUN
@click.pass_obj
def remove(session: Session, client_id: str, rule: str, dry_run: bool) -> None:
    """Remove a rule, with effect on the next request; says it where nothing else lets the client in."""
    if dry_run:
        plan = session.operate(lambda operator: operations.plan_rule_removal(operator, client_id, rule))
        show_dry_run(session, {"client_id": client_id, "rule": rule}, plan.losses, changes=True)
    done = session.operate(lambda operator: operations.remove_rule(operator, client_id, rule))
    show_done(session, {"client_id": client_id, "rule": rule, "outcome": "removed"}, rule, done.losses)
