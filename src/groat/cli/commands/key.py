"""`groat key`: the signing keys of the issuer."""

import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from groat.cli.consequences import DRY_RUN, agree, show_dry_run
from groat.cli.session import Session
from groat.keys.files import public_key_pem
from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import KeyState, SigningKey, published_keys
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.key_set import public_key_set
from groat.protocol.shell import command
from groat.server import operations
from groat.server.operations.signing_keys import describe_signing_key

if TYPE_CHECKING:
    Work = Callable[[operations.Ring], Coroutine[Any, Any, tuple[SigningKey, ...]]]

COLUMNS = ("kid", "algorithm", "state", "created_at", "activates_at", "retires_at", "removes_at")
_ALGORITHM = click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm; default: keys.algorithm.")


@click.group()
def key() -> None:
    """Signing keys: pending, active, retiring, removed."""


def _operate(session: Session, work: "Work", alg: str | None = None, *, dated: bool = True) -> Sequence[SigningKey]:
    """Run one operation on the ring and show the keys that it changed; `dated`: by the clock of this host."""
    from groat.server.settings.open_custody import open_custody

    config = session.config()
    if dated:
        _check_clock(session)
    custody, algorithm = open_custody(config), alg or config.key_files.algorithm
    changed = session.operate(lambda operator: work(operations.Ring(operator, custody, algorithm, config.timing.lead)))
    now = time.time()
    session.show_list([describe_signing_key(record, now) for record in changed], COLUMNS, "kid")
    return changed


def _check_clock(session: Session) -> None:
    """What a key does from when to when is what a wrong clock would say; on every server, and for long."""
    from groat.server.operations.clock import check_clock

    doubt = session.operate(lambda operator: check_clock(operator.store, operator.clock))
    if doubt is not None:
        session.confirm(f"{doubt[0].upper()}{doubt[1:]}. Is the clock of this host right?")


def _tell_takeover(session: Session, record: SigningKey) -> None:
    """When: nothing seems to happen before that, and whoever does not know why will type the command again."""
    wait = record.activates_at - int(time.time())
    session.note(f"{record.kid} signs {'now' if wait <= 0 else f'in {max(1, wait // 60)} min'}")


@key.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List the signing keys and what each does now."""
    now = time.time()
    records = [describe_signing_key(record, now) for record in session.operate(operations.list_signing_keys)]
    session.show_list(records, COLUMNS, "kid")


@key.command()
@click.pass_obj
def timeline(session: Session) -> None:
    """Draw the life of every published key, and say whether any verifier could be surprised by it."""
    config = session.config()
    keys = session.operate(operations.list_signing_keys)
    now = int(time.time())
    faults = ring_faults(keys, config.timing, now)
    # The drawing is for eyes; a program gets the instants, and the spans by which they were judged.
    if session.as_json:
        lead = config.timing.lead
        spans = {
            "now": now,
            "publish_lead": lead.publish,
            "keep": lead.keep,
            "rotate_every": config.timing.rotate_every,
        }
        found = [
            {"rule": f.rule, "kid": f.kid, "since": f.since, "until": f.until, "message": f.message} for f in faults
        ]
        click.echo(json.dumps({**spans, "keys": [describe_signing_key(one, now) for one in keys], "faults": found}))
        return
    from rich.console import Console

    from groat.cli.timeline import draw

    draw(Console(no_color=not session.color, highlight=False), keys, faults, now)


@key.command()
@_ALGORITHM
@click.pass_obj
def prepare(session: Session, alg: str | None) -> None:
    """Publish a further key; it waits until `activate`, or until the schedule needs one."""
    changed = _operate(session, operations.prepare_signing_key, alg)
    session.note(f"{changed[0].kid} is published. When it shall sign: {command('key activate', changed[0].kid)}")


@key.command()
@click.argument("kid")
@click.option("--now", "at_once", is_flag=True, help="At once, although verifiers may not know it yet (emergency).")
@click.pass_obj
def activate(session: Session, kid: str, at_once: bool) -> None:
    """Let a pending key take over, as soon as every verifier can know it."""
    # Otherwise nothing can go wrong: the key takes over when every cache has it.
    if at_once:
        session.confirm(f"Let {kid} sign now? Verifiers that do not know it yet will refuse its tokens.")
    changed = _operate(session, lambda ring: operations.activate_signing_key(ring, kid, at_once=at_once))
    _tell_takeover(session, changed[0])


@key.command()
@_ALGORITHM
@click.pass_obj
def rotate(session: Session, alg: str | None) -> None:
    """Let the next key take over, once every verifier can know it; it is made where none is published yet."""
    if alg is not None:
        _refuse_other_algorithm(session, alg)
    changed = _operate(session, operations.rotate_signing_key, alg)
    _tell_takeover(session, changed[0])


def _refuse_other_algorithm(session: Session, alg: str) -> None:
    """A published key takes over as it is, so another algorithm needs another key."""
    now = time.time()
    for record in session.operate(operations.list_signing_keys):
        if record.state(now) is KeyState.PENDING and ALGORITHM_NAMES[alg].name != record.public.algorithm:
            raise ConfigError(
                f"a pending key is for {record.public.algorithm}: groat key prepare --alg {alg}, then activate it"
            )


@key.command()
@click.argument("kid")
@click.option("--now", "at_once", is_flag=True, help="Sign nothing more with it; its tokens stay good (taint).")
@DRY_RUN
@click.pass_obj
def retire(session: Session, kid: str, at_once: bool, dry_run: bool) -> None:
    """End a key's service: the active one hands over, a pending one is withdrawn. No client loses a token by it."""
    if dry_run:
        _show_dry_run(session, kid, KeyState.PENDING, KeyState.ACTIVE)
    changed = _operate(session, lambda ring: operations.retire_signing_key(ring, kid, at_once=at_once))
    # Where one was withdrawn nobody takes over; where one handed over, its successor stands among the changed ones.
    signs = [record for record in changed if record.state(time.time()) is KeyState.ACTIVE or not record.removes_at]
    for record in signs[:1]:
        _tell_takeover(session, record)


