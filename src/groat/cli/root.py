"""The root of the command tree and the commands that are small: serve, demo, config, version."""

import json
import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

import groat
from groat.cli.people import length
from groat.cli.session import EXIT_MEANINGS, Exit, Session

# Each in the module of its name, which is imported when the command is called: few need what the others import.
ELSEWHERE: Final = ("api", "client", "doctor", "health", "init", "key", "store", "token")


class Commands(click.Group):
    """The commands below and those elsewhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted((*super().list_commands(ctx), *ELSEWHERE))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"groat.cli.{cmd_name}"), cmd_name)
        return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {'; '.join(f'{code:d} {meaning}' for code, meaning in EXIT_MEANINGS.items())}.",
)
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


@cli.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes.")
@click.option("--dev", is_flag=True, help="Pretty log lines, in detail.")
@click.pass_obj
def serve(session: Session, host: str | None, port: int | None, workers: int | None, dev: bool) -> None:
    """Run the authorization server."""
    from groat.serving.workers import run_server

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
    import asyncio

    import groat.app  # noqa: F401 - what would serve: a package that is missing is found now
    from groat.server.settings.config import plain_http_warning
    from groat.serving.preflight import check_ready, ring_findings

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
    values = loaded.shown() if session.as_json else {n: _for_people(n, v) for n, v in loaded.shown().items()}
    if not origin:
        session.show(values, loaded.policy.issuer)
        return
    rows = [{"name": n, "value": v, "origin": loaded.origins[n]} for n, v in values.items()]
    session.show_list(rows, ("name", "value", "origin"), "name")


def _for_people(name: str, value: Any) -> Any:
    """Spans as they stand in the file."""
    from groat.server.settings.table import BY_NAME, duration

    return length(value) if BY_NAME[name].read is duration else value


@config.command("schema")
@click.pass_obj
def config_schema(session: Session) -> None:
    """Print every setting with its environment variable, default and purpose."""
    from groat.server.settings.sample import settings_schema

    session.show_list(settings_schema(), ("name", "env", "default", "reload", "about"), "name")


@cli.command()
@click.pass_obj
def version(session: Session) -> None:
    """Print the version."""
    if session.as_json:
        click.echo(json.dumps({"version": groat.__version__, "python": platform.python_version()}))
    else:
        click.echo(f"groat {groat.__version__}")
