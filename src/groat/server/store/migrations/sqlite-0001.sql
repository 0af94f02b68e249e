-- One row. `version` is raised by every change of what follows and read with every use of a one-time value. Values that
-- were made before `floor` are refused: the memory may have a gap there. So are those that end at or before `horizon`,
-- which may be forgotten. A closed store takes nothing any more.
CREATE TABLE registry (
    version   INTEGER NOT NULL,
    floor     INTEGER NOT NULL DEFAULT 0,
    horizon   INTEGER NOT NULL DEFAULT 0,
    closed_at INTEGER
) STRICT;
INSERT INTO registry (version) VALUES (1);

CREATE TABLE apis (
    name       TEXT PRIMARY KEY,
    audience   TEXT NOT NULL UNIQUE,
    scopes     TEXT NOT NULL,              -- JSON array
    created_at INTEGER NOT NULL
) STRICT;

-- A removed client leaves its id behind, so that the id is never given to somebody else.
CREATE TABLE clients (
    client_id  TEXT PRIMARY KEY,
    document   TEXT NOT NULL,              -- JSON of ClientRecord
    enabled    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;

-- For the few clients that publish their keys themselves, among many that do not.
CREATE INDEX clients_publishing ON clients (client_id) WHERE instr(document, '"jwks_uri": "') > 0;

-- The thumbprint is the key: one public key belongs to one client. `last_used_at` is noted every few seconds and raises
-- no version.
CREATE TABLE client_keys (
    thumbprint TEXT PRIMARY KEY,
    client_id  TEXT NOT NULL REFERENCES clients (client_id),
    kid        TEXT NOT NULL,
    algorithm  TEXT NOT NULL,
    jwk        TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    not_before INTEGER,
    expires_at INTEGER,
    last_used_at INTEGER,
    UNIQUE (client_id, kid)
) STRICT;
CREATE INDEX client_keys_expiry ON client_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE signing_keys (
    kid          TEXT PRIMARY KEY,
    thumbprint   TEXT NOT NULL UNIQUE,
    jwk          TEXT NOT NULL,            -- public
    sealed       BLOB NOT NULL,            -- private, under a key that is not in this database
    created_at   INTEGER NOT NULL,
    activates_at INTEGER NOT NULL,
    retires_at   INTEGER,
    removes_at   INTEGER
) STRICT;

-- The truth about single use, and the record of what was issued for it. The digest covers (kind, client, value); token_id names
-- the use that came first. A row without a token is possible (a crash after this commit), a token without a row is not.
CREATE TABLE used_once (
    digest     BLOB NOT NULL PRIMARY KEY,
    client_id  TEXT NOT NULL,
    token_id   TEXT NOT NULL,              -- jti of the access token
    kid        TEXT NOT NULL,              -- the issuer's key
    issued_at  INTEGER NOT NULL,
    replica    TEXT NOT NULL,
    expires_at INTEGER NOT NULL            -- remembered until then, and until the horizon is past it
) STRICT;

-- Rows lie in the order of their arrival, so that a batch fills one page; of the digests, which are random, only the
-- index is spread. This one is for the purge and grows at its right end.
CREATE INDEX used_once_expiry ON used_once (expires_at);
