-- What a key signs with, its public part if it has one, and until when it verifies, if not until it is removed.
ALTER TABLE signing_key ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'HS256';
ALTER TABLE signing_key ADD COLUMN public_key BLOB;
ALTER TABLE signing_key ADD COLUMN verifies_until_ms BIGINT;

-- For deleting those that verify nothing any more.
CREATE INDEX signing_key_by_end ON signing_key (verifies_until_ms);

-- The methods that a token is for, if not all; the claims that it was given, as JSON. `endpoint_route` may hold several routes, one on a
-- line. An older pqhost does not know of the methods: it lets such a token use all.
ALTER TABLE token ADD COLUMN methods TEXT;
ALTER TABLE token ADD COLUMN claims TEXT;
ALTER TABLE token ADD COLUMN last_used_at_ms BIGINT;

-- Issuers outside of pqhost whose tokens a tenant accepts.
CREATE TABLE issuer (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    issuer        TEXT NOT NULL,
    jwks_url      TEXT NOT NULL,
    audience      TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT issuer_taken UNIQUE (tenant_id, issuer)
);
