"""`groat demo`: all four roles on loopback."""

import click

from groat.cli.session import Session


@click.command()
@click.option("--keep", is_flag=True, help="Leave the servers running and print lines for curl.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per step.")
@click.pass_obj
def demo(session: Session, keep: bool, as_json: bool) -> None:
    """Run all four roles for real, on loopback, with throw-away keys."""
    from groat.demo import run_demo

    raise click.exceptions.Exit(run_demo(keep=keep, as_json=as_json or session.as_json, color=session.color))
