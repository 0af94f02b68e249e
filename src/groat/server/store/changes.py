"""What can be changed in the registry: one value for each kind of change, which knows the statements that it takes.

A value says what is wanted and reads nothing before it is written; `Store.change` writes many of them in one
transaction. Checks that need the tables are made in there, under the lock, where nothing can come between.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from groat.keys.ring.keyring import SigningKey
from groat.protocol.key_limits import KeyLimits
from groat.server.store import registry_sql as sql
from groat.server.store.conflicts import StoreConflict
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.registry_sql import Statement
from groat.server.store.rows import Row, client_document

Value = str | bytes | int | None
_FOREIGN = "this public key belongs to somebody else already: one key, one owner"


class Transaction(Protocol):
    """A transaction that holds the registry: what is read stays so until its end. Raises StoreUnavailable."""

    async def rows(self, statement: Statement, *values: Value) -> Sequence[Row]: ...

    async def change(self, statement: Statement, *values: Value) -> None:
        """Raises Collision for a row that is there already, or that this one refers to and that is missed."""
        ...

    async def take_time(self) -> None:
        """There is so much to do that each step may take a minute."""
        ...


class Change(ABC):
    """One change. `conflict`: what it means that the engine refused one of its statements."""

    __slots__ = ()

    @property
    def revokes(self) -> bool:
        """Whether verifiers have to hear of it."""
        return False

    @property
    def conflict(self) -> str:
        return "the registration collides with another one"

    @property
    @abstractmethod
    def object(self) -> str:
        """What it changes, as the audit trail names it (`audited`)."""

    async def touched(self, transaction: Transaction) -> Sequence[str]:
        """Everything that it changes, asked before it is written."""
        return (self.object,)

    @abstractmethod
    async def write(self, transaction: Transaction) -> None:
        """Raises StoreConflict, Collision; the transaction is rolled back then."""


@dataclass(frozen=True, slots=True)
class AddApi(Change):
    """Nobody may ask for it yet; `ReplaceClient` allows that."""

    api: ApiRecord

    @property
    def object(self) -> str:
        return f"api/{self.api.name}"

    @property
    def conflict(self) -> str:
        return f"an API with name {self.api.name} or audience {self.api.audience} exists"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        api = self.api
        values = api.name, api.audience, json.dumps(api.scopes), api.created_at, api.token_lifetime
        await transaction.change(sql.ADD_API, *values, api.binding, api.status)


@dataclass(frozen=True, slots=True)
class ReplaceApi(Change):
    """Its audience, scopes and lifetime of tokens; clients' grants of it are theirs, and change by `ReplaceClient`."""

    api: ApiRecord

    @property
    def object(self) -> str:
        return f"api/{self.api.name}"

    @property
    def conflict(self) -> str:
        return f"an API with audience {self.api.audience} exists"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        api = self.api
        values = api.audience, json.dumps(api.scopes), api.token_lifetime, api.binding, api.status, api.name
        await transaction.change(sql.REPLACE_API, *values)


@dataclass(frozen=True, slots=True)
class RemoveApi(Change):
    """The API alone: what clients may ask of it goes by `ReplaceClient`, in the same call of `Store.change`."""

    name: str

    @property
    def object(self) -> str:
        return f"api/{self.name}"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REMOVE_KEYS_OF_API, self.name)
        await transaction.change(sql.REMOVE_API, self.name)


@dataclass(frozen=True, slots=True)
class AddClient(Change):
    """Without any key; `AddClientKey` brings them."""

    client: ClientRecord

    @property
    def object(self) -> str:
        return f"client/{self.client.client_id}"

    @property
    def conflict(self) -> str:
        return f"client {self.client.client_id} exists, or existed (ids are never reassigned)"

    async def write(self, transaction: Transaction) -> None:
        new = self.client
        values = new.client_id, client_document(new), new.enabled, new.created_at
        await transaction.change(sql.ADD_CLIENT, *values)


@dataclass(frozen=True, slots=True)
class ReplaceClient(Change):
    """All but `enabled`, which `SwitchClient` alone changes. Not checked: whether there is such a client."""

    client: ClientRecord

    @property
    def object(self) -> str:
        return f"client/{self.client.client_id}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REPLACE_CLIENT, client_document(self.client), self.client.client_id)


