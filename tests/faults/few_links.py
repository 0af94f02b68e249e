"""A replica that lives on two database connections: one for its batches, one for everything else."""

from types import ModuleType
from typing import Final

from groat.server.store.postgres import links as postgres_links
from groat.server.store.postgres import writer as postgres_writer

_LIMITS: Final = ((postgres_links, "MAX_LINKS"), (postgres_writer, "LANES"))


def install(count: str) -> None:
    """Allow so many connections of either kind. Raises AssertionError where that is no restriction."""
    for module, name in _LIMITS:
        _lower(module, name, int(count))


def _lower(module: ModuleType, name: str, limit: int) -> None:
    assert limit < getattr(module, name)
    setattr(module, name, limit)
