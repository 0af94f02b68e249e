"""`groat token`: get one, verify one, look into one."""

import contextlib
import json
import logging
import sys
import time
from typing import Any

import click

from groat.cli.asked import ISSUER, LOCAL, asked_for, certificate_to_show, key_to_bind, note_narrowed
from groat.cli.identities import identity, who_asks
from groat.cli.people import cell
from groat.cli.session import Session
from groat.protocol import jose
from groat.protocol.errors import InvalidToken, JoseError, KeysUnavailable
from groat.protocol.jwk import base64url_decode
from groat.protocol.metadata import JWKS_PATH


@click.group()
def token() -> None:
    """Access tokens, from the caller's and the API's side."""


def _read_token(value: str) -> str:
    return (sys.stdin.buffer.read().decode("utf-8", "replace") if value == "-" else value).strip()


@token.command()
@who_asks
@click.option("--resource", metavar="URI", help="The API to call.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE")
@ISSUER
@LOCAL
@click.option("--dpop", "proof_key", metavar="FILE", help="Bind the token to this private key (DPoP).")
@click.option("--certificate", metavar="FILE", help="Show this certificate (mutual TLS). Needs no --key.")
@click.option("--certificate-key", metavar="FILE", help="The key of it, where it is not in the same file.")
@click.option("--cache", metavar="DIR", help="Keep tokens here and use them again; off unless given.")
@click.option("--print-token", is_flag=True, help="Print the token itself, and nothing else.")
@click.pass_obj
def get(
    session: Session,
    client_id: str | None,
    key_file: str | None,
    workload: str | None,
    alg: str | None,
    resource: str | None,
    scopes: tuple[str, ...],
    issuer: str | None,
    local: bool,
    proof_key: str | None,
    certificate: str | None,
    certificate_key: str | None,
    cache: str | None,
    print_token: bool,
) -> None:
    """Get an access token as a client would."""
    from groat.client import MachineClient

    asked = asked_for(session, issuer, local=local)
    machine = MachineClient(
        issuer=asked.issuer,
        client_id=client_id,
        key=identity(client_id, key_file, workload, alg, certified=certificate is not None),
        token_endpoint=f"{asked.address}/token" if asked.address is not None else None,
        token_cache=cache,
        dpop=key_to_bind(proof_key, asked),
        certificate=certificate_to_show(certificate, certificate_key, asked),
        allow_narrowed_scope=True,
    )
    with contextlib.closing(machine), asked.hinted():
        granted = machine.token(resource=resource, scopes=list(scopes))
    note_narrowed(session, scopes, granted.scopes)
    if print_token:
        click.echo(granted.value)
    else:
        _show(session, granted, {"client_id": client_id, "resource": resource})


def _show(session: Session, granted: Any, asked: dict[str, Any]) -> None:
    """What a token is for; not the token itself."""
    scope, expires_at = " ".join(sorted(granted.scopes)), int(granted.expires_at)
    session.show({**asked, "scope": scope, "expires_at": expires_at}, asked["client_id"] or "-")
    session.note("the token itself: add --print-token")


@token.command()
@click.argument("value", metavar="[TOKEN|-]", default="-")
@ISSUER
@LOCAL
@click.option("--audience", required=True, metavar="URI")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Demand this scope.")
@click.pass_obj
def verify(
    session: Session, value: str, issuer: str | None, local: bool, audience: str, scopes: tuple[str, ...]
) -> None:
    """Verify a token as an API would, against the issuer's JWKS."""
    from groat.verifier import Verifier

    # Why a token is refused is told once, as the outcome of the command.
    logging.getLogger("groat.verifier").addHandler(logging.NullHandler())
    asked = asked_for(session, issuer, local=local)
    jwks_uri = f"{asked.address}{JWKS_PATH}" if asked.address is not None else None
    with contextlib.closing(Verifier(issuer=asked.issuer, audience=audience, jwks_uri=jwks_uri)) as verifier:
        try:
            caller = verifier.verify(_read_token(value), scopes=list(scopes))
        except KeysUnavailable as error:
            error.hint = "; ".join(filter(None, (error.hint, asked.hint)))
            raise
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
@click.pass_obj
def inspect(session: Session, value: str) -> None:
    """Decode a token without verifying it; nothing leaves this machine."""
    try:
        jwt = jose.parse_jwt(_read_token(value))
        header = json.loads(base64url_decode(jwt.signing_input.partition(b".")[0]))
    except JoseError as error:
        raise InvalidToken(error.reason, error.hint) from None
    click.echo(json.dumps({"header": header, "claims": dict(jwt.claims), "verified": False}, indent=2))
    if not session.as_json:
        for name, at in jwt.claims.items():
            if name in ("iat", "nbf", "exp") and isinstance(at, int):
                session.note(f"{name}  {cell('_at', at, time.time())}")
