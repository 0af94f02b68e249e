-- One row: raised by every change of what follows, read with every use of a one-time value.
CREATE TABLE registry (version INTEGER NOT NULL) STRICT;
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

-- The thumbprint is the key: one public key belongs to one client.
CREATE TABLE client_keys (
    thumbprint TEXT PRIMARY KEY,
    client_id  TEXT NOT NULL REFERENCES clients (client_id),
    kid        TEXT NOT NULL,
    algorithm  TEXT NOT NULL,
    jwk        TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (client_id, kid)
) STRICT;

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

-- The truth about single use. The digest covers (client, jti); token_id names the use that came first.
CREATE TABLE used_once (
    digest     BLOB PRIMARY KEY,
    token_id   TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
