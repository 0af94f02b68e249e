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
