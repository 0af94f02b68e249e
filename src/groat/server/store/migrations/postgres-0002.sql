-- How long a token for this API lives at most, in seconds; NULL: as tokens.lifetime has it.
ALTER TABLE apis ADD COLUMN token_lifetime bigint;

-- Since when no use of the client is known, to the hour; NULL: since created_at. Of what was there before this nobody
-- knows, so for the clients of then it begins now; as a default, which writes no row anew, and only until here.
ALTER TABLE clients ADD COLUMN unused_since bigint DEFAULT extract(epoch FROM now())::bigint;
ALTER TABLE clients ALTER COLUMN unused_since DROP DEFAULT;
