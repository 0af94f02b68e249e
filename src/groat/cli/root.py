"""The root of the command tree and the commands that stand alone: init, serve, demo, config, version."""

import asyncio
import json
import os
import platform
from pathlib import Path

import click
from click.core import ParameterSource

import groat
from groat.cli.api import api
from groat.cli.client import client
from groat.cli.doctor import doctor
from groat.cli.health import health
from groat.cli.key import key
from groat.cli.session import Exit, Session
from groat.cli.store import store
from groat.cli.token import token
from groat.protocol.jwk import ALGORITHM_NAMES


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_file", envvar="GROAT_CONFIG", default="groat.toml", show_default=True,
              type=click.Path(path_type=Path), help="Configuration file.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON: objects, and arrays for lists.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr.")
@click.option("--no-color", is_flag=True, help="No colours; so does the variable NO_COLOR.")
@click.option("--no-input", is_flag=True, help="Never ask; fail instead.")
@click.option("--yes", is_flag=True, help="Answer yes to every question.")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.pass_context
def cli(
    context: click.Context,
    config_file: Path,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    no_color: bool,
    no_input: bool,
    yes: bool,
    debug: bool,
) -> None:
    """Machine-to-machine OAuth 2.0: services prove who they are with a key they never share."""
    named = context.get_parameter_source("config_file") is ParameterSource.COMMANDLINE
    color = not (no_color or os.environ.get("NO_COLOR"))
    context.obj = Session(config_file, as_json, quiet, verbose, color, yes, not no_input, named)


cli.add_command(api)
cli.add_command(client)
cli.add_command(doctor)
cli.add_command(health)
cli.add_command(key)
cli.add_command(store)
cli.add_command(token)


@cli.command()
@click.option("--issuer", required=True, metavar="URL", help="The public https URL of this server.")
@click.option("--algorithm", show_default="ES256", type=click.Choice(list(ALGORITHM_NAMES)))
@click.option("--database", show_default="sqlite:///data/groat.db", metavar="URL")
@click.pass_obj
def init(session: Session, issuer: str, algorithm: str | None, database: str | None) -> None:
    """Make the configuration, the data directory and the first signing key; safe to repeat."""
    from groat.server.audit import Audit
    from groat.server.bootstrap import initialise
    from groat.server.config import plain_http_warning

    audit = Audit(session.log())
    config, steps = asyncio.run(initialise(session.config_file, issuer, algorithm, database, os.environ, audit))
    if warning := plain_http_warning(config):
        session.note(f"warning: {warning}")
    session.show_list(
        [{"what": step.what, "outcome": step.outcome, "where": step.where} for step in steps],
        ("what", "outcome", "where"),
        "outcome",
    )
    if any(step.made for step in steps):
        session.note("next: groat api add NAME --audience URI --scope SCOPE; groat client add ...; groat serve")


@cli.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes.")
@click.option("--dev", is_flag=True, help="Pretty log lines, in detail.")
@click.pass_obj
def serve(session: Session, host: str | None, port: int | None, workers: int | None, dev: bool) -> None:
    """Run the authorization server."""
    from groat.cli.serving import run_server

    flags = {"server.host": host, "server.port": port, "server.workers": workers}
    if dev:
        flags |= {"log.level": "debug", "log.format": "pretty"}
    config = session.config(flags)
    run_server(config, session.config_file, {name: value for name, value in flags.items() if value is not None})


@cli.command()
@click.option("--keep", is_flag=True, help="Leave the servers running and print lines for curl.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per step.")
@click.pass_obj
def demo(session: Session, keep: bool, as_json: bool) -> None:
    """Run all four roles for real, on loopback, with throw-away keys."""
    from groat.demo import run_demo

    raise click.exceptions.Exit(run_demo(keep=keep, as_json=as_json or session.as_json, color=session.color))


@cli.group()
def config() -> None:
    """Look at the settings."""


@config.command("check")
@click.pass_obj
def config_check(session: Session) -> None:
    """Read everything that a start would read, look at the key ring, and say what is wrong."""
    from groat.app import check_ready, ring_findings
    from groat.server.config import plain_http_warning

    loaded = session.config()
    if warning := plain_http_warning(loaded):
        session.note(f"warning: {warning}")
    asyncio.run(check_ready(loaded))
    findings = asyncio.run(ring_findings(loaded))
    for finding in findings:
        session.note(f"key ring: {finding}")
    outcome = "unsafe key ring" if findings else "ok"
    session.show({"config": str(session.config_file), "outcome": outcome}, outcome)
    if findings:
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.pass_obj
def config_show(session: Session, origin: bool) -> None:
    """Print the settings in force; passwords are masked."""
    loaded = session.config()
    if not origin:
        session.show(loaded.shown(), loaded.policy.issuer)
        return
    rows = [{"name": n, "value": v, "origin": loaded.origins[n]} for n, v in loaded.shown().items()]
    session.show_list(rows, ("name", "value", "origin"), "name")


@config.command("schema")
@click.pass_obj
def config_schema(session: Session) -> None:
    """Print every setting with its environment variable, default and purpose."""
    from groat.server.sample import settings_schema

    session.show_list(settings_schema(), ("name", "env", "default", "reload", "about"), "name")


@cli.command()
@click.pass_obj
def version(session: Session) -> None:
    """Print the version."""
    if session.as_json:
        click.echo(json.dumps({"version": groat.__version__, "python": platform.python_version()}))
    else:
        click.echo(f"groat {groat.__version__}")
