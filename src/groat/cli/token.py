"""`groat token`: get one, verify one, look into one."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from groat.cli.session import Session
from groat.keys.files import parse_private_key, read_private_key
from groat.protocol import jose
from groat.protocol.errors import ConfigError, InvalidToken, JoseError
from groat.protocol.jwk import PrivateKey, base64url_decode
from groat.protocol.metadata import JWKS_PATH, issuer_path


@click.group()
def token() -> None:
    """Access tokens, from the caller's and the API's side."""


def read_key(name: str) -> PrivateKey:
    """A private key from a file, or from stdin for `-`. Raises ConfigError."""
    if name.lstrip().startswith(("{", "-----BEGIN")):
        raise ConfigError("--key takes the name of a file, or - for standard input; not the key itself")
    if name == "-":
        return parse_private_key(sys.stdin.buffer.read(), "standard input")
    return read_private_key(Path(name))


def _read_token(value: str) -> str:
    return (sys.stdin.buffer.read().decode("utf-8", "replace") if value == "-" else value).strip()


def _local(session: Session, issuer: str | None) -> tuple[str, str | None]:
    """The issuer to use, and the address of the local server where the configuration is at hand.

    On the server's own machine the public name may not resolve; the address of [server] does. A server that speaks
    TLS itself is asked by its public name: its certificate is for that.
    """
    named = issuer or os.environ.get("GROAT_ISSUER")
    if named is not None:
        return named, None
    config = session.config()
    if config.tls is not None:
        return config.policy.issuer, None
    host, port = config.local_address
    shown = f"[{host}]" if ":" in host else host
    return config.policy.issuer, f"http://{shown}:{port}{issuer_path(config.policy.issuer)}"


@token.command()
@click.option("--client-id", required=True)
@click.option("--key", "key_file", required=True, metavar="FILE", help="The client's private key; - reads stdin.")
@click.option("--resource", metavar="URI", help="The API to call.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE")
@click.option("--issuer", metavar="URL", help="Default: GROAT_ISSUER, or the server of the configuration.")
@click.option("--cache", metavar="DIR", help="Keep tokens here and use them again; off unless given.")
@click.option("--print-token", is_flag=True, help="Print the token itself, and nothing else.")
@click.pass_obj
def get(
    session: Session,
    client_id: str,
    key_file: str,
    resource: str | None,
    scopes: tuple[str, ...],
    issuer: str | None,
    cache: str | None,
    print_token: bool,
) -> None:
    """Get an access token as a client would."""
    from groat.client import MachineClient

    name, local = _local(session, issuer)
    if local is not None:
        session.note(f"asking the local server at {local} for {name}")
    machine = MachineClient(
        issuer=name,
        client_id=client_id,
        key=read_key(key_file),
        token_endpoint=f"{local}/token" if local is not None else None,
        token_cache=cache,
    )
    try:
        granted = machine.token(resource=resource, scopes=list(scopes))
    finally:
        machine.close()
    if print_token:
        click.echo(granted.value)
        return
    facts = {
        "client_id": client_id,
        "resource": resource,
        "scope": " ".join(sorted(granted.scopes)),
        "expires_at": int(granted.expires_at),
    }
    session.show(facts, client_id)
    session.note("the token itself: add --print-token")


@token.command()
@click.argument("value", metavar="[TOKEN|-]", default="-")
@click.option("--issuer", metavar="URL", help="Default: GROAT_ISSUER, or the server of the configuration.")
@click.option("--audience", required=True, metavar="URI")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Demand this scope.")
@click.pass_obj
def verify(session: Session, value: str, issuer: str | None, audience: str, scopes: tuple[str, ...]) -> None:
    """Verify a token as an API would, against the issuer's JWKS."""
    from groat.verifier import Verifier

    name, local = _local(session, issuer)
    jwks_uri = f"{local}{JWKS_PATH}" if local is not None else None
    with contextlib.closing(Verifier(issuer=name, audience=audience, jwks_uri=jwks_uri)) as verifier:
        caller = verifier.verify(_read_token(value), scopes=list(scopes))
    facts: dict[str, Any] = {
        "client_id": caller.client_id,
        "subject": caller.subject,
        "scope": " ".join(sorted(caller.scopes)),
        "expires_at": caller.expires_at,
        "token_id": caller.token_id,
    }
    session.show(facts, caller.client_id)


@token.command()
@click.argument("value", metavar="[TOKEN|-]", default="-")
def inspect(value: str) -> None:
    """Decode a token without verifying it; nothing leaves this machine."""
    try:
        jwt = jose.parse_jwt(_read_token(value))
        header = json.loads(base64url_decode(jwt.signing_input.partition(b".")[0]))
    except JoseError as error:
        raise InvalidToken(error.reason, error.hint) from None
    click.echo(json.dumps({"header": header, "claims": dict(jwt.claims), "verified": False}, indent=2))
