-- Issuers whose tokens are taken. `of_issuer` names the issuer of ours that takes them; there is one, and it is ''.
CREATE TABLE trusts (
    name       text PRIMARY KEY,
    of_issuer  text NOT NULL,
    issuer     text NOT NULL,
    document   text NOT NULL,              -- JSON of Trust, a copied key set included
    enabled    boolean NOT NULL,
    created_at bigint NOT NULL,
    UNIQUE (of_issuer, issuer)
);

-- Which client a workload is. Found by one claim that a fitting token has, or ('') always looked at.
CREATE TABLE trust_rules (
    rule_id    text PRIMARY KEY,
    of_issuer  text NOT NULL,
    trust      text NOT NULL REFERENCES trusts (name),
    client_id  text NOT NULL REFERENCES clients (client_id),
    found_by   text NOT NULL,
    document   text NOT NULL,              -- JSON of Rule
    created_at bigint NOT NULL
);
CREATE INDEX trust_rules_found ON trust_rules (trust, found_by);
CREATE INDEX trust_rules_client ON trust_rules (client_id);
