-- What every token for this API must be bound to: dpop, mtls or any; NULL or none: nothing.
ALTER TABLE apis ADD COLUMN binding TEXT;
