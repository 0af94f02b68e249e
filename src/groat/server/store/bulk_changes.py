"""Changes of many clients by few statements: what one by one would hold a registry for minutes takes a moment.

Only for changes that were tried on a copy of the registry (`Draft`), under the version that the copy is of: what
`AddClientKey` asks of the tables before it writes was asked there. The tables' own constraints hold all the same.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from groat.server.store import registry_sql as sql
from groat.server.store.changes import AddClient, AddClientKey, Change, ReplaceClient, Transaction
from groat.server.store.records import ClientKeyRecord, ClientRecord
from groat.server.store.registry_sql import Statement
from groat.server.store.rows import client_document

PORTION: Final = 500  # objects of one statement
_KEY: Final = tuple(field.name for field in fields(ClientKeyRecord))


@dataclass(frozen=True, slots=True)
class _OfClients(Change):
    """Some clients, by one statement whose only value is a JSON array of rows."""

    clients: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def object(self) -> str:
        return f"client/{self.clients[0]}"

    async def touched(self, transaction: Transaction) -> Sequence[str]:
        return [f"client/{name}" for name in self.clients]

    async def _write(self, transaction: Transaction, statement: Statement) -> None:
        await transaction.change(statement, json.dumps(self.rows))


class AddClients(_OfClients):
    """As `AddClient`, for each."""

    async def write(self, transaction: Transaction) -> None:
        await self._write(transaction, sql.ADD_CLIENTS)


class AddClientKeys(_OfClients):
    """As `AddClientKey`, for each, without its questions."""

    async def write(self, transaction: Transaction) -> None:
        await self._write(transaction, sql.ADD_CLIENT_KEYS)


class ReplaceClients(_OfClients):
    """As `ReplaceClient`, for each; each client once."""

    async def write(self, transaction: Transaction) -> None:
        await self._write(transaction, sql.REPLACE_CLIENTS)


def gathered(many: Sequence[Change]) -> list[Change]:
    """The same changes by fewer values: among neighbours that add, clients come before keys; no other one moves."""
    found: list[Change] = []
    clients: list[ClientRecord] = []
    keys: list[ClientKeyRecord] = []
    replaced: dict[str, ClientRecord] = {}
    for change in [*many, None]:
        adds = isinstance(change, (AddClient, AddClientKey))
        if not adds:
            found += [*_add_clients(clients), *_add_keys(keys)]
            clients, keys = [], []
        if not isinstance(change, ReplaceClient):
            found += _replace(list(replaced.values()))
            replaced = {}
        if isinstance(change, AddClient):
            clients.append(change.client)
        elif isinstance(change, AddClientKey):
            keys.append(change.key)
        elif isinstance(change, ReplaceClient):
            replaced[change.client.client_id] = change.client
        elif change is not None:
            found.append(change)
    return found


def _portions(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (records[start : start + PORTION] for start in range(0, len(records), PORTION))


def _add_clients(records: Sequence[ClientRecord]) -> Iterator[Change]:
    for some in _portions(records):
        rows = [
            {"client_id": one.client_id, "document": client_document(one), "enabled": one.enabled,
             "created_at": one.created_at}
            for one in some
        ]  # fmt: skip
        yield AddClients(tuple(one.client_id for one in some), tuple(rows))


def _add_keys(records: Sequence[ClientKeyRecord]) -> Iterator[Change]:
    for some in _portions(records):
        rows = [{name: getattr(one, name) for name in _KEY} | {"jwk": json.dumps(one.jwk)} for one in some]
        yield AddClientKeys(tuple(dict.fromkeys(one.client_id for one in some)), tuple(rows))


def _replace(records: Sequence[ClientRecord]) -> Iterator[Change]:
    for some in _portions(records):
        rows = [{"client_id": one.client_id, "document": client_document(one)} for one in some]
        yield ReplaceClients(tuple(one.client_id for one in some), tuple(rows))
