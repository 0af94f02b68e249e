"""Which engine a storage.url names."""

from pathlib import Path
from typing import TYPE_CHECKING

from groat.protocol.errors import ConfigError
from groat.server.settings.config import Config
from groat.server.store import OPERATOR_PATIENCE, Notify, Spans, Store, silent
from groat.server.store.sqlite.store import SqliteStore
from groat.server.store.url import POSTGRES_SCHEMES, postgres_url_fault
from groat.server.turns import Turns

if TYPE_CHECKING:
    from groat.server.store.postgres.store import PostgresStore


def open_engine(config: Config, notify: Notify = silent, patience: int = 1, turns: Turns | None = None) -> Store:
    """The store that the configuration names; `notify` hears when it goes away and comes back.

    `patience`: how many times as long as a token request everything may take; `turns`: where its requests wait for each
    other.

    Raises ConfigError, StoreUnavailable. Not checked: whether PostgreSQL answers; it is asked at the first use.
    """
    store: SqliteStore | PostgresStore
    if config.storage.on_postgres:
        store = open_postgres(config, notify, patience)
    else:
        store = SqliteStore.open(config.database, config.storage.retention, notify)
    if turns is not None:
        store.wait_for(turns)
    return store


def open_postgres(config: Config, notify: Notify = silent, patience: int = 1) -> "PostgresStore":
    """The store on PostgreSQL, not connected yet. Raises ConfigError without the driver."""
    spans = Spans(config.storage.retention, config.policy.clock_tolerance)
    return _postgres()(config.storage.url, spans, notify, patience=patience)


def open_url(url: str, directory: Path) -> Store:
    """An existing store by its URL; a relative file is looked for in `directory`. Raises as `open_engine` does."""
    if url.startswith(POSTGRES_SCHEMES):
        return _postgres()(_unambiguous(url), patience=OPERATOR_PATIENCE)
    return SqliteStore.open(directory / _file_of(url))


async def create_url(url: str, directory: Path) -> Store:
    """A store by its URL, made or brought up to date where that is needed."""
    if url.startswith(POSTGRES_SCHEMES):
        return await _postgres().create(_unambiguous(url))
    return SqliteStore.create(directory / _file_of(url))


def _unambiguous(url: str) -> str:
    if fault := postgres_url_fault(url):
        raise ConfigError(fault)
    return url


def _file_of(url: str) -> str:
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        raise ConfigError("a store is named by sqlite:///PATH or postgresql://USER@HOST/DATABASE")
    return url.removeprefix("sqlite:///")


def _postgres() -> "type[PostgresStore]":
    try:
        from groat.server.store.postgres.store import PostgresStore
    except ImportError:
        raise ConfigError("PostgreSQL needs its driver: pip install 'groat[postgres]'") from None
    return PostgresStore