@key.command()
@click.argument("kid")
@DRY_RUN
@click.pass_obj
def revoke(session: Session, kid: str, dry_run: bool) -> None:
    """Emergency: take a key out of signing and the JWKS at once. Tokens it signed stop verifying."""
    if dry_run:
        _show_dry_run(session, kid, *(state for state in KeyState if state is not KeyState.REMOVED), revoked=True)
    # Asked of the store before the question is put: who would be hit is what an answer depends on.
    plan = session.operate(lambda operator: operations.plan_signing_key_end(operator, kid))
    agree(session, f"Revoke signing key {kid}? Tokens that it signed will be refused.", plan.losses)
    _operate(session, lambda ring: operations.revoke_signing_key(ring, kid))


def _show_dry_run(session: Session, kid: str, *ended: KeyState, revoked: bool = False) -> NoReturn:
    """Say whom the end of a key would hit; it ends where its state is one of `ended`.

    A key that retires stays in the JWKS for as long as its tokens live, so that only a revocation hits anybody.
    """
    plan = session.operate(lambda operator: operations.plan_signing_key_end(operator, kid))
    if plan.state is None:
        raise ConfigError(f"no signing key {kid}. See: groat key list")
    facts = {"kid": kid, "state": plan.state.value}
    show_dry_run(session, facts, plan.losses if revoked else (), changes=plan.state in ended)


@key.command()
@click.pass_obj
def reseal(session: Session) -> None:
    """Seal every private key under keys.encryption_key_file, so that the others of the list can go."""
    # No instants are written here, so a host whose clock is wrong may do this.
    changed = _operate(session, operations.reseal_signing_keys, dated=False)
    if not changed:
        session.note("every key is sealed by keys.encryption_key_file already")


@key.command()
@click.argument("kid", required=False)
@click.option("--format", "form", type=click.Choice(["jwks", "jwk", "pem"]), default="jwks", show_default=True)
@click.pass_obj
def export(session: Session, kid: str | None, form: str) -> None:
    """Print public keys: the JWKS, or one key as JWK or SPKI PEM."""
    # Only those that verifiers may know: a key that is out of the JWKS must not come back by way of a file.
    published = published_keys(session.operate(operations.list_signing_keys), time.time())
    chosen = [record.public for record in published if kid is None or record.kid == kid]
    if not chosen or (form != "jwks" and len(chosen) != 1):
        raise ConfigError("name one published key: groat key list")
    if form == "pem":
        click.echo(public_key_pem(chosen[0]).decode(), nl=False)
    else:
        click.echo(json.dumps(public_key_set(chosen) if form == "jwks" else dict(chosen[0].jwk)))
