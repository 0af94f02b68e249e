"""`groat api key`: the public keys by which an API proves who it is when it asks about tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from groat.cli.session import Session
from groat.keys import files
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES, PublicKey, generate_private_key
from groat.server import operations
from groat.server.operations.operator import NotRegistered
from groat.server.store import StoreConflict
from groat.server.store.records import ApiKeyRecord

COLUMNS: Final = ("kid", "algorithm", "created_at")


@click.group("key")
def api_key() -> None:
    """The public keys by which an API proves who it is when it asks about tokens."""


@api_key.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--new-key", type=click.Path(path_type=Path), help="Make a key pair here, for the API to have.")
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm, where the file does not say.")
@click.pass_obj
def add(session: Session, name: str, file: Path | None, new_key: Path | None, alg: str | None) -> None:
    """Register a public key (JWK, JWKS or SPKI PEM); the API may ask about its tokens from then on."""
    if (file is None) == (new_key is None):
        raise click.UsageError("give a file with a public key, or --new-key")
    keys = files.read_public_keys(file, alg) if file is not None else ()
    records = _register(session, name, keys) if new_key is None else _register_new(session, name, new_key, alg)
    session.show_list(records, COLUMNS, "kid")


def _register(session: Session, name: str, keys: Sequence[PublicKey]) -> Sequence[ApiKeyRecord]:
    return session.operate(lambda operator: operations.add_api_keys(operator, name, keys))


def _register_new(session: Session, name: str, path: Path, alg: str | None) -> Sequence[ApiKeyRecord]:
    """Write the key first: a registered key that nobody holds is useless, a spare file does no harm."""
    key = generate_private_key(alg or "ES256")
    files.write_key_pair(key, path)
    try:
        records = _register(session, name, (key.public,))
    except (ConfigError, NotRegistered, StoreConflict):  # certainly not registered
        path.unlink(missing_ok=True)
        raise
    session.note(f"private key: {path} (mode 0600; it stays with the API, the server never sees it)")
    return records


@api_key.command("list")
@click.argument("name")
@click.pass_obj
def list_(session: Session, name: str) -> None:
    """List the public keys of an API."""
    session.show_list(session.operate(lambda operator: operations.list_api_keys(operator, name)), COLUMNS, "kid")


@api_key.command("remove")
@click.argument("name")
@click.argument("kid")
@click.pass_obj
def remove(session: Session, name: str, kid: str) -> None:
    """Remove a key; the API cannot ask by it any more. Tokens for the API go on."""
    session.operate(lambda operator: operations.remove_api_key(operator, name, kid))
    session.show({"api": name, "kid": kid, "outcome": "removed"}, kid)
