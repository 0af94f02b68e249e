"""The root of the command tree: what holds for every command, and where the commands are."""

import os
from importlib import import_module
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

import groat
from groat.cli.session import EXIT_MEANINGS, Session

# Each in the module of its name, which is imported when the command is called: few need what the others import.
NAMES: Final = (
    "admin",
    "api",
    "apply",
    "audit",
    "call",
    "client",
    "completion",
    "config",
    "demo",
    "diff",
    "doctor",
    "explain",
    "export",
    "guard",
    "health",
    "init",
    "key",
    "log",
    "revoke",
    "serve",
    "store",
    "token",
    "trust",
    "version",
)


class Commands(click.Group):
    """The commands of `groat.cli.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NAMES:
            return None
        command: click.Command = getattr(import_module(f"groat.cli.commands.{cmd_name}"), cmd_name)
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
@click.version_option(groat.__version__, message="groat %(version)s", help="Print the version.")
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
