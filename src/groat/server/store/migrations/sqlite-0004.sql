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
