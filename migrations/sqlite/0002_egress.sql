-- Hosts that a tenant's scripts may call, as `AllowRule` writes them. None: no outbound HTTP.
CREATE TABLE egress_rule (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    rule          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT egress_rule_taken UNIQUE (tenant_id, rule)
);

-- What a connection is: `sql`, or `http` with a sealed URL and header fields.
ALTER TABLE connection ADD COLUMN kind TEXT NOT NULL DEFAULT 'sql' CHECK (kind IN ('sql', 'http'));
