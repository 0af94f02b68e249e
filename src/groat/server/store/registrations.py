"""What a store knows of APIs, clients and keys, and how that changes: written once, over whatever engine.

An engine brings what is abstract here, with its own connections, locks and errors behind it; what is said to it stands
in `registry_sql`, what is wanted of it in `changes`. Single use is no part of this.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Protocol

from groat.keys.ring.keyring import SigningKey
from groat.protocol.revocation import Cut, RevokedToken
from groat.server.store import (
    TABLES,
    ApiWithKeys,
    ClientWithKeys,
    RegistryMoved,
    Rows,
    StoreClosed,
    StoreConflict,
    StoreUnavailable,
    audit_sql,
)
from groat.server.store import registry_sql as sql
from groat.server.store.audit_trail import AuditRow, Deed, Effect, append, audit_row, written
from groat.server.store.audited import effects_of
from groat.server.store.changes import Change, Transaction, Value
from groat.server.store.conflicts import Collision
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord, ListRecord, RuleRecord, TrustRecord
from groat.server.store.registry_sql import Statement, alike
from groat.server.store.rows import (
    Row,
    api_key_record,
    api_record,
    client_key_record,
    client_record,
    cut,
    published_at,
    revoked_token,
    signing_key,
    status_list,
    unused_since,
)
from groat.server.store.trust_rows import rule_record, trust_record

MAX_SEQUENCE: Final = 2**63 - 1
FORGET_ROWS: Final = 10_000  # of the audit trail, at a time


_MANY: Final = 3  # what a person changes at a time is less, and a bulk stands for hundreds


class Filling(Transaction, Protocol):
    """A transaction in which nobody else writes anything, used values included, for as long as it takes."""

    async def insert(self, table: str, rows: Rows) -> None:
        """Raises Collision."""
        ...


class Registrations(ABC):
    """The registry's half of a `Store`."""

    @abstractmethod
    async def _rows(self, statement: Statement, *values: Value) -> Sequence[Row]:
        """One statement by itself. Raises StoreUnavailable."""

    @abstractmethod
    def _transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """All or nothing: committed where the block ends, rolled back where it raises. Raises StoreUnavailable."""

    @abstractmethod
    def _filling(self) -> AbstractAsyncContextManager[Filling]:
        """The same, with everybody else kept out."""

    @abstractmethod
    def _shutting(self) -> AbstractAsyncContextManager[Transaction]:
        """The same, with no use of a value under way that could still succeed."""

    @abstractmethod
    async def registry_version(self) -> int:
        """As in `Store`."""

    @abstractmethod
    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        """As in `Store`. Each engine has its own way to read both at one moment, in as few steps as it can."""

    # Reading

    async def find_client(self, client_id: str) -> ClientRecord | None:
        _, found = await self.look_up(client_id)
        return found[0] if found else None

    async def client_keys(self, client_id: str) -> tuple[ClientKeyRecord, ...]:
        _, found = await self.look_up(client_id)
        return found[1] if found else ()

    async def keys_of_expiring(self, after: int, before: int, clients: int) -> tuple[ClientKeyRecord, ...]:
        return tuple(map(client_key_record, await self._rows(sql.KEYS_OF_EXPIRING, after, before, clients)))

    async def list_clients(self) -> tuple[ClientRecord, ...]:
        return tuple(map(client_record, await self._rows(sql.LIST_CLIENTS)))

    async def clients_behind(self, client_id: str, limit: int) -> tuple[ClientRecord, ...]:
        return tuple(map(client_record, await self._rows(sql.CLIENTS_BEHIND, client_id, limit)))

    async def count_clients(self) -> tuple[int, int]:
        (row,) = await self._rows(sql.COUNT_CLIENTS)
        return row["clients"], row["disabled"]

    async def unused_since(self, behind: str = "", until: str | None = None) -> dict[str, int]:
        part = (sql.USES_OF_CLIENTS,) if until is None else (sql.USES_BETWEEN, behind, until)
        return {row["client_id"]: unused_since(row) for row in await self._rows(*part)}

    async def published_at(self, limit: int) -> tuple[str, ...]:
        return published_at(await self._rows(sql.PUBLISHED, limit))

    async def list_apis(self) -> tuple[ApiRecord, ...]:
        return tuple(map(api_record, await self._rows(sql.LIST_APIS)))

    async def signing_keys(self) -> tuple[SigningKey, ...]:
        return tuple(map(signing_key, await self._rows(sql.SIGNING_KEYS)))

    async def list_trusts(self) -> tuple[TrustRecord, ...]:
        return tuple(map(trust_record, await self._rows(sql.LIST_TRUSTS)))

    async def rules_of(self, *, trust: str = "", client_id: str = "") -> tuple[RuleRecord, ...]:
        chosen = (sql.RULES_OF_TRUST, trust) if trust else (sql.RULES_OF_CLIENT, client_id)
        return tuple(map(rule_record, await self._rows(*chosen)))

    async def rules_found_by(self, trust: str, keys: Sequence[str]) -> tuple[RuleRecord, ...]:
        return tuple(map(rule_record, await self._rows(sql.RULES_FOUND_BY, trust, json.dumps(keys))))

    async def audit_rows(self, *, limit: int, before: int | None = None) -> tuple[AuditRow, ...]:
        rows = await self._rows(audit_sql.BACKWARDS, MAX_SEQUENCE if before is None else before, limit)
        return tuple(map(audit_row, rows))

    async def audit_rows_after(self, seq: int, limit: int) -> tuple[AuditRow, ...]:
        return tuple(map(audit_row, await self._rows(audit_sql.FORWARDS, seq, limit)))

    async def look_up_api(self, name: str) -> tuple[int, ApiWithKeys | None]:
        version = await self.registry_version()  # first: what is read after it is as new at least
        found = await self._rows(sql.FIND_API, name)
        if not found:
            return version, None
        return version, (api_record(found[0]), tuple(map(api_key_record, await self._rows(sql.KEYS_OF_API, name))))

    async def cuts(self) -> tuple[Cut, ...]:
        return tuple(map(cut, await self._rows(sql.CUTS)))

    async def revocation_seq(self) -> int:
        rows = await self._rows(sql.SEQ)
        if not rows:
            raise StoreUnavailable("the store has no number of its revocations: it was restored in part only")
        return int(rows[0]["seq"])

    async def taken_back(self, after: int) -> tuple[RevokedToken, ...]:
        return tuple(map(revoked_token, await self._rows(sql.TAKEN_BACK, after)))

    async def disabled_since(self, since: int) -> dict[str, bool]:
        return {row["client_id"]: bool(row["removed"]) for row in await self._rows(sql.DISABLED_SINCE, since)}

    async def status_lists(self, after: int) -> tuple[ListRecord, ...]:
        return tuple(map(status_list, await self._rows(sql.LISTS, after)))

    async def is_revoked(self, digest: bytes) -> tuple[int, bool]:
        rows = await self._rows(sql.IS_REVOKED, digest)
        if not rows:
            raise StoreUnavailable("the registry is empty: this store was restored in part only")
        return int(rows[0]["version"]), bool(rows[0]["revoked"])

    # Changing

    async def change(self, deed: Deed, seen: int | None, many: Sequence[Change]) -> range:
        async with self._transaction() as transaction:
            held = await _check(transaction, seen)
            if len(many) > _MANY:
                await transaction.take_time()
            touched = [name for change in many for name in await change.touched(transaction)]
            write = partial(write_all, transaction, many, deed.at)
            effects = await effects_of(transaction, tuple(dict.fromkeys(touched)), write)
            return await append(transaction, deed, effects, held["version"] + 1, held["horizon"])

    async def record(self, deed: Deed, effect: Effect) -> range:
        async with self._transaction() as transaction:
            held = await _check(transaction, None)
            return await append(transaction, deed, [effect], held["version"], held["horizon"])

    async def forget_audit(self, deed: Deed, cutoff: int) -> tuple[int, range]:
        async with self._transaction() as transaction:
            held = await _check(transaction, None)
            oldest = await transaction.rows(audit_sql.FORWARDS, 0, 1)
            kept = await transaction.rows(audit_sql.FIRST_SINCE, cutoff)
            first = oldest[0]["seq"] if oldest else 0
            end = min(kept[0]["seq"] if kept else MAX_SEQUENCE, first + FORGET_ROWS)
            going = await transaction.rows(audit_sql.BACKWARDS, end, 1)
            if not going or going[0]["seq"] < first:
                return 0, range(0)
            last = audit_row(going[0])
            effect = Effect("audit", written({"first": first}), written({"through": last.seq, "hash": last.hash}))
            # Before the others go: it names the newest of all, which may be one of them.
            rows = await append(transaction, deed, [effect], held["version"], held["horizon"])
            await transaction.change(audit_sql.FORGET_THROUGH, last.seq)
            return last.seq - first + 1, rows

    # As a whole

    async def raise_floor(self, deed: Deed, floor: int) -> range:
        async with self._transaction() as transaction:
            return await change_whole(transaction, deed, sql.RAISE_FLOOR, floor)

    async def lower_horizon(self, deed: Deed, horizon: int, floor: int) -> range:
        async with self._transaction() as transaction:
            return await change_whole(transaction, deed, sql.LOWER_HORIZON, horizon, floor)

    async def shut(self, deed: Deed, at: int | None) -> range:
        async with self._shutting() as transaction:
            return await change_whole(transaction, deed, sql.CLOSE, at)

    async def fill(
        self, deed: Deed, contents: AsyncIterator[tuple[str, Rows]], version: int, floor: int, horizon: int = 0
    ) -> range:
        async with self._filling() as filling:
            for table in TABLES:
                if await filling.rows(alike(f"SELECT 1 AS found FROM {table} LIMIT 1")):
                    raise StoreConflict(f"the target is not empty: it has {table}")
            try:
                async for table, rows in contents:
                    await filling.insert(known_table(table), rows)
            except Collision as error:
                raise StoreConflict(f"the contents do not fit: {error}") from None
            return await change_whole(filling, deed, sql.TAKE_OVER, version, floor, horizon)


