-- Issuers whose tokens are taken. `of_issuer` names the issuer of ours that takes them; there is one, and it is ''.
CREATE TABLE trusts (
    name       TEXT PRIMARY KEY,
    of_issuer  TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    document   TEXT NOT NULL,              -- JSON of Trust, a copied key set included
    enabled    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (of_issuer, issuer)
) STRICT;

-- Which client a workload is. Found by one claim that a fitting token has, or ('') always looked at.
CREATE TABLE trust_rules (
    rule_id    TEXT PRIMARY KEY,
    of_issuer  TEXT NOT NULL,
    trust      TEXT NOT NULL REFERENCES trusts (name),
    client_id  TEXT NOT NULL REFERENCES clients (client_id),
    found_by   TEXT NOT NULL,
    document   TEXT NOT NULL,              -- JSON of Rule
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX trust_rules_found ON trust_rules (trust, found_by);
CREATE INDEX trust_rules_client ON trust_rules (client_id);
