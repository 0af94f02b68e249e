"""The keys of issuers: where they come from, and when they are asked for anew."""
