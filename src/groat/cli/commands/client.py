"""`groat client`: who may ask for tokens, with which keys."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from groat.cli.client_settings import CLEARED, settings_options, with_cleared
from groat.cli.commands.client_key import client_key
from groat.cli.commands.client_trust import client_trust
from groat.cli.commands.enrolment import invite, join
from groat.cli.consequences import DRY_RUN, agree, show_done, show_dry_run
from groat.cli.instants import span_of_time, when
from groat.cli.options import parse_allow, parse_pairs
from groat.cli.session import Session
from groat.keys import files
from groat.keys.private_key import CURVE_ALGORITHMS
from groat.keys.public_key import DEFAULT_RSA_ALGORITHM
from groat.protocol.client_settings import DEFAULTS, ClientSettings, SettingsChange
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES, PrivateKey, PublicKey, generate_private_key
from groat.protocol.key_limits import UNLIMITED, KeyLimits
from groat.protocol.unset import UNSET
from groat.server import operations
from groat.server.store.records import ClientRecord

# Of a list; one client is shown with everything.
COLUMNS = ("client_id", "enabled", "allow", "default_scopes")
_FILE = click.Path(path_type=Path)


@click.group()
def client() -> None:
    """Clients: what they may ask, with which keys."""


@client.command("add")
@click.argument("client_id")
@click.option("--allow", multiple=True, required=True, metavar="API=scope[,scope]", help="What the client may ask.")
@click.option("--new-key", type=_FILE, help="Make a key pair here; only its public half is registered.")
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm of the key.")
@click.option("--rsa-bits", type=int, default=3072, show_default=True, help="Size of a new RSA key.")
@click.option("--jwks", type=_FILE, help="A JWK or JWKS file of public keys.")
@click.option("--public-key", type=_FILE, help="Public keys as SPKI PEM: each PUBLIC KEY block.")
@click.option("--no-key", is_flag=True, help="It has none of its own: see `groat client trust add`.")
@click.option(
    "--key-not-before", type=when, metavar="WHEN", help="The keys count from then on: 2027-01-31T00:00Z, 90d."
)
@click.option("--key-expires", type=when, metavar="WHEN", help="The keys count until then.")
@settings_options
@click.pass_obj
def add(
    session: Session,
    /,
    client_id: str,
    allow: tuple[str, ...],
    new_key: Path | None,
    alg: str | None,
    rsa_bits: int,
    jwks: Path | None,
    public_key: Path | None,
    no_key: bool,
    key_not_before: int | None,
    key_expires: int | None,
    change: SettingsChange,
) -> None:
    """Register a client."""
    # None at all is said by --no-key, so that a forgotten option does not leave a client that nobody can be.
    # One source: of two it would have to be guessed which of them the client will sign by.
    sources = [source for source in (new_key, jwks, public_key) if source is not None]
    publishes = change.jwks_uri is not UNSET
    certified = change.certificates is not UNSET or change.certificate_ca is not UNSET
    no_key = no_key or (certified and not sources and not publishes)
    if len(sources) + publishes + no_key != 1:
        raise click.UsageError(
            "give exactly one of --new-key, --jwks, --public-key, --jwks-uri, --certificate, --certificate-ca, --no-key"
        )
    limits = KeyLimits(key_not_before, key_expires)
    if (publishes or no_key) and limits != UNLIMITED:
        raise click.UsageError("keys that are not registered here have no limits here")
    # Read before the store is asked, so that a bad file leaves nothing behind.
    keys = files.read_public_keys(sources[0], alg) if sources and new_key is None else None if no_key else ()
    newcomer = _Newcomer(session, client_id, parse_allow(allow), change.applied(DEFAULTS), limits)
    if new_key is None:
        record = newcomer.register(keys)
    else:
        record = newcomer.register_new_key(new_key, alg or "ES256", rsa_bits)
    session.show(record.document(), client_id)


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A client that is about to be registered: everything but its keys."""

    session: Session
    client_id: str
    allow: dict[str, list[str]]
    settings: ClientSettings
    limits: KeyLimits

    def register(self, keys: Sequence[PublicKey] | None) -> ClientRecord:
        return self.session.operate(
            lambda operator: operations.add_client(
                operator, self.client_id, self.allow, keys, self.settings, limits=self.limits
            )
        )

    def register_new_key(self, path: Path, algorithm: str, rsa_bits: int) -> ClientRecord:
        """Write the key first: a registered key that nobody holds is useless, a spare file does no harm."""
        key = generate_private_key(algorithm, rsa_bits)
        try:
            files.write_key_pair(key, path)
            record = self.register((key.public,))
        except BaseException:
            # The file is ours to remove only where it is the one that was written here.
            if _holds(path, key):  # Ctrl-C may come when the file is there and the call has not returned
                _discard(self.session, self.client_id, key.kid, path)
            raise
        self.session.note(f"private key: {path} (mode 0600; it stays with the client, the server never sees it)")
        # Its readers take the usual algorithm for the kind of key, which is another one here.
        if path.suffix == ".pem" and algorithm not in (DEFAULT_RSA_ALGORITHM, *CURVE_ALGORITHMS.values()):
            self.session.note(f"a PEM does not say that it is for {algorithm}: give it with --alg {algorithm}")
        return record


def _holds(path: Path, key: PrivateKey) -> bool:
    """Whether this file has this key, and not one that was there before."""
    with contextlib.suppress(ConfigError):
        return files.read_private_key(path, key.algorithm).public.thumbprint == key.public.thumbprint
    return False


