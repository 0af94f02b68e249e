"""Stores that forget or misremember, each in the way that real ones do: the checker must catch every one."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import groat.app
from groat.protocol.models import OneTimeValue
from groat.server.settings.config import Config
from groat.server.store import Receipt, Store
from groat.server.store.sqlite.store import SqliteStore

SHORT_LIFE_SECONDS: Final = 0.2


class CheckThenSet(SqliteStore):
    """Looks first and writes later: whoever looks in between gets a token too."""

    async def use_once(self, once: OneTimeValue, *issuance: Any) -> Receipt:
        known = self._all("SELECT 1 FROM used_once WHERE digest = ?", once.digest)
        await asyncio.sleep(0.001)
        receipt = await super().use_once(once, *issuance)
        return Receipt(not known, receipt.registry_version)


class ShortLived(SqliteStore):
    """Forgets a value long before the assertion expires."""

    async def use_once(self, once: OneTimeValue, *issuance: Any) -> Receipt:
        receipt = await super().use_once(once, *issuance)
        asyncio.get_running_loop().call_later(SHORT_LIFE_SECONDS, self._forget, once.digest)
        return receipt

    def _forget(self, digest: bytes) -> None:
        with sqlite3.connect(self.path, timeout=5) as connection:
            connection.execute("DELETE FROM used_once WHERE digest = ?", (digest,))


class MemoryOnly(SqliteStore):
    """Remembers in this process alone, until it ends."""

    async def use_once(self, once: OneTimeValue, *issuance: Any) -> Receipt:
        fresh = once.digest not in _remembered
        _remembered.add(once.digest)
        return Receipt(fresh, await self.registry_version())


_remembered: set[bytes] = set()


class OtherKeyFormat(SqliteStore):
    """Another version's idea of the key of a row: replicas of both versions do not see each other's rows."""

    async def use_once(self, once: OneTimeValue, *issuance: Any) -> Receipt:
        return await super().use_once(replace(once, value=f"v2:{once.value}"), *issuance)


STORES: Final[Mapping[str, type[SqliteStore]]] = MappingProxyType(
    {
        "check-then-set": CheckThenSet,
        "short-lived": ShortLived,
        "memory-only": MemoryOnly,
        "other-key-format": OtherKeyFormat,
    }
)


def install(name: str) -> None:
    """Make `groat serve` of this process use this store. Raises KeyError, AttributeError."""
    broken = STORES[name]
    _replace(groat.app, "open_store", lambda config, *_, **__: _open(broken, config))


def _open(broken: type[SqliteStore], config: Config) -> Store:
    return broken.open(config.database)


def _replace(module: Any, name: str, replacement: Callable[..., Any]) -> None:
    getattr(module, name)  # what is to be replaced must be there
    setattr(module, name, replacement)
