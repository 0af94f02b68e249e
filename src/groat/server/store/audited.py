"""What the audit trail says of an object: everything that an operator may set, and nothing that is secret.

An object is named `KIND/NAME` (api/orders, client/billing, key/KID, trust/ci), or `store`. Keys and rules are their
client's: who asks what became of a client finds them in one place. The last use of a key is no change, and left out.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from groat.keys.ring.keyring import SigningKey
from groat.protocol.federation.trust import SourceKind
from groat.server.store import audit_sql as sql
from groat.server.store.audit_trail import Effect, written
from groat.server.store.changes import Transaction
from groat.server.store.records import ApiKeyRecord, ClientKeyRecord, TrustRecord
from groat.server.store.rows import Row, api_key_record, api_record, client_key_record, client_record, signing_key
from groat.server.store.trust_rows import rule_record, trust_record
from groat.server.unavailable import StoreUnavailable

Document = Mapping[str, Any]
Documents = dict[str, Document]
Record = TypeVar("Record")
_AT_A_TIME: Final = 500  # objects of one statement
# What was damaged can be changed and removed all the same.
UNREADABLE: Final[Document] = {"unreadable": True}


async def effects_of(
    transaction: Transaction, objects: Sequence[str], write: Callable[[], Awaitable[None]]
) -> list[Effect]:
    """What this write makes of the objects, in their order; few statements, however many they are."""
    before = await _documents(transaction, objects)
    await write()
    after = await _documents(transaction, objects)
    return [Effect(name, written(before.get(name)), written(after.get(name))) for name in objects]


async def _documents(transaction: Transaction, objects: Iterable[str]) -> Documents:
    named: dict[str, list[str]] = {}
    for name in objects:
        kind, _, rest = name.partition("/")
        named.setdefault(kind, []).append(rest)
    found: Documents = {}
    for kind, names in named.items():
        for start in range(0, len(names), _AT_A_TIME):
            some = names[start : start + _AT_A_TIME]
            documents = await _READERS[kind](transaction, json.dumps(some))
            found |= {f"{kind}/{name}" if name else kind: document for name, document in documents.items()}
    return found


def _shown(read: Callable[[Row], Record], row: Row, show: Callable[[Record], Document]) -> Document:
    try:
        return show(read(row))
    except StoreUnavailable:
        return UNREADABLE


async def _apis(transaction: Transaction, names: str) -> Documents:
    rows = await transaction.rows(sql.APIS_NAMED, names)
    return {row["name"]: _shown(api_record, row, asdict) for row in rows}


async def _apis_with_keys(transaction: Transaction, names: str) -> Documents:
    found = {name: dict(document) for name, document in (await _apis(transaction, names)).items()}
    for row in await transaction.rows(sql.KEYS_OF_APIS_NAMED, names):
        if (api := found.get(row["api"])) is not None:
            api.setdefault("keys", []).append(_shown(api_key_record, row, _api_key))
    return dict(found)


def _api_key(key: ApiKeyRecord) -> Document:
    return {name: value for name, value in asdict(key).items() if name not in ("api", "jwk")}


async def _cuts(transaction: Transaction, names: str) -> Documents:
    rows = await transaction.rows(sql.CUTS_NAMED, names)
    return {f"{row['kind']}/{row['subject']}": {"not_before": row["not_before"]} for row in rows}


async def _tokens(transaction: Transaction, names: str) -> Documents:
    """By the digest of the jti; a few at a time."""
    found: Documents = {}
    for name in json.loads(names):
        for row in await transaction.rows(sql.REVOKED_TOKEN, bytes.fromhex(name)):
            found[name] = {"client_id": row["client_id"], "ends_at": row["ends_at"]}
    return found


async def _clients(transaction: Transaction, names: str) -> Documents:
    rows = await transaction.rows(sql.CLIENTS_NAMED, names)
    found = {row["client_id"]: dict(_shown(client_record, row, lambda one: one.document())) for row in rows}
    for part, statement, show in (("keys", sql.KEYS_OF_NAMED, _key_shown), ("rules", sql.RULES_OF_NAMED, _rule_shown)):
        for row in await transaction.rows(statement, names):
            if (client := found.get(row["client_id"])) is not None:
                client.setdefault(part, []).append(show(row))
    return dict(found)


def _key_shown(row: Row) -> Document:
    return _shown(client_key_record, row, _client_key)


def _client_key(key: ClientKeyRecord) -> Document:
    """The thumbprint says which public key it is (RFC 7638)."""
    return {name: value for name, value in asdict(key).items() if name not in ("client_id", "jwk", "last_used_at")}


def _rule_shown(row: Row) -> Document:
    return _shown(rule_record, row, lambda one: one.document())


async def _signing_keys(transaction: Transaction, names: str) -> Documents:
    rows = await transaction.rows(sql.SIGNING_KEYS_NAMED, names)
    return {row["kid"]: _shown(signing_key, row, _signing_key) for row in rows}


def _signing_key(key: SigningKey) -> Document:
    """`private`: whether the store still holds the sealed private half, of which nothing stands here."""
    instants = {name: getattr(key, name) for name in ("created_at", "activates_at", "retires_at", "removes_at")}
    public = {"kid": key.kid, "alg": key.public.algorithm, "thumbprint": key.public.thumbprint}
    return public | instants | {"private": bool(key.sealed)}


async def _trusts(transaction: Transaction, names: str) -> Documents:
    rows = await transaction.rows(sql.TRUSTS_NAMED, names)
    return {row["name"]: _shown(trust_record, row, _trust) for row in rows}


def _trust(record: TrustRecord) -> Document:
    """A copied key set is named by its hash: another one is another trust."""
    source = record.trust.source
    copied = source.kind is SourceKind.COPIED
    digest = {"key_set_sha256": hashlib.sha256(source.at.encode()).hexdigest()} if copied else {}
    return record.document() | digest


async def _store(transaction: Transaction, _: str) -> Documents:
    """What an operator may change of the store as a whole (`groat store`)."""
    (row,) = await transaction.rows(sql.STORE)
    return {"": store_document(row)}


def store_document(row: Row) -> Document:
    """What `audit_sql.STORE` reads."""
    return {name: row[name] for name in ("floor", "horizon", "closed_at")}


_READERS: Final[Mapping[str, Callable[[Transaction, str], Awaitable[Documents]]]] = {
    "api": _apis_with_keys,
    "client": _clients,
    "cut": _cuts,
    "key": _signing_keys,
    "store": _store,
    "token": _tokens,
    "trust": _trusts,
}
