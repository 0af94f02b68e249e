"""Every statement about the audit trail, and those that read what is about to change; as in `registry_sql`.

Texts of rows come as bytes from SQLite: one that was damaged must not keep the others from being read.
"""

from typing import Final

from groat.server.store.registry_sql import Statement, alike

_TEXTS: Final = ("actor", "face", "operation", "object", "before", "after", "previous", "hash")
_AS_BYTES: Final = ", ".join(f"CAST({name} AS BLOB) AS {name}" for name in _TEXTS)
_COLUMNS: Final = "seq, at, actor, face, operation, object, before, after, registry_version, previous, hash"


def _reading(rest: str) -> Statement:
    derived = alike(rest)
    return Statement(
        postgres=f"SELECT * FROM audit {derived.postgres}",
        sqlite=f"SELECT seq, at, registry_version, {_AS_BYTES} FROM audit {derived.sqlite}",
    )


TAIL: Final = _reading("ORDER BY seq DESC LIMIT 1")
# From the newest to the oldest, and the other way: rows before or after this number, so many at most.
BACKWARDS: Final = _reading("WHERE seq < $1 ORDER BY seq DESC LIMIT $2")
FORWARDS: Final = _reading("WHERE seq > $1 ORDER BY seq LIMIT $2")
# The oldest row that is not older than this instant: whatever its date, none after it goes.
FIRST_SINCE: Final = alike("SELECT seq FROM audit WHERE at >= $1 ORDER BY seq LIMIT 1")
FORGET_THROUGH: Final = alike("DELETE FROM audit WHERE seq <= $1")
APPEND: Final = Statement(
    postgres="INSERT INTO audit SELECT * FROM json_populate_recordset(NULL::audit, $1::json)",
    sqlite=f"INSERT INTO audit ({_COLUMNS}) SELECT "
    + ", ".join(f"json_extract(value, '$.{name}')" for name in _COLUMNS.split(", "))
    + " FROM json_each(?1)",
)

# The client ids that rules of this trust are about.
CLIENTS_OF_TRUST: Final = alike("SELECT DISTINCT client_id FROM trust_rules WHERE trust = $1")

# What stands of the objects of a change, by a JSON array of their names.


def _among(text: str) -> Statement:
    return Statement(
        postgres=text.format("(SELECT json_array_elements_text($1::json))"),
        sqlite=alike(text.format("(SELECT value FROM json_each($1))")).sqlite,
    )


APIS_NAMED: Final = _among("SELECT * FROM apis WHERE name IN {}")
KEYS_OF_APIS_NAMED: Final = _among('SELECT * FROM api_keys WHERE api IN {} ORDER BY created_at, kid COLLATE "C"')
CUTS_NAMED: Final = _among("SELECT * FROM cuts WHERE kind || '/' || subject IN {}")
REVOKED_TOKEN: Final = alike("SELECT client_id, ends_at FROM revoked_tokens WHERE digest = $1")
CLIENTS_NAMED: Final = _among("SELECT * FROM clients WHERE removed_at IS NULL AND client_id IN {}")
KEYS_OF_NAMED: Final = _among('SELECT * FROM client_keys WHERE client_id IN {} ORDER BY created_at, kid COLLATE "C"')
RULES_OF_NAMED: Final = _among('SELECT * FROM trust_rules WHERE client_id IN {} ORDER BY rule_id COLLATE "C"')
SIGNING_KEYS_NAMED: Final = _among("SELECT * FROM signing_keys WHERE kid IN {}")
STORE: Final = alike("SELECT floor, horizon, closed_at FROM registry")
TRUSTS_NAMED: Final = _among("SELECT * FROM trusts WHERE name IN {}")