async def _hold(transaction: Transaction) -> Row:
    """Take hold of the registry, before anything else is read or locked."""
    rows = await transaction.rows(sql.IN_FORCE)
    if not rows:
        raise StoreUnavailable("the registry is empty: this store was restored in part only")
    return rows[0]


async def _check(transaction: Transaction, seen: int | None) -> Row:
    """Take hold of a registry that may be changed, and return what is in force. Raises StoreClosed, RegistryMoved."""
    held = await _hold(transaction)
    if held["closed_at"] is not None:
        raise StoreClosed
    # What was decided on what is no longer so must be decided anew.
    if seen is not None and held["version"] != seen:
        raise RegistryMoved("the registry was changed meanwhile; nothing was done. Try again")
    return held


async def write_all(transaction: Transaction, many: Sequence[Change], now: int) -> None:
    """Make these changes, in this order, and raise the version. Raises StoreConflict, which says what collides.

    `now`: epoch seconds.
    """
    for change in many:
        try:
            await change.write(transaction)
        except Collision:
            raise StoreConflict(change.conflict) from None
    # In the same transaction, so that no server can miss it; once, so that each reads once.
    await transaction.change(sql.RAISE_VERSION)
    if any(change.revokes for change in many):
        await transaction.change(sql.RAISE_SEQ, now * 1000)


async def change_whole(transaction: Transaction, deed: Deed, statement: Statement, *values: Value) -> range:
    """Change the store as a whole, closed or not, with its row in the audit trail."""
    await _hold(transaction)
    effects = await effects_of(transaction, ["store"], partial(transaction.change, statement, *values))
    await transaction.change(sql.RAISE_SEQ, deed.at * 1000)  # beyond that of the store that this one goes on from
    now = await _hold(transaction)
    return await append(transaction, deed, effects, now["version"], now["horizon"])


def known_table(table: str) -> str:
    """Raises StoreConflict for a name that is none of TABLES, before it gets into a statement."""
    if table not in TABLES:
        raise StoreConflict(f"no table {table}")
    return table
