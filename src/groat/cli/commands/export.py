"""`groat export`: the registry as the files that `groat apply` reads."""

import json
from pathlib import Path

import click

from groat.cli.session import Session
from groat.keys.files import make_directory
from groat.protocol.errors import ConfigError
from groat.server import operations
from groat.server.desired.wanted import KINDS
from groat.server.desired.writing import written_toml


@click.command()
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), metavar="DIR",
    help="Write apis.toml, clients.toml and trusts.toml there, in the place of those that are.",
)  # fmt: skip
@click.pass_obj
def export(session: Session, directory: Path | None) -> None:
    """Print the registry as a file that `groat apply` makes the same registry of. It holds no secret."""
    forms = session.operate(operations.export_registry)
    if directory is not None:
        make_directory(directory)
        for table, kind in KINDS.items():
            _write(directory / f"{table}.toml", written_toml(forms, (kind,)))
        session.note(f"{len(forms)} objects in {directory}")
    elif session.as_json:
        click.echo(json.dumps({f"{kind}/{name}": form for (kind, name), form in forms.items()}))
    else:
        click.echo(written_toml(forms), nl=False)


def _write(path: Path, text: str) -> None:
    """A file that anybody may read. Raises ConfigError; a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
