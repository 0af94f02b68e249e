"""What several changes of the registry on PostgreSQL do alike; each inside a transaction that holds its lock."""

import json
from collections.abc import Sequence
from typing import Final

from groat.server.store import StoreConflict
from groat.server.store.postgres.link import Link
from groat.server.store.records import ClientKeyRecord, ClientRecord
from groat.server.store.rows import client_document

NAMES_KEY: Final = "SELECT EXISTS (SELECT FROM used_once WHERE kid = $1) AS named"
LIMIT_KEY: Final = "UPDATE client_keys SET not_before = $1, expires_at = $2 WHERE client_id = $3 AND kid = $4"
# Locks the registry's row before any key's, as every registration does: so neither waits for the other in a circle.
NOTE_USES: Final = """
WITH gate AS (SELECT closed_at FROM registry FOR UPDATE)
UPDATE client_keys AS k SET last_used_at = (n.value->>2)::bigint
FROM gate, json_array_elements($1::json) AS n (value)
WHERE gate.closed_at IS NULL AND k.thumbprint = n.value->>1 AND k.client_id = n.value->>0
    AND coalesce(k.last_used_at, 0) < (n.value->>2)::bigint
"""
EXPIRING: Final = """
SELECT * FROM client_keys WHERE client_id IN (
    SELECT k.client_id FROM client_keys AS k JOIN clients AS c ON c.client_id = k.client_id AND c.enabled
    WHERE k.expires_at >= $1 AND k.expires_at < $2
    GROUP BY k.client_id ORDER BY min(k.expires_at), k.client_id COLLATE "C" LIMIT $3)
ORDER BY client_id COLLATE "C", created_at, kid COLLATE "C"
"""
# Of the form that `client_document` writes, so that the partial index answers; the reader looks once more.
PUBLISHED: Final = """
SELECT * FROM clients WHERE position('"jwks_uri": "' in document) > 0 AND enabled AND removed_at IS NULL
ORDER BY client_id COLLATE "C" LIMIT $1
"""
# One row at least, for the version: without a client in it where none of these is registered. LIMIT 1 is for the
# planner: it thinks that a table nobody has analyzed has hundreds of rows, and compiles the query for 100 ms.
LOOK_UP: Final = """
SELECT r.version AS registry_version, c.*,
       coalesce((SELECT json_agg(k ORDER BY k.created_at, k.kid) FROM client_keys AS k
                 WHERE k.client_id = c.client_id), '[]') AS keys
FROM (SELECT version FROM registry LIMIT 1) AS r
LEFT JOIN (json_array_elements_text($1::json) AS wanted (id)
           JOIN clients AS c ON c.client_id = wanted.id AND c.removed_at IS NULL) ON true
"""


async def refuse_foreign(link: Link, table: str, thumbprint: str) -> None:
    if await link.query(f"SELECT 1 FROM {table} WHERE thumbprint = $1", thumbprint):
        raise StoreConflict("this public key belongs to somebody else already: one key, one owner")


async def _refuse_known(link: Link, key: ClientKeyRecord) -> None:
    own = "SELECT thumbprint FROM client_keys WHERE client_id = $1 AND (kid = $2 OR thumbprint = $3)"
    for row in await link.query(own, key.client_id, key.kid, key.thumbprint):
        what = "this key already" if row["thumbprint"] == key.thumbprint else f"another key with kid {key.kid}"
        raise StoreConflict(f"client {key.client_id} has {what}")


async def insert_client_keys(link: Link, keys: Sequence[ClientKeyRecord]) -> None:
    for key in keys:
        live = "SELECT 1 FROM clients WHERE client_id = $1 AND removed_at IS NULL"
        if not await link.query(live, key.client_id):
            raise StoreConflict(f"client {key.client_id} was removed meanwhile")
        await _refuse_known(link, key)
        await refuse_foreign(link, "client_keys", key.thumbprint)
        await refuse_foreign(link, "signing_keys", key.thumbprint)
        await link.query(
            "INSERT INTO client_keys VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            key.thumbprint, key.client_id, key.kid, key.algorithm, json.dumps(key.jwk), key.created_at,
            key.not_before, key.expires_at, key.last_used_at,
        )  # fmt: skip


async def update_clients(link: Link, clients: Sequence[ClientRecord]) -> None:
    for client in clients:
        # Not `enabled`: whoever read the record before it was switched off must not switch it on again.
        await link.query(
            "UPDATE clients SET document = $1 WHERE client_id = $2", client_document(client), client.client_id
        )
