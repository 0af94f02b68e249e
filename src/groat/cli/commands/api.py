"""`groat api`: the protected resources that tokens are for."""

import json
from typing import Final

import click

from groat.cli.commands.api_key import api_key
from groat.cli.consequences import DRY_RUN, agree, show_done, show_dry_run
from groat.cli.instants import span_of_time
from groat.cli.session import Session, plain
from groat.protocol.binding import Binding
from groat.protocol.listing import Listing
from groat.protocol.unset import UNSET
from groat.server import operations

COLUMNS = ("name", "audience", "scopes")
_LIFETIME = click.option(
    "--token-lifetime", type=span_of_time, metavar="SPAN",
    help="How long tokens for it live at most, such as 15m; the shortest span counts.",
)  # fmt: skip

_BINDING: Final = click.option(
    "--binding", type=click.Choice([str(one) for one in Binding]), help="What tokens for it must be bound to."
)
_STATUS: Final = click.option(
    "--status", type=click.Choice([str(one) for one in Listing]),
    help="list: its tokens stand in a Token Status List, for verifiers of others.",
)  # fmt: skip


@click.group()
def api() -> None:
    """Protected resources: their audience and scopes."""


@api.command("add")
@click.argument("name")
@click.option("--audience", required=True, metavar="URI", help="What tokens for this API carry as aud.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope that this API knows.")
@_LIFETIME
@_BINDING
@_STATUS
@click.pass_obj
def add(
    session: Session,
    /,
    name: str,
    audience: str,
    scopes: tuple[str, ...],
    token_lifetime: int | None,
    binding: str | None,
    status: str | None,
) -> None:
    """Register an API."""
    terms = operations.ApiTerms(token_lifetime, Binding(binding or Binding.NONE), Listing(status or Listing.NONE))
    record = session.operate(lambda operator: operations.add_api(operator, name, audience, scopes, terms))
    session.show(record, name)


@api.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List all APIs."""
    session.show_list(session.operate(operations.list_apis), COLUMNS, "name")


@api.command()
@click.argument("name")
@click.option(
    "--resource-metadata", is_flag=True, help="Print what the API serves of itself (RFC 9728), as a JSON document."
)
@click.pass_obj
def show(session: Session, name: str, resource_metadata: bool) -> None:
    """Show one API."""
    if not resource_metadata:
        session.show(session.operate(lambda operator: operations.find_api(operator, name)), name)
        return
    url, document = session.operate(lambda operator: operations.describe_api(operator, name))
    # A document to be served is one to whoever looks at it, too.
    click.echo(json.dumps(document) if session.as_json else json.dumps(document, indent=2))
    session.note(f"read at {url}; adapters of groat.verifier and groat guard serve it by themselves")


@api.command()
@click.argument("name")
@click.option("--audience", metavar="URI")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Add a scope.")
@click.option("--remove-scope", "removed", multiple=True, metavar="SCOPE", help="Take a scope away, from clients too.")
@_LIFETIME
@_BINDING
@_STATUS
@click.option("--clear", multiple=True, type=click.Choice(["token-lifetime"]), help="Back to the default.")
@DRY_RUN
@click.pass_obj
def update(
    session: Session,
    /,
    name: str,
    audience: str | None,
    scopes: tuple[str, ...],
    removed: tuple[str, ...],
    token_lifetime: int | None,
    binding: str | None,
    status: str | None,
    clear: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Change an API; asks first where clients lose something by it, and names them."""
    if clear and token_lifetime is not None:
        raise click.UsageError("--clear and a new value for token-lifetime: say one of them")
    lifetime = UNSET if token_lifetime is None and not clear else token_lifetime
    wish = operations.ApiWish(
        audience=audience,
        add_scopes=scopes,
        remove_scopes=removed,
        token_lifetime=lifetime,
        binding=UNSET if binding is None else Binding(binding),
        status=UNSET if status is None else Listing(status),
    )
    plan = session.operate(lambda operator: operations.plan_api_update(operator, name, wish))
    if dry_run:
        show_dry_run(session, plain(plan.after), plan.losses, changes=plan.changes)
    if plan.losses:
        agree(session, f"Change API {name}? What clients lose does not come back by itself.", plan.losses)
    agreed = None if session.yes else plan.losses
    changed = session.operate(lambda operator: operations.update_api(operator, name, wish, agreed=agreed))
    show_done(session, changed, name, plan.losses, others=True)


@api.command()
@click.argument("name")
@DRY_RUN
@click.pass_obj
def remove(session: Session, name: str, dry_run: bool) -> None:
    """Remove an API; nobody gets a token for it any more."""
    plan = session.operate(lambda operator: operations.plan_api_removal(operator, name))
    if dry_run:
        show_dry_run(session, {"name": name}, plan.losses, changes=True)
    agree(session, f"Remove API {name}?", plan.losses)
    agreed = None if session.yes else plan.losses
    session.operate(lambda operator: operations.remove_api(operator, name, agreed=agreed))
    show_done(session, {"name": name, "outcome": "removed"}, name, plan.losses, others=True)


api.add_command(api_key)
