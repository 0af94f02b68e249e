"""`groat token`: get one, verify one, look into one."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from groat.cli.identities import identity, read_key
from groat.cli.people import cell
from groat.cli.session import Session
from groat.protocol import jose
from groat.protocol.errors import ConfigError, InvalidToken, JoseError, KeysUnavailable
from groat.protocol.jwk import ALGORITHM_NAMES, PrivateKey, base64url_decode
from groat.protocol.metadata import JWKS_PATH, issuer_path


@click.group()
def token() -> None:
    """Access tokens, from the caller's and the API's side."""


def _read_token(value: str) -> str:
    return (sys.stdin.buffer.read().decode("utf-8", "replace") if value == "-" else value).strip()


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom to ask: the issuer itself, or (`address`) whoever listens at the address of [server] on this machine.

    The latter only on demand. Any program can listen on a port and say that it is the issuer: it would be given an
    assertion that buys a token, or its keys would be believed. `elsewhere`: where --local would ask, for a hint.
    """

    issuer: str
    address: str | None = None
    elsewhere: str | None = None

    @property
    def hint(self) -> str:
        """What helps where the issuer does not answer; empty where nothing does."""
        return f"on the server's own machine --local asks {self.elsewhere} instead" if self.elsewhere else ""

    @contextlib.contextmanager
    def hinted(self) -> Iterator[None]:
        """Say it where that is what fails in here."""
        from groat.client import MetadataInvalid, ServerUnreachable

        try:
            yield
        except (ServerUnreachable, MetadataInvalid) as error:
            error.hint = error.hint or self.hint
            raise


def asked_for(session: Session, issuer: str | None, *, local: bool) -> Asked:
    named = issuer or os.environ.get("GROAT_ISSUER")
    if named is not None and not local:
        return Asked(named)
    config = session.config()
    name = named or config.policy.issuer
    if config.listener.tls is not None:
        if local:
            raise ConfigError(f"--local: this server speaks TLS, and its certificate is for the name in {name}")
        return Asked(name)
    host, port = config.listener.local_address
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}{issuer_path(name)}"
    if not local:
        return Asked(name, elsewhere=None if name.rstrip("/") == address else address)
    session.note(f"asking the local server at {address} for {name}")
    return Asked(name, address)


LOCAL = click.option(
    "--local", is_flag=True, help="Ask the address of [server] on this machine; whoever listens there is believed."
)
ISSUER = click.option("--issuer", metavar="URL", help="Default: GROAT_ISSUER, or the issuer of the configuration.")


@token.command()
@click.option("--client-id", help="Needed with --key; the workload's token says it else.")
@click.option("--key", "key_file", metavar="FILE", help="The client's private key; - reads stdin.")
@click.option(
    "--workload", metavar="PLATFORM", help="The platform's own token instead of a key: kubernetes, github, ..."
)
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm of the key, where it does not say.")
@click.option("--resource", metavar="URI", help="The API to call.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE")
@ISSUER
@LOCAL
@click.option("--dpop", "proof_key", metavar="FILE", help="Bind the token to this private key (DPoP).")
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
    cache: str | None,
    print_token: bool,
) -> None:
    """Get an access token as a client would."""
    from groat.client import MachineClient

    asked = asked_for(session, issuer, local=local)
    machine = MachineClient(
        issuer=asked.issuer,
        client_id=client_id,
        key=identity(client_id, key_file, workload, alg),
        token_endpoint=f"{asked.address}/token" if asked.address is not None else None,
        token_cache=cache,
        dpop=key_to_bind(proof_key, asked),
        allow_narrowed_scope=True,
    )
    with contextlib.closing(machine), asked.hinted():
        granted = machine.token(resource=resource, scopes=list(scopes))
    if missing := sorted(set(scopes) - set(granted.scopes)):
        session.note(f"narrowed by the server: granted without {' '.join(missing)}")
    if print_token:
        click.echo(granted.value)
    else:
        _show(session, granted, {"client_id": client_id, "resource": resource})


def key_to_bind(name: str | None, asked: Asked) -> PrivateKey | bool:
    """The key to bind to, False for none. Raises ConfigError."""
    if name is not None and asked.address is not None:
        raise ConfigError("--dpop: a proof names the public URL of the server, which --local does not ask")
    return name is not None and read_key(name)


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
