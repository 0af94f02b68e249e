-- What every token for this API must be bound to: dpop, mtls or any; NULL or none: nothing.
ALTER TABLE apis ADD COLUMN binding text;
-- What was changed, by whom and how, one row for each object. Rows are added only, in the transaction of the change; the
-- oldest go by retention. `hash` is that of the row (audit_trail.py says of which text), `previous` that of the one before.
CREATE TABLE audit (
    seq              bigint PRIMARY KEY,   -- from 1, without gaps
    at               bigint NOT NULL,
    actor            text NOT NULL,
    face             text NOT NULL,
    operation        text NOT NULL,
    object           text NOT NULL,
    before           text,                 -- JSON, without secrets; NULL: there was none
    after            text,
    registry_version bigint NOT NULL,      -- the one that the change made
    previous         text NOT NULL,
    hash             text NOT NULL
);

-- Access tokens that were taken back before their end, by the SHA-256 of their jti. `ends_at`: nobody takes them anyway
-- from then on, and the row is forgotten once the horizon is past it.
CREATE TABLE revoked_tokens (
    digest    bytea PRIMARY KEY,
    client_id text NOT NULL,               -- whose token it was, or '' where nobody knew
    made_at   bigint NOT NULL,
    ends_at   bigint NOT NULL,
    listed    text NOT NULL DEFAULT ''      -- its place in a status list, LIST~INDEX
);
CREATE INDEX revoked_tokens_end ON revoked_tokens (ends_at);

-- Every token of a subject that was issued before `not_before` is over.
CREATE TABLE cuts (
    kind       text NOT NULL,
    subject    text NOT NULL,
    not_before bigint NOT NULL,
    made_at    bigint NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- What an API proves with who it is when it asks about tokens. One public key belongs to one owner.
CREATE TABLE api_keys (
    thumbprint text PRIMARY KEY,
    api        text NOT NULL REFERENCES apis (name),
    kid        text NOT NULL,
    algorithm  text NOT NULL,
    jwk        text NOT NULL,
    created_at bigint NOT NULL,
    UNIQUE (api, kid)
);

-- Since when a client gets nothing any more; NULL: it gets something, or nobody wrote it down.
ALTER TABLE clients ADD COLUMN disabled_at bigint;
CREATE INDEX clients_disabled ON clients (disabled_at) WHERE disabled_at IS NOT NULL;

-- One row: how often tokens were taken back, by whatever change. It never falls, and is at least the milliseconds of the
-- epoch at the last time, so that a store that was restored goes on beyond what its verifiers have seen.
CREATE TABLE revocation_feed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq      bigint NOT NULL
);
INSERT INTO revocation_feed (only_row, seq) VALUES (true, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);

-- Whether tokens for this API stand in a status list: list; NULL or none: they do not.
ALTER TABLE apis ADD COLUMN status text;
-- Status lists, each of one API. `taken`: the places up to this have been leased; nobody leases any from `closes_at` on,
-- and no token of it lives at `ends_at`. `not_before`: the cut of its API that it was opened under, so that a later one
-- ends all of it. A place is leased once, by whatever came of its lease.
CREATE TABLE status_lists (
    list_id    text PRIMARY KEY,
    api        text NOT NULL,
    not_before bigint NOT NULL,
    opened_at  bigint NOT NULL,
    closes_at  bigint NOT NULL,
    ends_at    bigint NOT NULL,
    taken      bigint NOT NULL
);
CREATE INDEX status_lists_open ON status_lists (api, opened_at);
