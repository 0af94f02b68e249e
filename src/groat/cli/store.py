"""`groat store`: the store as a whole."""

import asyncio
from pathlib import Path

import click

from groat.cli.session import Session
from groat.protocol.errors import ConfigError
from groat.server import store_operations
from groat.server.config import POSTGRES_SCHEMES, url_without_password
from groat.server.store_operations import Copied


@click.group()
def store() -> None:
    """The store: look at it, fence it after a restore, move it to another engine."""


@store.command()
@click.pass_obj
def show(session: Session) -> None:
    """Whether the store answers, the version of its registry, its floor, and how far its clock is ahead."""
    condition = session.operate(store_operations.look_at_store)
    session.show(condition, str(condition.registry_version))


@store.command()
@click.pass_obj
def fence(session: Session) -> None:
    """After a restore: refuse every assertion signed up to now, because the store may not know that it was used."""
    condition = session.operate(store_operations.fence_store)
    session.show(condition, str(condition.floor))


@store.command()
@click.pass_obj
def reopen(session: Session) -> None:
    """Take up a store again that was closed for a copy; never while the copy is in use."""
    session.confirm("Is the copy unused? Two stores in use at once accept each assertion twice.")
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
    from groat.server.audit import Audit
    from groat.server.operations import Operator
    from groat.server.store.engines import create_url, open_url

    config = session.config()
    old = open_url(source, config.directory)
    try:
        new = await create_url(target, config.directory)
        try:
            return await store_operations.copy_store(Operator(old, config.policy, Audit(session.log())), new)
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