def _discard(session: Session, client_id: str, kid: str, path: Path) -> None:
    """Remove the key file of a registration that failed, but never the one of a client that is registered after all.

    Ctrl-C may come after the commit; only the store knows, and if it does not answer either the file stays.
    """
    try:
        keys = session.operate(lambda operator: operator.store.client_keys(client_id))
    except BaseException:
        session.note(f"whether {client_id} was registered is unknown, so {path} stays. See: groat client list")
        return
    if any(key.kid == kid for key in keys):
        session.note(f"{client_id} is registered; its private key: {path}")
    else:
        path.unlink(missing_ok=True)


@client.command("list")
@click.option("--api", default="", metavar="NAME", help="Only those that may ask something of this API.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only those with all these labels.")
@click.option("--disabled", is_flag=True, help="Only those that are disabled.")
@click.option(
    "--unused", type=span_of_time, metavar="SPAN", help="Only those that nobody is known to have used for so long."
)
@click.pass_obj
def list_(session: Session, api: str, labels: tuple[str, ...], disabled: bool, unused: int | None) -> None:
    """List clients: all of them, or those for which everything holds that is said."""
    # An API is looked up, since a slip in its name would look like an answer; a label is whatever somebody wrote.
    wanted = operations.ClientFilter(api, parse_pairs("label", labels), disabled, unused)
    clients = [one.document() for one in session.operate(lambda operator: operations.list_clients(operator, wanted))]
    session.show_list(clients, COLUMNS if unused is None else (*COLUMNS, "unused_since"), "client_id")


@client.command()
@click.argument("client_id")
@click.pass_obj
def show(session: Session, client_id: str) -> None:
    """Show one client."""
    record = session.operate(lambda operator: operations.find_client(operator, client_id))
    session.show(record.document(), client_id)


@client.command()
@click.argument("client_id")
@click.option(
    "--allow", multiple=True, metavar="API=scope[,scope]", help="Replace the scopes of this API; API= for none."
)
@settings_options
@click.option("--clear", multiple=True, type=click.Choice(list(CLEARED)), help="Back to the default.")
@DRY_RUN
@click.pass_obj
def update(
    session: Session,
    /,
    client_id: str,
    allow: tuple[str, ...],
    clear: tuple[str, ...],
    dry_run: bool,
    change: SettingsChange,
) -> None:
    """Change what a client may ask, or how it must sign; says what it loses by that."""
    # What is not named stays as it is: an API keeps its scopes, a setting its value.
    permissions, wished = parse_allow(allow), with_cleared(change, clear)
    # Planned and done are two transactions: what is told is what was so a moment before.
    plan = session.operate(lambda operator: operations.plan_client_update(operator, client_id, permissions, wished))
    if dry_run:
        show_dry_run(session, (plan.after or plan.before).document(), plan.losses, changes=plan.changes)
    record = session.operate(lambda operator: operations.update_client(operator, client_id, permissions, wished))
    show_done(session, record.document(), client_id, plan.losses)


@client.command()
@click.argument("client_id")
@click.pass_obj
def enable(session: Session, client_id: str) -> None:
    """Let a client ask again, from its next request on."""
    # It loses nothing by this, so there is nothing to plan.
    record = session.operate(lambda operator: operations.enable_client(operator, client_id, enabled=True))
    session.show(record.document(), client_id)


@client.command()
@click.argument("client_id")
@DRY_RUN
@click.pass_obj
def disable(session: Session, client_id: str, dry_run: bool) -> None:
    """Refuse a client from its next request on; tokens it has live to their end. Does not ask: it can be undone."""
    plan = session.operate(lambda operator: operations.plan_client_end(operator, client_id, for_good=False))
    if dry_run:
        show_dry_run(session, {"client_id": client_id}, plan.losses, changes=plan.changes)
    record = session.operate(lambda operator: operations.enable_client(operator, client_id, enabled=False))
    show_done(session, record.document(), client_id, plan.losses)


@client.command()
@click.argument("client_id")
@DRY_RUN
@click.pass_obj
def remove(session: Session, client_id: str, dry_run: bool) -> None:
    """Remove a client for good; its id is never given to another one."""
    plan = session.operate(lambda operator: operations.plan_client_end(operator, client_id, for_good=True))
    if dry_run:
        show_dry_run(session, {"client_id": client_id}, plan.losses, changes=True)
    # The one change that no other takes back, so it is asked for each time.
    agree(session, f"Remove client {client_id}? Its id can never be used again.", plan.losses)
    session.operate(lambda operator: operations.remove_client(operator, client_id))
    show_done(session, {"client_id": client_id, "outcome": "removed"}, client_id, plan.losses)


@client.command()
@click.argument("client_id")
@click.option("--key", "key_file", required=True, metavar="FILE", help="The client's private key; - reads stdin.")
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm of the key, where it does not say.")
@click.option("--issuer", help="Whom the assertion is for; default: the issuer of the configuration.")
@click.option("--lifetime", type=click.IntRange(5, 3600), default=60, show_default=True, metavar="SECONDS")
@click.pass_obj
def assertion(
    session: Session, client_id: str, key_file: str, alg: str | None, issuer: str | None, lifetime: int
) -> None:
    """Print one signed assertion, for curl. It buys one token."""
    # Imported here, because signing costs a start-up that the other commands have no use for.
    import secrets
    import time

    from groat.cli.identities import read_key
    from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP
    from groat.protocol.jose import sign_jwt

    # As `MachineClient` writes it, but for longer where that is asked: a person has to paste it first.
    now = int(time.time())
    audience = issuer or session.config().policy.issuer
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now + lifetime,
        "jti": secrets.token_urlsafe(16),
    }
    signed = sign_jwt(claims, read_key(key_file, alg), ASSERTION_TYP)
    session.show({"client_assertion": signed}, signed) if session.as_json else click.echo(signed)


# Commands about keys stand in files of their own; people look for them below `client`.
client.add_command(invite)
client.add_command(join)
client.add_command(client_key)
client.add_command(client_trust)
