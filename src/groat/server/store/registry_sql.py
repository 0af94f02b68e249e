"""Every statement about the registry, once, in the spelling of each engine.

They are written as PostgreSQL has them. Where SQLite says the same in the same words, its spelling is derived; where
the two differ, both stand beside each other here. What only one of them says (how values are used up, forgotten and
missed) is in that engine's room.
"""

import re
from dataclasses import dataclass
from typing import Final

_PLACEHOLDER: Final = re.compile(r"\$(\d+)")
_BY_BYTES: Final = ' COLLATE "C"'


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as each engine wants it; `$1` or `?1` is the first value."""

    postgres: str
    sqlite: str


def alike(sql: str) -> Statement:
    """A statement that both have; to compare texts by their bytes is said to PostgreSQL and is SQLite's habit."""
    return Statement(sql, _PLACEHOLDER.sub(r"?\1", sql.replace(_BY_BYTES, "")))


# The one row of the registry. Whoever changes anything reads it first and holds it to the end: on PostgreSQL by its
# lock, so that changes come one after the other and lock everything else in one order; on SQLite the transaction itself
# began with the lock of the file.
IN_FORCE: Final = Statement(
    postgres="SELECT version, horizon, closed_at FROM registry FOR UPDATE",
    sqlite="SELECT version, horizon, closed_at FROM registry",
)
RAISE_VERSION: Final = alike("UPDATE registry SET version = version + 1")
CLOSE: Final = alike("UPDATE registry SET closed_at = $1, version = version + 1")
TAKE_OVER: Final = alike("UPDATE registry SET version = version + $1, floor = $2, horizon = $3")
# Versions count on from a number that no replica can remember another registry under.
RAISE_FLOOR: Final = Statement(
    postgres="UPDATE registry SET floor = greatest(floor, $1), version = greatest(version + 1, $1)",
    sqlite="UPDATE registry SET floor = max(floor, ?1), version = max(version + 1, ?1)",
)
# On SQLite whoever writes holds the file's lock, so that a value is judged by the horizon that stands when it is
# written; postgres/forgetting.py says why a moment passes there before anything is forgotten.
RAISE_HORIZON: Final = alike("UPDATE registry SET horizon = $1 WHERE horizon < $1 AND closed_at IS NULL")
LOWER_HORIZON: Final = Statement(
    postgres="""
UPDATE registry SET horizon = least(horizon, $1), floor = greatest(floor, $2), version = greatest(version + 1, $2)
""",
    sqlite="""
UPDATE registry SET horizon = min(horizon, ?1), floor = max(floor, ?2), version = max(version + 1, ?2)
""",
)


def _of_rows(insert: str, table: str, columns: str) -> Statement:
    """Insert the objects of a JSON array, whose members are named as the columns."""
    taken = ", ".join(f"json_extract(value, '$.{name}')" for name in columns.split(", "))
    return Statement(
        postgres=f"{insert} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, $1::json)",
        sqlite=f"{insert} ({columns}) SELECT {taken} FROM json_each(?1)",
    )


# APIs

