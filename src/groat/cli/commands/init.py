"""`groat init`: all that a server needs before its first start."""

import asyncio
import os

import click

from groat.cli.actor import who_runs
from groat.cli.session import Session
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.server.log.audit import Audit
from groat.server.operations.first_start import Wanted, initialise
from groat.server.settings.config import plain_http_warning


@click.command()
@click.option("--issuer", metavar="URL", help="The public https URL of this server; default: as configured.")
@click.option("--algorithm", show_default="ES256", type=click.Choice(list(ALGORITHM_NAMES)))
@click.option("--database", show_default="sqlite:///data/groat.db", metavar="URL")
@click.pass_obj
def init(session: Session, issuer: str | None, algorithm: str | None, database: str | None) -> None:
    """Make the configuration, the data directory and the first signing key; safe to repeat."""
    audit, wanted = Audit(session.log()), Wanted(issuer or session.config().policy.issuer, algorithm, database)
    config, steps = asyncio.run(initialise(session.config_file, wanted, os.environ, audit, who_runs()))
    if warning := plain_http_warning(config):
        session.note(f"warning: {warning}")
    session.show_list(
        [{"what": step.what, "outcome": step.outcome, "where": step.where} for step in steps],
        ("what", "outcome", "where"),
        "outcome",
    )
    if any(step.made for step in steps):
        session.note("next: groat api add NAME --audience URI --scope SCOPE; groat client add ...; groat serve")
