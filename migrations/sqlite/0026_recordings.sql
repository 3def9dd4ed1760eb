-- Whether an endpoint's requests and answers are kept.
ALTER TABLE endpoint ADD COLUMN record BIGINT NOT NULL DEFAULT 0 CHECK (record IN (0, 1));

-- Bytes of the body that the handler answered.
ALTER TABLE invocation ADD COLUMN answer_bytes BIGINT NOT NULL DEFAULT 0;

-- `recording` is ciphertext of the tenant's recording key, `recording_bytes` its length: a tenant has a budget. It is the last column, so that
-- reading the others does not read it.
-- A re-run names the invocation that it repeats, and who asked for it.
ALTER TABLE invocation ADD COLUMN rerun_of TEXT;
ALTER TABLE invocation ADD COLUMN rerun_by TEXT;
ALTER TABLE invocation ADD COLUMN recording_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE invocation ADD COLUMN recording BLOB;

-- For taking the oldest recordings of a tenant away.
CREATE INDEX invocation_recorded ON invocation (tenant_id, seq, recording_bytes) WHERE recording_bytes > 0;

-- The key that seals a tenant's recordings; `sealed` is ciphertext of the vault. With a key in between, replacing the vault's key does
-- not touch the recordings, of which there may be gigabytes.
CREATE TABLE recording_key (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    sealed        BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT recording_key_taken UNIQUE (tenant_id)
);
