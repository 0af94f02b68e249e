"""`groat admin`: what operators need to use the admin API."""

import contextlib

import click

from groat.cli.asked import ISSUER, LOCAL, asked_for, key_to_bind
from groat.cli.identities import identity
from groat.cli.session import Session
from groat.protocol.jwk import ALGORITHM_NAMES

_SCOPES = ("groat:read", "groat:write")


@click.group()
def admin() -> None:
    """The admin API."""


@admin.command()
@click.option("--client-id", envvar="GROAT_CLIENT_ID", help="The client that is an operator; or GROAT_CLIENT_ID.")
@click.option("--key", "key_file", envvar="GROAT_KEY_FILE", metavar="FILE",
              help="Its private key; - reads stdin; or GROAT_KEY_FILE.")  # fmt: skip
@click.option("--workload", metavar="PLATFORM", help="The platform's own token instead of a key.")
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm of the key, where it does not say.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(_SCOPES), default=_SCOPES[:1], show_default=True,
              help="groat:write covers reading, too.")  # fmt: skip
@click.option("--dpop", "dpop_key", metavar="FILE", help="Bind the token to this private key (DPoP).")
@ISSUER
@LOCAL
@click.pass_obj
def token(
    session: Session,
    client_id: str | None,
    key_file: str | None,
    workload: str | None,
    alg: str | None,
    scopes: tuple[str, ...],
    dpop_key: str | None,
    issuer: str | None,
    local: bool,
) -> None:
    """Print an access token for the admin API: curl -H "Authorization: Bearer $(groat admin token)"."""
    from groat.client import MachineClient

    asked = asked_for(session, issuer, local=local)
    machine = MachineClient(
        issuer=asked.issuer,
        client_id=client_id,
        key=identity(client_id, key_file, workload, alg),
        token_endpoint=f"{asked.address}/token" if asked.address is not None else None,
        dpop=key_to_bind(dpop_key, asked),
    )
    with contextlib.closing(machine), asked.hinted():
        # A resource of the issuer's own, by the name that `groat init` gave it.
        granted = machine.token(resource=f"{asked.issuer.rstrip('/')}/admin", scopes=list(scopes))
    document = {"access_token": granted.value, "expires_at": int(granted.expires_at), "scope": " ".join(scopes)}
    session.show(document, granted.value) if session.as_json else click.echo(granted.value)
