"""`groat client key`: the public keys of a client, from when to when they count, and which of them may go."""

import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from groat.cli.commands.enrolment import rotate
from groat.cli.consequences import DRY_RUN, show_done, show_dry_run
from groat.cli.instants import from_now, when
from groat.cli.session import Session
from groat.keys import files
from groat.keys.client_keys import ClientKeyState
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.key_limits import KeyLimits, LimitsChange
from groat.protocol.unset import UNSET, Unset
from groat.server import operations
from groat.server.operations.client_keys import describe_client_keys
from groat.server.store.records import ClientKeyRecord

if TYPE_CHECKING:
    from groat.server.settings.slices import ClientKeys

COLUMNS: Final = ("kid", "algorithm", "state", "added", "last_used", "safe_to_remove", "why")
_FILE = click.Path(path_type=Path)
_NOT_BEFORE = click.option("--not-before", type=when, metavar="WHEN", help="It counts from then on: a date, or 90d.")
_EXPIRES = click.option("--expires", "expires_at", type=when, metavar="WHEN", help="It counts until then.")
_LIMITS: Final = {"not-before": "not_before", "expires": "expires_at"}
_FORCE = click.option("--force", is_flag=True, help="Even if the client has no other valid key.")


@click.group("key")
def client_key() -> None:
    """The public keys of a client."""


client_key.add_command(rotate)


@client_key.command("add")
@click.argument("client_id")
@click.argument("file", type=_FILE)
@click.option("--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm, where the file does not say.")
@_NOT_BEFORE
@_EXPIRES
@click.pass_obj
def add(
    session: Session, client_id: str, file: Path, alg: str | None, not_before: int | None, expires_at: int | None
) -> None:
    """Register a further public key (JWK, JWKS or SPKI PEM)."""
    keys, limits = files.read_public_keys(file, alg), KeyLimits(not_before, expires_at)
    records = session.operate(
        lambda operator: operations.add_client_keys(operator, client_id, keys, limits), dated=True
    )
    session.show_list(records, ("kid", "algorithm", "created_at", "not_before", "expires_at"), "kid")


@client_key.command("list")
@click.argument("client_id", required=False)
@click.option("--all", "everybody", is_flag=True, help="The keys of all clients.")
@click.option("--expiring", is_flag=True, help="Only those that expire soon (clients.key_warning), or have.")
@click.pass_obj
def list_(session: Session, client_id: str | None, everybody: bool, expiring: bool) -> None:
    """List public keys, what state each is in, when it was last used, and whether it may be removed."""
    if (client_id is None) != everybody:
        raise click.UsageError("give either a client id or --all")
    config, now = session.config(), time.time()
    if client_id is None:
        records = session.operate(operations.list_all_client_keys)
    else:
        records = session.operate(lambda operator: operations.list_client_keys(operator, client_id))
    documents = _documents(records, config.client_keys, now)
    if expiring:
        soon = (ClientKeyState.EXPIRING, ClientKeyState.EXPIRED)
        documents = [document for document in documents if document["state"] in soon]
    rows = documents if session.as_json else [_for_people(document, now) for document in documents]
    session.show_list(rows, COLUMNS if client_id is not None else ("client_id", *COLUMNS), "kid")


def _documents(records: Iterable[ClientKeyRecord], spans: "ClientKeys", now: float) -> list[dict[str, Any]]:
    """Every key with its state and the verdict on its removal; `records` client by client."""
    groups = [list(group) for _, group in groupby(records, key=lambda record: record.client_id)]
    return [one for keys in groups for one in describe_client_keys(keys, now, spans.key_idle, spans.key_warning)]


def _for_people(document: dict[str, Any], now: float) -> dict[str, Any]:
    state, not_before, expires_at = document["state"], document["not_before"], document["expires_at"]
    words = {
        ClientKeyState.NOT_YET_VALID: f"valid {from_now(not_before, now)}",
        ClientKeyState.VALID: "valid",
        ClientKeyState.EXPIRING: f"expires {from_now(expires_at, now)}",
        ClientKeyState.EXPIRED: f"expired {from_now(expires_at, now)}",
    }
    added, used = from_now(document["created_at"], now), from_now(document["last_used_at"], now, "never")
    return {**document, "state": words[state], "added": added, "last_used": used}


@client_key.command("update")
@click.argument("client_id")
@click.argument("kid")
@_NOT_BEFORE
@_EXPIRES
@click.option("--clear", multiple=True, type=click.Choice(list(_LIMITS)), help="Take a limit away.")
@_FORCE
@click.pass_obj
def update(
    session: Session,
    client_id: str,
    kid: str,
    not_before: int | None,
    expires_at: int | None,
    clear: tuple[str, ...],
    force: bool,
) -> None:
    """Change from when to when a key counts, with effect on the next request."""
    change = LimitsChange(_wished("not-before", not_before, clear), _wished("expires", expires_at, clear))
    if change == LimitsChange():
        raise click.UsageError("say --not-before, --expires or --clear")
    record = session.operate(
        lambda operator: operations.update_client_key(operator, client_id, kid, change, force=force),
        dated=True,
    )
    session.show(record, kid)


def _wished(name: str, at: int | None, clear: Sequence[str]) -> int | Unset | None:
    """What becomes of one limit. Raises UsageError where it is set and cleared at once."""
    if name not in clear:
        return UNSET if at is None else at
    if at is not None:
        raise click.UsageError(f"--clear and a new value for {_LIMITS[name]}: say one of them")
    return None


@client_key.command("remove")
@click.argument("client_id")
@click.argument("kid")
@_FORCE
@DRY_RUN
@click.pass_obj
def remove(session: Session, client_id: str, kid: str, force: bool, dry_run: bool) -> None:
    """Remove a public key, with effect on the next request; the only valid one needs --force."""
    idle = session.config().client_keys.key_idle
    plan = session.operate(lambda operator: operations.plan_client_key_removal(operator, client_id, kid, idle))
    if dry_run:
        facts = {"client_id": client_id, "kid": kid, "safe_to_remove": plan.verdict.safe, "why": plan.verdict.why}
        show_dry_run(session, facts, plan.losses, changes=True)
    verdict = session.operate(
        lambda operator: operations.remove_client_key(operator, client_id, kid, force=force, idle=idle)
    )
    show_done(session, {"client_id": client_id, "kid": kid, "outcome": "removed"}, kid, plan.losses)
    if not verdict.safe:
        session.note(f"nobody could tell that it was not needed any more ({verdict.why})")
    if rules := session.operate(lambda operator: operations.list_rules(operator, client_id)):
        trusts = ", ".join(sorted({one.rule.trust for one in rules}))
        session.note(f"workloads are this client still, by rules about {trusts}: groat client trust list {client_id}")
