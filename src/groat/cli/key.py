"""`groat key`: the signing keys of the issuer."""

import json
import time
from typing import Any

import click

from groat.cli.session import Session
from groat.keys.custody import KeyEncryptionKey
from groat.keys.files import public_key_pem
from groat.keys.keyring import Lead, SigningKey, published_keys
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES, public_key_set
from groat.server import operations

COLUMNS = ("kid", "algorithm", "state", "created_at", "activates_at", "retires_at", "removes_at")


@click.group()
def key() -> None:
    """Signing keys: pending, active, retiring, removed."""


def _document(record: SigningKey, now: float) -> dict[str, Any]:
    return {
        "kid": record.kid,
        "algorithm": record.public.algorithm,
        "state": record.state(now).value,
        "created_at": record.created_at,
        "activates_at": record.activates_at,
        "retires_at": record.retires_at,
        "removes_at": record.removes_at,
        "jwk": dict(record.public.jwk),
    }


@key.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List the signing keys and what each does now (times in epoch seconds)."""
    now = time.time()
    records = [_document(record, now) for record in session.operate(operations.list_signing_keys)]
    session.show_list(records, COLUMNS, "kid")


@key.command()
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm; default: keys.algorithm.")
@click.pass_obj
def rotate(session: Session, alg: str | None) -> None:
    """Publish the next signing key; it takes over by itself once every verifier can know it."""
    config = session.config()
    kek = KeyEncryptionKey.load(config.path("keys.encryption_key_file"))
    algorithm = alg or config["keys.algorithm"]
    lead = Lead(token_lifetime=3600)
    changed = session.operate(lambda operator: operations.rotate_signing_key(operator, kek, algorithm, lead))
    now = time.time()
    session.show_list([_document(record, now) for record in changed], COLUMNS, "kid")
    wait = changed[0].activates_at - int(now)
    session.note(f"{changed[0].kid} signs {'now' if wait <= 0 else f'in {wait // 60} min'}")


@key.command()
@click.argument("kid")
@click.pass_obj
def revoke(session: Session, kid: str) -> None:
    """Emergency: take a key out of signing and the JWKS at once. Tokens it signed stop verifying."""
    session.confirm(f"Revoke signing key {kid}? Tokens that it signed will be refused.")
    config = session.config()
    kek = KeyEncryptionKey.load(config.path("keys.encryption_key_file"))
    changed = session.operate(
        lambda operator: operations.revoke_signing_key(operator, kek, kid, config["keys.algorithm"])
    )
    now = time.time()
    session.show_list([_document(record, now) for record in changed], COLUMNS, "kid")


@key.command()
@click.argument("kid", required=False)
@click.option("--format", "form", type=click.Choice(["jwks", "jwk", "pem"]), default="jwks", show_default=True)
@click.pass_obj
def export(session: Session, kid: str | None, form: str) -> None:
    """Print public keys: the JWKS, or one key as JWK or SPKI PEM."""
    published = published_keys(session.operate(operations.list_signing_keys), time.time())
    chosen = [record.public for record in published if kid is None or record.kid == kid]
    if not chosen or (form != "jwks" and len(chosen) != 1):
        raise ConfigError("name one published key: groat key list")
    if form == "pem":
        click.echo(public_key_pem(chosen[0]).decode(), nl=False)
    else:
        click.echo(json.dumps(public_key_set(chosen) if form == "jwks" else dict(chosen[0].jwk)))
