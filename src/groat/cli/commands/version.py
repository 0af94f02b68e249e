"""`groat version`."""

import json
import platform

import click

import groat
from groat.cli.session import Session


@click.command()
@click.pass_obj
def version(session: Session) -> None:
    """Print the version."""
    if session.as_json:
        click.echo(json.dumps({"version": groat.__version__, "python": platform.python_version()}))
    else:
        click.echo(f"groat {groat.__version__}")