LIST_APIS: Final = alike('SELECT * FROM apis ORDER BY name COLLATE "C"')
ADD_API: Final = alike(
    "INSERT INTO apis (name, audience, scopes, created_at, token_lifetime, binding, status) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
REPLACE_API: Final = alike(
    "UPDATE apis SET audience = $1, scopes = $2, token_lifetime = $3, binding = $4, status = $5 WHERE name = $6"
)
REMOVE_API: Final = alike("DELETE FROM apis WHERE name = $1")
FIND_API: Final = alike("SELECT * FROM apis WHERE name = $1")

# Keys of APIs, by which they ask about tokens. As with those of clients the thumbprint is the key: whether another one
# has it is asked of every table that holds some, in the transaction that adds it.

KEYS_OF_API: Final = alike('SELECT * FROM api_keys WHERE api = $1 ORDER BY created_at, kid COLLATE "C"')
API_KEYS_LIKE: Final = alike("SELECT thumbprint FROM api_keys WHERE api = $1 AND (kid = $2 OR thumbprint = $3)")
API_WITH_KEY: Final = alike("SELECT 1 AS found FROM api_keys WHERE thumbprint = $1")
ADD_API_KEY: Final = alike(
    "INSERT INTO api_keys (thumbprint, api, kid, algorithm, jwk, created_at) VALUES ($1, $2, $3, $4, $5, $6)"
)
REMOVE_API_KEY: Final = alike("DELETE FROM api_keys WHERE api = $1 AND kid = $2")
REMOVE_KEYS_OF_API: Final = alike("DELETE FROM api_keys WHERE api = $1")

# What was taken back. A cut counts as long as it stands: what was issued before it may be presented at any time. A
# token has an end, after which nobody takes it anyway.

CUTS: Final = alike("SELECT * FROM cuts")
MAKE_CUT: Final = alike(
    "INSERT INTO cuts (kind, subject, not_before, made_at) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (kind, subject) DO UPDATE SET not_before = $3, made_at = $4"
)
# The latest of those that a token of this subject may have been issued under.
CUT_BEFORE: Final = alike(
    "SELECT coalesce(max(not_before), 0) AS not_before FROM cuts WHERE kind <> $1 OR subject = $2"
)
# Of a token that is known already the later end stands. Nothing comes back from a closed store.
REVOKE_TOKEN: Final = Statement(
    postgres="""
INSERT INTO revoked_tokens (digest, client_id, made_at, ends_at, listed)
SELECT $1, $2, $3::bigint, $4::bigint, $5 FROM registry WHERE closed_at IS NULL
ON CONFLICT (digest) DO UPDATE SET ends_at = greatest(revoked_tokens.ends_at, excluded.ends_at) RETURNING 1 AS done
""",
    sqlite="""
INSERT INTO revoked_tokens (digest, client_id, made_at, ends_at, listed)
SELECT ?1, ?2, ?3, ?4, ?5 FROM registry WHERE closed_at IS NULL
ON CONFLICT (digest) DO UPDATE SET ends_at = max(revoked_tokens.ends_at, excluded.ends_at)
""",
)
IS_REVOKED: Final = alike(
    "SELECT version, EXISTS (SELECT 1 FROM revoked_tokens WHERE digest = $1) AS revoked FROM registry"
)
# What the feed says, and by which number. Raised in the transaction of whatever takes tokens back.
RAISE_SEQ: Final = Statement(
    postgres="UPDATE revocation_feed SET seq = greatest(seq + 1, $1)",
    sqlite="UPDATE revocation_feed SET seq = max(seq + 1, ?1)",
)
SEQ: Final = alike("SELECT seq FROM revocation_feed")
TAKEN_BACK: Final = alike("SELECT * FROM revoked_tokens WHERE ends_at > $1")
# Removed clients, too: their rows stay.
DISABLED_SINCE: Final = alike(
    "SELECT client_id, removed_at IS NOT NULL AS removed FROM clients WHERE disabled_at >= $1"
)
LATEST_ISSUANCE: Final = alike("SELECT coalesce(max(issued_at), 0) AS latest FROM used_once")
# A portion, as of used values; the next comes with the next portion of these.
FORGET_REVOKED: Final = alike(
    "DELETE FROM revoked_tokens WHERE digest IN (SELECT digest FROM revoked_tokens WHERE ends_at <= "
    "(SELECT horizon FROM registry WHERE closed_at IS NULL) ORDER BY ends_at LIMIT 1000)"
)

# Status lists. A block of places goes to whoever asked, once: the row says which are taken. Of a list from before the
# floor more may be taken than this store knows of.

# `taken + $3` twice: whoever waited for the row is judged by what it says then; the inner question is not asked anew.
LEASE: Final = alike(
    """
UPDATE status_lists SET taken = taken + $3 WHERE taken + $3 <= 1048576 AND list_id = (
    SELECT list_id FROM status_lists WHERE api = $1 AND not_before = $2 AND closes_at > $4 AND taken + $3 <= 1048576
        AND opened_at >= (SELECT floor FROM registry WHERE closed_at IS NULL)
    ORDER BY opened_at DESC, list_id LIMIT 1)
RETURNING list_id, taken - $3 AS start, closes_at
"""
)
# Two replicas may each open one at once: both are as good. From the floor on where that lies ahead, so that it goes on.
_OPEN_LIST: Final = """
INSERT INTO status_lists (list_id, api, not_before, taken, opened_at, closes_at, ends_at)
SELECT CAST($5 AS text), CAST($1 AS text), CAST($2 AS bigint), CAST($3 AS bigint), {later}(CAST($4 AS bigint), floor),
    {later}(CAST($4 AS bigint), floor) + CAST($6 AS bigint), {later}(CAST($4 AS bigint), floor) + CAST($7 AS bigint)
FROM registry WHERE closed_at IS NULL RETURNING list_id, 0 AS start, closes_at
"""
OPEN_LIST: Final = Statement(
    postgres=_OPEN_LIST.format(later="greatest"), sqlite=alike(_OPEN_LIST.format(later="max")).sqlite
)
LISTS: Final = alike("SELECT * FROM status_lists WHERE ends_at > $1")
FORGET_LISTS: Final = alike(
    "DELETE FROM status_lists WHERE ends_at <= (SELECT horizon FROM registry WHERE closed_at IS NULL)"
)
# Listed tokens have the place in their id. Reads every record of an issuance, beside the requests.
ISSUED_TO: Final = Statement(
    postgres="""
SELECT client_id, token_id, issued_at FROM used_once
WHERE client_id IN (SELECT json_array_elements_text($1::json)) AND position('~' in token_id) > 0
""",
    sqlite="""
SELECT client_id, token_id, issued_at FROM used_once
WHERE client_id IN (SELECT value FROM json_each(?1)) AND instr(token_id, '~') > 0
""",
)

# Clients. A removed one leaves its row behind.

LIST_CLIENTS: Final = alike('SELECT * FROM clients WHERE removed_at IS NULL ORDER BY client_id COLLATE "C"')
CLIENTS_BEHIND: Final = alike(
    'SELECT * FROM clients WHERE removed_at IS NULL AND client_id COLLATE "C" > $1 '
    'ORDER BY client_id COLLATE "C" LIMIT $2'
)
COUNT_CLIENTS: Final = alike(
    "SELECT count(*) AS clients, count(CASE WHEN enabled THEN NULL ELSE 1 END) AS disabled FROM clients "
    "WHERE removed_at IS NULL"
)
FIND_CLIENT: Final = alike("SELECT * FROM clients WHERE client_id = $1 AND removed_at IS NULL")
ADD_CLIENT: Final = alike("INSERT INTO clients (client_id, document, enabled, created_at) VALUES ($1, $2, $3, $4)")
# Not `enabled`: whoever read the record before it was switched off must not switch it on again.
REPLACE_CLIENT: Final = alike("UPDATE clients SET document = $1 WHERE client_id = $2")
SWITCH_CLIENT: Final = alike("UPDATE clients SET enabled = $1, disabled_at = $2 WHERE client_id = $3")
REMOVE_CLIENT: Final = Statement(
    postgres="UPDATE clients SET removed_at = extract(epoch FROM clock_timestamp())::bigint, enabled = false, "
    "disabled_at = $1 WHERE client_id = $2",
    sqlite="UPDATE clients SET removed_at = unixepoch(), enabled = 0, disabled_at = ?1 WHERE client_id = ?2",
)
ADD_CLIENTS: Final = _of_rows("INSERT INTO clients", "clients", "client_id, document, enabled, created_at")
REPLACE_CLIENTS: Final = Statement(
    postgres="UPDATE clients AS c SET document = n.document FROM json_populate_recordset(NULL::clients, $1::json) AS n "
    "WHERE c.client_id = n.client_id",
    sqlite="UPDATE clients SET document = json_extract(value, '$.document') FROM json_each(?1) "
    "WHERE client_id = json_extract(value, '$.client_id')",
)
# Of the form that `client_document` writes, so that the partial index answers; the reader looks once more.
PUBLISHED: Final = Statement(
    postgres="""
SELECT * FROM clients WHERE position('"jwks_uri": "' in document) > 0 AND enabled AND removed_at IS NULL
ORDER BY client_id COLLATE "C" LIMIT $1
""",
    sqlite="""
SELECT * FROM clients WHERE instr(document, '"jwks_uri": "') > 0 AND enabled AND removed_at IS NULL
ORDER BY client_id LIMIT ?1
""",
)

# Keys of clients

KEYS_OF: Final = alike('SELECT * FROM client_keys WHERE client_id = $1 ORDER BY created_at, kid COLLATE "C"')
KEYS_OF_EXPIRING: Final = alike(
    """
SELECT * FROM client_keys WHERE client_id IN (
    SELECT k.client_id FROM client_keys AS k JOIN clients AS c ON c.client_id = k.client_id AND c.enabled
    WHERE k.expires_at >= $1 AND k.expires_at < $2
    GROUP BY k.client_id ORDER BY min(k.expires_at), k.client_id COLLATE "C" LIMIT $3)
ORDER BY client_id COLLATE "C", created_at, kid COLLATE "C"
"""
)
KEYS_LIKE: Final = alike("SELECT thumbprint FROM client_keys WHERE client_id = $1 AND (kid = $2 OR thumbprint = $3)")
CLIENT_WITH_KEY: Final = alike("SELECT 1 AS found FROM client_keys WHERE thumbprint = $1")
ADD_CLIENT_KEY: Final = alike(
    "INSERT INTO client_keys (thumbprint, client_id, kid, algorithm, jwk, created_at, not_before, expires_at, "
    "last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
ADD_CLIENT_KEYS: Final = _of_rows(
    "INSERT INTO client_keys", "client_keys",
    "thumbprint, client_id, kid, algorithm, jwk, created_at, not_before, expires_at, last_used_at",
)  # fmt: skip
LIMIT_CLIENT_KEY: Final = alike(
    "UPDATE client_keys SET not_before = $1, expires_at = $2 WHERE client_id = $3 AND kid = $4"
)
REMOVE_CLIENT_KEY: Final = alike("DELETE FROM client_keys WHERE client_id = $1 AND kid = $2")
REMOVE_KEYS_OF: Final = alike("DELETE FROM client_keys WHERE client_id = $1")
# On PostgreSQL it locks the registry's row before any key's, as every change does: so neither waits for the other in a
# circle.
NOTE_USES: Final = Statement(
    postgres="""
WITH gate AS (SELECT closed_at FROM registry FOR UPDATE)
UPDATE client_keys AS k SET last_used_at = (n.value->>2)::bigint
FROM gate, json_array_elements($1::json) AS n (value)
WHERE gate.closed_at IS NULL AND k.thumbprint = n.value->>1 AND k.client_id = n.value->>0
    AND coalesce(k.last_used_at, 0) < (n.value->>2)::bigint
""",
    sqlite="""
UPDATE client_keys SET last_used_at = noted.at FROM (
    SELECT json_extract(value, '$[0]') AS client_id, json_extract(value, '$[1]') AS thumbprint,
           json_extract(value, '$[2]') AS at FROM json_each(?1)) AS noted
WHERE client_keys.thumbprint = noted.thumbprint AND client_keys.client_id = noted.client_id
    AND coalesce(client_keys.last_used_at, 0) < noted.at AND (SELECT closed_at FROM registry) IS NULL
""",
)
# The same uses, of whatever key: one that is gone, or that the client publishes itself, has no row. Who looks for them
# counts in months, so that once an hour is enough.
NOTE_CLIENTS: Final = Statement(
    postgres="""
WITH gate AS (SELECT closed_at FROM registry FOR UPDATE)
UPDATE clients AS c SET unused_since = n.at
FROM gate, (SELECT value->>0 AS client_id, max((value->>2)::bigint) AS at FROM json_array_elements($1::json)
            GROUP BY 1) AS n
WHERE gate.closed_at IS NULL AND c.client_id = n.client_id AND coalesce(c.unused_since, 0) + 3600 <= n.at
""",
    sqlite="""
UPDATE clients SET unused_since = noted.at FROM (
    SELECT json_extract(value, '$[0]') AS client_id, max(json_extract(value, '$[2]')) AS at FROM json_each(?1)
    GROUP BY 1) AS noted
WHERE clients.client_id = noted.client_id AND coalesce(clients.unused_since, 0) + 3600 <= noted.at
    AND (SELECT closed_at FROM registry) IS NULL
""",
)
USES_OF_CLIENTS: Final = alike(
    """
SELECT c.client_id, c.created_at, c.unused_since, max(k.last_used_at) AS last_used_at,
    (SELECT floor FROM registry) AS floor
FROM clients AS c LEFT JOIN client_keys AS k ON k.client_id = c.client_id
WHERE c.removed_at IS NULL GROUP BY c.client_id
"""
)
USES_BETWEEN: Final = alike(
    """
SELECT c.client_id, c.created_at, c.unused_since, max(k.last_used_at) AS last_used_at,
    (SELECT floor FROM registry) AS floor
FROM clients AS c LEFT JOIN client_keys AS k ON k.client_id = c.client_id
WHERE c.removed_at IS NULL AND c.client_id COLLATE "C" > $1 AND c.client_id COLLATE "C" <= $2 GROUP BY c.client_id
"""
)

# Trusts, and the rules of clients about their tokens. `of_issuer` is empty: this server has one issuer.

LIST_TRUSTS: Final = alike('SELECT * FROM trusts ORDER BY name COLLATE "C"')
ADD_TRUST: Final = alike(
    "INSERT INTO trusts (name, of_issuer, issuer, document, enabled, created_at) VALUES ($1, '', $2, $3, $4, $5)"
)
# Not `enabled`, as with clients.
REPLACE_TRUST: Final = alike("UPDATE trusts SET document = $1 WHERE name = $2")
SWITCH_TRUST: Final = alike("UPDATE trusts SET enabled = $1 WHERE name = $2")
REMOVE_TRUST: Final = alike("DELETE FROM trusts WHERE name = $1")
FIND_TRUST: Final = alike("SELECT 1 AS found FROM trusts WHERE name = $1")
ADD_RULE: Final = alike(
    "INSERT INTO trust_rules (rule_id, of_issuer, trust, client_id, found_by, document, created_at) "
    "VALUES ($1, '', $2, $3, $4, $5, $6)"
)
RULES_OF_TRUST: Final = alike('SELECT * FROM trust_rules WHERE trust = $1 ORDER BY rule_id COLLATE "C"')
RULES_OF_CLIENT: Final = alike('SELECT * FROM trust_rules WHERE client_id = $1 ORDER BY rule_id COLLATE "C"')
RULES_FOUND_BY: Final = Statement(
    postgres="""
SELECT * FROM trust_rules WHERE trust = $1 AND found_by IN (SELECT json_array_elements_text($2::json))
ORDER BY rule_id COLLATE "C"
""",
    sqlite="""
SELECT * FROM trust_rules WHERE trust = ?1 AND found_by IN (SELECT value FROM json_each(?2)) ORDER BY rule_id
""",
)
COUNT_UNFOUND: Final = alike("SELECT count(*) AS rules FROM trust_rules WHERE trust = $1 AND found_by = ''")
REMOVE_RULE: Final = alike("DELETE FROM trust_rules WHERE client_id = $1 AND rule_id = $2")
REMOVE_RULES_OF: Final = alike("DELETE FROM trust_rules WHERE client_id = $1")
REMOVE_RULES_ABOUT: Final = alike("DELETE FROM trust_rules WHERE trust = $1")

# The issuer's own keys

SIGNING_KEYS: Final = alike('SELECT * FROM signing_keys ORDER BY activates_at, kid COLLATE "C"')
SIGNING_KEY_LIKE: Final = alike("SELECT 1 AS found FROM signing_keys WHERE thumbprint = $1")
SAVE_SIGNING_KEY: Final = alike(
    "INSERT INTO signing_keys (kid, thumbprint, jwk, sealed, created_at, activates_at, retires_at, removes_at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kid) DO UPDATE SET "
    "(thumbprint, jwk, sealed, created_at, activates_at, retires_at, removes_at) = ($2, $3, $4, $5, $6, $7, $8)"
)
NAMES_KEY: Final = alike("SELECT EXISTS (SELECT 1 FROM used_once WHERE kid = $1) AS named")
