"""What can be changed of the keys that APIs ask with, and what is cut off; as in `changes`."""

import json
from dataclasses import dataclass

from groat.protocol.revocation import Cut, CutKind, RevokedToken, next_cut
from groat.server.store import registry_sql as sql
from groat.server.store.changes import Change, Transaction
from groat.server.store.conflicts import StoreConflict
from groat.server.store.records import ApiKeyRecord

_FOREIGN = "this public key belongs to somebody else already: one key, one owner"


@dataclass(frozen=True, slots=True)
class AddApiKey(Change):
    """One public key, of one owner."""

    key: ApiKeyRecord

    @property
    def object(self) -> str:
        return f"api/{self.key.api}"

    async def write(self, transaction: Transaction) -> None:
        key = self.key
        if not await transaction.rows(sql.FIND_API, key.api):
            raise StoreConflict(f"API {key.api} was removed meanwhile")
        for row in await transaction.rows(sql.API_KEYS_LIKE, key.api, key.kid, key.thumbprint):
            what = "this key already" if row["thumbprint"] == key.thumbprint else f"another key with kid {key.kid}"
            raise StoreConflict(f"API {key.api} has {what}")
        for others in (sql.API_WITH_KEY, sql.CLIENT_WITH_KEY, sql.SIGNING_KEY_LIKE):
            if await transaction.rows(others, key.thumbprint):
                raise StoreConflict(_FOREIGN)
        values = key.thumbprint, key.api, key.kid, key.algorithm, json.dumps(key.jwk), key.created_at
        await transaction.change(sql.ADD_API_KEY, *values)


@dataclass(frozen=True, slots=True)
class RemoveApiKey(Change):
    """Not checked: whether there is such a key."""

    api: str
    kid: str

    @property
    def object(self) -> str:
        return f"api/{self.api}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REMOVE_API_KEY, self.api, self.kid)


@dataclass(frozen=True, slots=True)
class MakeCut(Change):
    """End what was issued before. `now`: epoch seconds; `ahead`: seconds by which some token says to be of later.

    It follows every cut that a token of this subject may have been issued under by a second at least, and so never
    moves back. A client's does not follow those of other clients: many are made at once.
    """

    kind: CutKind
    subject: str
    now: int
    ahead: int = 0

    @property
    def object(self) -> str:
        return f"cut/{self.kind}/{self.subject}"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        (row,) = await transaction.rows(sql.CUT_BEFORE, self.kind, self.subject)
        before = int(row["not_before"])
        cut = Cut(self.kind, self.subject, next_cut(self.now, self.ahead, before), self.now)
        await transaction.change(sql.MAKE_CUT, cut.kind, cut.subject, cut.not_before, cut.made_at)


@dataclass(frozen=True, slots=True)
class TakeBack(Change):
    """One token, by an operator; what a client takes back itself is no change of the registry."""

    token: RevokedToken

    @property
    def object(self) -> str:
        return f"token/{self.token.digest.hex()}"

    @property
    def revokes(self) -> bool:
        return True

    async def write(self, transaction: Transaction) -> None:
        token = self.token
        await transaction.change(sql.REVOKE_TOKEN, *token.row)
