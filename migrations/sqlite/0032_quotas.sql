-- What an operator grants the tenant: a JSON `Quotas`.
ALTER TABLE tenant ADD COLUMN quotas TEXT NOT NULL DEFAULT '{}';

-- Bytes of a version's files. NULL where nobody has counted them: what was published before this column, or comes from an older export.
ALTER TABLE version ADD COLUMN source_bytes BIGINT;

-- What tenants used, by day (since 1970, UTC). No foreign key: it outlives the tenant.
CREATE TABLE tenant_usage (
    tenant_id    BIGINT NOT NULL,
    day          BIGINT NOT NULL,
    requests     BIGINT NOT NULL,
    failed       BIGINT NOT NULL,
    refused      BIGINT NOT NULL,
    fuel         BIGINT NOT NULL,
    duration_us  BIGINT NOT NULL,
    row_count    BIGINT NOT NULL,
    answer_bytes BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, day)
);

-- For deleting what is too old.
CREATE INDEX tenant_usage_by_day ON tenant_usage (day);
