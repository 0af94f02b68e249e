-- What every token for this API must be bound to: dpop, mtls or any; NULL or none: nothing.
ALTER TABLE apis ADD COLUMN binding TEXT;
-- What was changed, by whom and how, one row for each object. Rows are added only, in the transaction of the change; the
-- oldest go by retention. `hash` is that of the row (audit_trail.py says of which text), `previous` that of the one before.
CREATE TABLE audit (
    seq              INTEGER PRIMARY KEY,  -- from 1, without gaps
    at               INTEGER NOT NULL,
    actor            TEXT NOT NULL,
    face             TEXT NOT NULL,
    operation        TEXT NOT NULL,
    object           TEXT NOT NULL,
    before           TEXT,                 -- JSON, without secrets; NULL: there was none
    after            TEXT,
    registry_version INTEGER NOT NULL,     -- the one that the change made
    previous         TEXT NOT NULL,
    hash             TEXT NOT NULL
) STRICT;

-- Access tokens that were taken back before their end, by the SHA-256 of their jti. `ends_at`: nobody takes them anyway
-- from then on, and the row is forgotten once the horizon is past it.
CREATE TABLE revoked_tokens (
    digest    BLOB NOT NULL PRIMARY KEY,
    client_id TEXT NOT NULL,               -- whose token it was, or '' where nobody knew
    made_at   INTEGER NOT NULL,
    ends_at   INTEGER NOT NULL,
    listed    TEXT NOT NULL DEFAULT ''      -- its place in a status list, LIST~INDEX
) STRICT;
CREATE INDEX revoked_tokens_end ON revoked_tokens (ends_at);

-- Every token of a subject that was issued before `not_before` is over.
CREATE TABLE cuts (
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    made_at    INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT;

-- What an API proves with who it is when it asks about tokens. One public key belongs to one owner.
CREATE TABLE api_keys (
    thumbprint TEXT PRIMARY KEY,
    api        TEXT NOT NULL REFERENCES apis (name),
    kid        TEXT NOT NULL,
    algorithm  TEXT NOT NULL,
    jwk        TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (api, kid)
) STRICT;

-- Since when a client gets nothing any more; NULL: it gets something, or nobody wrote it down.
ALTER TABLE clients ADD COLUMN disabled_at INTEGER;
CREATE INDEX clients_disabled ON clients (disabled_at) WHERE disabled_at IS NOT NULL;

-- One row: how often tokens were taken back, by whatever change. It never falls, and is at least the milliseconds of the
-- epoch at the last time, so that a store that was restored goes on beyond what its verifiers have seen.
CREATE TABLE revocation_feed (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    seq      INTEGER NOT NULL
) STRICT;
INSERT INTO revocation_feed (only_row, seq) VALUES (1, unixepoch() * 1000);

-- Whether tokens for this API stand in a status list: list; NULL or none: they do not.
ALTER TABLE apis ADD COLUMN status TEXT;
-- Status lists, each of one API. `taken`: the places up to this have been leased; nobody leases any from `closes_at` on,
-- and no token of it lives at `ends_at`. `not_before`: the cut of its API that it was opened under, so that a later one
-- ends all of it. A place is leased once, by whatever came of its lease.
CREATE TABLE status_lists (
    list_id    TEXT PRIMARY KEY,
    api        TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    opened_at  INTEGER NOT NULL,
    closes_at  INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    taken      INTEGER NOT NULL
) STRICT;
CREATE INDEX status_lists_open ON status_lists (api, opened_at);
