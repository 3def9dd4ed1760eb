-- What scripts remember between requests: one JSON text each, as the script's runtime wrote it; NULL after it was cleared.
-- `revision` counts writes from 1 and is never reset. Rows here do not count up `change`: no host caches them.
CREATE TABLE script_state (
    tenant_id     BIGINT NOT NULL,
    script_id     BIGINT NOT NULL,
    value         TEXT,
    revision      BIGINT NOT NULL CHECK (revision >= 1),
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, script_id),
    CONSTRAINT script_state_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id)
);
