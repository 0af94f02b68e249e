"""`groat store`: the store as a whole."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from groat.cli.actor import who_runs
from groat.cli.session import Exit, Session
from groat.keys.files import make_private_directory
from groat.protocol.errors import ConfigError
from groat.protocol.shell import shell_word
from groat.server.operations import store as store_operations
from groat.server.operations.clock import check_clock
from groat.server.operations.store import Copied
from groat.server.store.sqlite.backup import check_backup, differences, refuse_root_among_others
from groat.server.store.sqlite.store import SqliteStore
from groat.server.store.url import POSTGRES_SCHEMES, url_without_password

if TYPE_CHECKING:
    from groat.server.settings.config import Config

MAX_SHOWN: Final = 20


@click.group()
def store() -> None:
    """The store: look at it, back it up and restore it, fence it, move it to another engine."""


@store.command()
@click.pass_obj
def show(session: Session) -> None:
    """Whether the store answers and takes writes, its registry's version, its floor, how far its clock is ahead."""
    condition = session.operate(store_operations.look_at_store)
    session.show(condition, str(condition.registry_version))
    if condition.write_fault is not None:
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


@store.command()
@click.option(
    "--clock-was-ahead", is_flag=True, help="A wrong clock had its way: what the store has seen of later times is void."
)
@click.pass_obj
def fence(session: Session, clock_was_ahead: bool) -> None:
    """After a restore: refuse every assertion signed up to now, because the store may not know that it was used."""
    if clock_was_ahead:
        session.confirm("Is this host's clock right, and no server running? They would go by the time that was wrong.")
        condition = session.operate(store_operations.take_back_horizon)
    else:
        _ask_about_time(session)
        condition = session.operate(store_operations.fence_store)
    session.show(condition, str(condition.floor))


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(session: Session, file: Path) -> None:
    """Write a consistent copy of the SQLite store to FILE, a new file of mode 0600, also while servers run."""
    config = session.config()
    if config.storage.on_postgres:
        raise ConfigError(f"the store is on PostgreSQL: {_pg('pg_dump --format=custom --file', file, config)}")
    done = session.operate(lambda operator: store_operations.backup_store(operator, file))
    session.show(done, str(file))
    key = config.key_files.encryption_key_file
    session.note(f"the signing keys in it are sealed by {key}: keep a copy of that too, but elsewhere")


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def restore(session: Session, file: Path) -> None:
    """Put a backup in the place of the store's contents, and refuse every assertion signed up to now (see fence)."""
    config = session.config()
    if config.storage.on_postgres:
        way = _pg("pg_restore --clean --if-exists --no-owner", file, config)
        raise ConfigError(f"the store is on PostgreSQL: stop the servers, then: {way}; then: groat store fence")
    check_backup(file)
    if os.path.lexists(config.database):
        _ask_to_replace(session, config.database, file)
        _ask_about_time(session)
    else:
        make_private_directory(config.database.parent)
        refuse_root_among_others(config.database.parent)
        SqliteStore.create(config.database)
    condition = session.operate(lambda operator: store_operations.restore_store(operator, file))
    session.show(condition, str(condition.registry_version))
    session.note("next: groat config check (its signing keys need the key-encryption key of that time)")


def _ask_about_time(session: Session) -> None:
    """A floor never goes down: by a clock that is ahead it would refuse everybody until that time has come."""
    if doubt := session.operate(lambda operator: check_clock(operator.store)):
        session.confirm(f"{doubt[0].upper()}{doubt[1:]}. Is the clock of this host right?")


def _ask_to_replace(session: Session, database: Path, file: Path) -> None:
    changes = differences(database, file)
    more = [f"and {len(changes) - MAX_SHOWN} more"] if len(changes) > MAX_SHOWN else []
    session.confirm(f"{database} exists. Replace what it holds by {file}?", [*changes[:MAX_SHOWN], *more])


def _pg(program: str, file: Path, config: "Config") -> str:
    """The command that does it there; passwords are left to the client's own ways."""
    url = url_without_password(config.storage.url)
    dump = program.startswith("pg_dump")
    return (
        f"{program} {shell_word(str(file))} {shell_word(url)}"
        if dump
        else (f"{program} --dbname {shell_word(url)} {shell_word(str(file))}")
    )


@store.command()
@click.pass_obj
def reopen(session: Session) -> None:
    """Take up a store again that was closed for a copy; never while the copy is in use."""
    session.confirm("Is the copy unused? Two stores in use at once accept each assertion twice.")
    _ask_about_time(session)
    condition = session.operate(store_operations.reopen_store)
    session.show(condition, str(condition.registry_version))


@store.command()
@click.argument("source")
@click.argument("target")
@click.pass_obj
def copy(session: Session, source: str, target: str) -> None:
    """Close SOURCE for good and move everything to TARGET, an empty store that is made if need be.

    Each is a URL without password (sqlite:///PATH, postgresql://USER@HOST/DATABASE), or a file that holds a URL.
    """
    session.confirm("Servers on the source answer 503 from now on. Go on?")
    copied = asyncio.run(_copy(session, _url(source), _url(target)))
    session.show(copied.rows, str(sum(copied.rows.values())))
    session.note("next: set storage.url to the target and start the servers; the source stays closed")


async def _copy(session: Session, source: str, target: str) -> Copied:
    from groat.server.log.audit import Audit
    from groat.server.operations import Operator
    from groat.server.settings.engines import create_url, open_url

    config = session.config()
    old = open_url(source, config.directory)
    try:
        new = await create_url(target, config.directory)
        try:
            operator = Operator(old, config.policy, Audit(session.log()), actor=who_runs())
            return await store_operations.copy_store(operator, new)
        finally:
            await new.close()
    finally:
        await old.close()


def _url(text: str) -> str:
    """The URL itself, or what the file says."""
    if "://" not in text:
        try:
            return Path(text).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{text} is neither a URL nor a file that holds one: {error}") from None
    if text.startswith(POSTGRES_SCHEMES) and url_without_password(text) != text:
        raise ConfigError("a URL on the command line must not hold a password; write it to a file and name the file")
    return text
