-- Which version the schema has, and the oldest version of the program that works with it.
CREATE TABLE groat_schema (
    version         integer NOT NULL,
    compatible_from integer NOT NULL
);
INSERT INTO groat_schema VALUES (0, 0);

-- One row. `version` is raised by every change of what follows and read with every use of a one-time value. Values that
-- were made before `floor` are refused: the memory may have a gap there. So are those that end at or before `horizon`,
-- which may be forgotten. A closed store takes nothing any more.
-- `history` and `filenode` tell this database's past from a restored or promoted one.
CREATE TABLE registry (
    version   bigint NOT NULL,
    floor     bigint NOT NULL DEFAULT 0,
    horizon   bigint NOT NULL DEFAULT 0,
    closed_at bigint,
    history   text NOT NULL DEFAULT '',
    filenode  bigint NOT NULL DEFAULT 0
);
INSERT INTO registry (version) VALUES (1);

CREATE TABLE apis (
    name       text PRIMARY KEY,
    audience   text NOT NULL UNIQUE,
    scopes     text NOT NULL,              -- JSON array
    created_at bigint NOT NULL
);

-- A removed client leaves its id behind, so that the id is never given to somebody else.
CREATE TABLE clients (
    client_id  text PRIMARY KEY,
    document   text NOT NULL,              -- JSON of ClientRecord
    enabled    boolean NOT NULL,
    created_at bigint NOT NULL,
    removed_at bigint
);

-- For the few clients that publish their keys themselves, among many that do not.
CREATE INDEX clients_publishing ON clients (client_id) WHERE position('"jwks_uri": "' in document) > 0;

-- The thumbprint is the key: one public key belongs to one client. `last_used_at` is noted every few seconds and raises
-- no version.
CREATE TABLE client_keys (
    thumbprint text PRIMARY KEY,
    client_id  text NOT NULL REFERENCES clients (client_id),
    kid        text NOT NULL,
    algorithm  text NOT NULL,
    jwk        text NOT NULL,
    created_at bigint NOT NULL,
    not_before bigint,
    expires_at bigint,
    last_used_at bigint,
    UNIQUE (client_id, kid)
);
CREATE INDEX client_keys_expiry ON client_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE signing_keys (
    kid          text PRIMARY KEY,
    thumbprint   text NOT NULL UNIQUE,
    jwk          text NOT NULL,            -- public
    sealed       bytea NOT NULL,           -- private, under a key that is not in this database
    created_at   bigint NOT NULL,
    activates_at bigint NOT NULL,
    retires_at   bigint,
    removes_at   bigint
);

-- The truth about single use, and the record of what was issued for it. The digest covers (kind, client, value); token_id names
-- the use that came first. A row without a token is possible (a crash after this commit), a token without a row is not.
CREATE TABLE used_once (
    digest     bytea PRIMARY KEY,
    client_id  text NOT NULL,
    token_id   text NOT NULL,              -- jti of the access token
    kid        text NOT NULL,              -- the issuer's key
    issued_at  bigint NOT NULL,
    replica    text NOT NULL,
    expires_at bigint NOT NULL             -- remembered until then, and until the horizon is past it
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

-- For the purge. Values arrive nearly in this order, so that the index grows at its right end.
CREATE INDEX used_once_expiry ON used_once (expires_at);