@dataclass(frozen=True, slots=True)
class SwitchClient(Change):
    """Decided under whatever version: who switches a client off wants that, and at once. `now`: epoch seconds."""

    client_id: str
    enabled: bool
    now: int

    @property
    def object(self) -> str:
        return f"client/{self.client_id}"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        disabled_at = None if self.enabled else self.now
        await transaction.change(sql.SWITCH_CLIENT, self.enabled, disabled_at, self.client_id)


@dataclass(frozen=True, slots=True)
class RemoveClient(Change):
    """With its rules, and its keys, which others may have from then on; its id stays taken. `now`: epoch seconds."""

    client_id: str
    now: int

    @property
    def object(self) -> str:
        return f"client/{self.client_id}"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        # Gone, and not kept like the client: a public key may be registered by whoever holds its private half.
        await transaction.change(sql.REMOVE_KEYS_OF, self.client_id)
        await transaction.change(sql.REMOVE_RULES_OF, self.client_id)
        await transaction.change(sql.REMOVE_CLIENT, self.now, self.client_id)


@dataclass(frozen=True, slots=True)
class AddClientKey(Change):
    """One public key, one owner: whoever holds its private half is this client and nobody else."""

    key: ClientKeyRecord

    @property
    def object(self) -> str:
        return f"client/{self.key.client_id}"

    async def write(self, transaction: Transaction) -> None:
        await self._check(transaction)
        key = self.key
        await transaction.change(
            sql.ADD_CLIENT_KEY, key.thumbprint, key.client_id, key.kid, key.algorithm, json.dumps(key.jwk),
            key.created_at, key.not_before, key.expires_at, key.last_used_at,
        )  # fmt: skip

    async def _check(self, transaction: Transaction) -> None:
        """In words what the tables would refuse in theirs, and what no constraint knows: an issuer's key."""
        key = self.key
        if not await transaction.rows(sql.FIND_CLIENT, key.client_id):
            raise StoreConflict(f"client {key.client_id} was removed meanwhile")
        for row in await transaction.rows(sql.KEYS_LIKE, key.client_id, key.kid, key.thumbprint):
            what = "this key already" if row["thumbprint"] == key.thumbprint else f"another key with kid {key.kid}"
            raise StoreConflict(f"client {key.client_id} has {what}")
        for others in (sql.CLIENT_WITH_KEY, sql.API_WITH_KEY, sql.SIGNING_KEY_LIKE):
            if await transaction.rows(others, key.thumbprint):
                raise StoreConflict(_FOREIGN)


@dataclass(frozen=True, slots=True)
class LimitClientKey(Change):
    """Both limits at once. Not checked: whether there is such a key."""

    client_id: str
    kid: str
    limits: KeyLimits

    @property
    def object(self) -> str:
        return f"client/{self.client_id}"

    async def write(self, transaction: Transaction) -> None:
        values = self.limits.not_before, self.limits.expires_at, self.client_id, self.kid
        await transaction.change(sql.LIMIT_CLIENT_KEY, *values)


@dataclass(frozen=True, slots=True)
class RemoveClientKey(Change):
    """The client may live on without any. Not checked: whether there is such a key."""

    client_id: str
    kid: str

    @property
    def object(self) -> str:
        return f"client/{self.client_id}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REMOVE_CLIENT_KEY, self.client_id, self.kid)


@dataclass(frozen=True, slots=True)
class SaveSigningKey(Change):
    """Insert it, or replace the one of its kid."""

    key: SigningKey

    @property
    def object(self) -> str:
        return f"key/{self.key.kid}"

    @property
    def conflict(self) -> str:
        return "a signing key must not be a client's key"

    @property
    def revokes(self) -> bool:
        return self.key.revoked

    async def write(self, transaction: Transaction) -> None:
        key, public = self.key, self.key.public
        # A client that holds the private half of a signing key could write tokens for everybody.
        for others in (sql.CLIENT_WITH_KEY, sql.API_WITH_KEY):
            if await transaction.rows(others, public.thumbprint):
                raise StoreConflict(_FOREIGN)
        await transaction.change(
            sql.SAVE_SIGNING_KEY, key.kid, public.thumbprint, json.dumps(dict(public.jwk)), key.sealed,
            key.created_at, key.activates_at, key.retires_at, key.removes_at,
        )  # fmt: skip
