"""`groat api`: the protected resources that tokens are for."""

import click

from groat.cli.session import Session
from groat.server import operations

COLUMNS = ("name", "audience", "scopes")


@click.group()
def api() -> None:
    """Protected resources: their audience and scopes."""


@api.command("add")
@click.argument("name")
@click.option("--audience", required=True, metavar="URI", help="What tokens for this API carry as aud.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope that this API knows.")
@click.pass_obj
def add(session: Session, name: str, audience: str, scopes: tuple[str, ...]) -> None:
    """Register an API."""
    session.show(session.operate(lambda operator: operations.add_api(operator, name, audience, scopes)), name)


@api.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List all APIs."""
    session.show_list(session.operate(operations.list_apis), COLUMNS, "name")


@api.command()
@click.argument("name")
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show one API."""
    session.show(session.operate(lambda operator: operations.find_api(operator, name)), name)


@api.command()
@click.argument("name")
@click.option("--audience", metavar="URI")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Add a scope.")
@click.option("--remove-scope", "removed", multiple=True, metavar="SCOPE", help="Take a scope away.")
@click.pass_obj
def update(
    session: Session, name: str, audience: str | None, scopes: tuple[str, ...], removed: tuple[str, ...]
) -> None:
    """Change an API."""
    changed = session.operate(lambda operator: operations.update_api(operator, name, audience, scopes, removed))
    session.show(changed, name)


@api.command()
@click.argument("name")
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Remove an API; nobody gets a token for it any more."""
    session.confirm(f"Remove API {name}?")
    session.operate(lambda operator: operations.remove_api(operator, name))
    session.show({"name": name, "outcome": "removed"}, name)
