"""What several changes of the registry on SQLite do alike; each inside a transaction that holds the write lock."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from groat.server.store import StoreConflict
from groat.server.store.records import ClientKeyRecord, ClientRecord
from groat.server.store.rows import client_document

NOTE_USES: Final = """
UPDATE client_keys SET last_used_at = noted.at FROM (
    SELECT json_extract(value, '$[0]') AS client_id, json_extract(value, '$[1]') AS thumbprint,
           json_extract(value, '$[2]') AS at FROM json_each(?)) AS noted
WHERE client_keys.thumbprint = noted.thumbprint AND client_keys.client_id = noted.client_id
    AND coalesce(client_keys.last_used_at, 0) < noted.at AND (SELECT closed_at FROM registry) IS NULL
"""
EXPIRING: Final = """
SELECT * FROM client_keys WHERE client_id IN (
    SELECT k.client_id FROM client_keys AS k JOIN clients AS c ON c.client_id = k.client_id AND c.enabled
    WHERE k.expires_at >= ? AND k.expires_at < ? GROUP BY k.client_id ORDER BY min(k.expires_at), k.client_id LIMIT ?)
ORDER BY client_id, created_at, kid
"""
# Of the form that `client_document` writes, so that the partial index answers; the reader looks once more.
PUBLISHED: Final = """
SELECT * FROM clients WHERE instr(document, '"jwks_uri": "') > 0 AND enabled AND removed_at IS NULL
ORDER BY client_id LIMIT ?
"""


def refuse_foreign(connection: sqlite3.Connection, table: str, thumbprint: str) -> None:
    if connection.execute(f"SELECT 1 FROM {table} WHERE thumbprint = ?", (thumbprint,)).fetchone():
        raise StoreConflict("this public key belongs to somebody else already: one key, one owner")


def _refuse_known(connection: sqlite3.Connection, key: ClientKeyRecord) -> None:
    own = "SELECT thumbprint FROM client_keys WHERE client_id = ? AND (kid = ? OR thumbprint = ?)"
    for (thumbprint,) in connection.execute(own, (key.client_id, key.kid, key.thumbprint)).fetchall():
        what = "this key already" if thumbprint == key.thumbprint else f"another key with kid {key.kid}"
        raise StoreConflict(f"client {key.client_id} has {what}")


def insert_client_keys(connection: sqlite3.Connection, keys: Sequence[ClientKeyRecord]) -> None:
    for key in keys:
        live = "SELECT 1 FROM clients WHERE client_id = ? AND removed_at IS NULL"
        if connection.execute(live, (key.client_id,)).fetchone() is None:
            raise StoreConflict(f"client {key.client_id} was removed meanwhile")
        _refuse_known(connection, key)
        refuse_foreign(connection, "client_keys", key.thumbprint)
        refuse_foreign(connection, "signing_keys", key.thumbprint)
        connection.execute(
            "INSERT INTO client_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key.thumbprint, key.client_id, key.kid, key.algorithm, json.dumps(key.jwk), key.created_at,
             key.not_before, key.expires_at, key.last_used_at),
        )  # fmt: skip


def update_clients(connection: sqlite3.Connection, clients: Sequence[ClientRecord]) -> None:
    for client in clients:
        # Not `enabled`: whoever read the record before it was switched off must not switch it on again.
        connection.execute(
            "UPDATE clients SET document = ? WHERE client_id = ?", (client_document(client), client.client_id)
        )
