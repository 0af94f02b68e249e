"""Which engine a storage.url names."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from groat.protocol.errors import ConfigError
from groat.server.config import Config
from groat.server.store import Store
from groat.server.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from groat.server.store.postgres import PostgresStore

Notify = Callable[[str, dict[str, Any]], None]


def silent(event: str, facts: dict[str, Any]) -> None:
    """Tell nobody."""


def open_engine(config: Config, notify: Notify = silent) -> Store:
    """The store that the configuration names; `notify` hears when it goes away and comes back.

    Raises ConfigError, StoreUnavailable. Not checked: whether PostgreSQL answers; it is asked at the first use.
    """
    if config.on_postgres:
        return open_postgres(config, notify)
    return SqliteStore.open(config.database, config["storage.retention"])


def open_postgres(config: Config, notify: Notify = silent) -> "PostgresStore":
    """The store on PostgreSQL, not connected yet. Raises ConfigError without the driver."""
    try:
        from groat.server.store.postgres import PostgresStore
    except ImportError:
        raise ConfigError(
            "storage.url names PostgreSQL, which needs its driver: pip install 'groat[postgres]'"
        ) from None
    return PostgresStore(config["storage.url"], config["storage.retention"], notify)
