"""`groat client invite`, `join` and `key rotate`: a host makes its own key, only its public half travels."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from groat.cli.options import parse_allow
from groat.cli.session import Session
from groat.keys import files
from groat.keys.client_keys import span
from groat.keys.invitation import MAX_CODE_CHARS, invited_client
from groat.protocol.enrolment import MAX_RETIREMENT, MIN_RETIREMENT
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES, PrivateKey, generate_private_key
from groat.protocol.shell import command, shell_word
from groat.server import operations
from groat.server.settings.readers import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from groat.client.enrolment import Enrolment

_FILE = click.Path(path_type=Path)
_ALGORITHM = click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), default="ES256", show_default=True)
_ISSUER = click.option("--issuer", required=True, metavar="URL", help="The authorization server.")


@click.command()
@click.argument("client_id")
@click.option("--allow", multiple=True, metavar="API=scope[,scope]", help="Register the client first, with this.")
@click.option("--valid", default="1h", show_default=True, help="How long the code is good for, 1m to 7d.")
@click.pass_obj
def invite(session: Session, client_id: str, allow: tuple[str, ...], valid: str) -> None:
    """Print a join code: with it a host registers one key for this client, once."""
    from groat.server.settings.open_custody import open_invitations

    config = session.config()
    try:
        lifetime = duration(valid)
    except ValueError as error:
        raise click.UsageError(f"--valid takes {error}") from None
    invitations, permissions = open_invitations(config), parse_allow(allow)
    code = session.operate(
        lambda operator: operations.invite_client(operator, invitations, client_id, lifetime, permissions), dated=True
    )
    session.show({"client_id": client_id, "code": code, "valid_seconds": lifetime}, code)
    issuer = config.policy.issuer
    key_file = shell_word(f"{client_id.replace('/', '_')}.key.json")
    session.note(f"on the client's host: groat client join - --issuer {shell_word(issuer)} --key {key_file}")


@click.command()
@click.argument("code")
@_ISSUER
@click.option("--key", "path", type=_FILE, required=True, help="Where to write the new private key.")
@_ALGORITHM
@click.pass_obj
def join(session: Session, code: str, issuer: str, path: Path, alg: str) -> None:
    """Make a key here and register its public half with a join CODE (- reads it from standard input)."""
    text = (sys.stdin.read(MAX_CODE_CHARS + 2) if code == "-" else code).strip()
    client_id = invited_client(text)
    _enrol(session, issuer, client_id, path, alg, lambda enrolment, key: enrolment.by_code(key, text))


@click.command("rotate")
@click.argument("client_id")
@_ISSUER
@click.option("--key", "current", required=True, metavar="FILE", help="The current private key; - reads stdin.")
@click.option("--new-key", "path", type=_FILE, required=True, help="Where to write the next private key.")
@_ALGORITHM
@click.option("--key-alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Of the current key, where it does not say.")
@click.option("--retire-old-after", metavar="DURATION", help="Let the current key expire then, such as 1h.")
@click.pass_obj
def rotate(
    session: Session,
    client_id: str,
    issuer: str,
    current: str,
    path: Path,
    alg: str,
    key_alg: str | None,
    retire_old_after: str | None,
) -> None:
    """Make the next key here and register its public half with the current key's word."""
    from groat.cli.identities import read_key

    held, after = read_key(current, key_alg), None if retire_old_after is None else _retirement(retire_old_after)
    _enrol(session, issuer, client_id, path, alg, lambda enrolment, key: enrolment.by_key(key, held, after))
    if after is None:
        session.note(f"both keys work. Use {path} now, then: {command('client key remove', client_id, held.kid)}")
    else:
        session.note(f"both keys work for {span(after)}. Use {path} now; the old key ends by itself")


def _retirement(text: str) -> int:
    try:
        after = duration(text)
    except ValueError as error:
        raise click.UsageError(f"--retire-old-after takes {error}") from None
    if not MIN_RETIREMENT <= after <= MAX_RETIREMENT:
        raise click.UsageError(f"--retire-old-after takes {MIN_RETIREMENT}s to {MAX_RETIREMENT // 86400}d")
    return after


def _enrol(
    session: Session,
    issuer: str,
    client_id: str,
    path: Path,
    alg: str,
    register: "Callable[[Enrolment, PrivateKey], dict[str, Any]]",
) -> None:
    """Write the key first: a registered key that nobody holds is useless. A refusal takes the file away again."""
    from groat.client.enrolment import Enrolment
    from groat.client.errors import ClientError, EnvironmentUnusable, TokenRequestRefused
    from groat.client.wire import Transport

    key, transport = generate_private_key(alg), Transport()
    files.write_key_pair(key, path)
    try:
        done = register(Enrolment(issuer, client_id, transport), key)
    except (TokenRequestRefused, EnvironmentUnusable, ConfigError):
        path.unlink(missing_ok=True)
        raise
    except ClientError:
        session.note(
            f"{path} is kept: the server may have registered it. If groat token get is refused with it, remove it"
        )
        raise
    finally:
        transport.close()
    session.show({**done, "key": str(path)}, key.kid)
