-- Which scripts may use a connection: all of the tenant with `restricted = 0`, others only those that `connection_grant` names.
ALTER TABLE connection ADD COLUMN restricted BIGINT NOT NULL DEFAULT 0 CHECK (restricted IN (0, 1));

CREATE TABLE connection_grant (
    tenant_id     BIGINT NOT NULL,
    connection_id BIGINT NOT NULL,
    script_id     BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, script_id),
    CONSTRAINT connection_grant_connection FOREIGN KEY (tenant_id, connection_id) REFERENCES connection (tenant_id, id)
        ON DELETE CASCADE,
    CONSTRAINT connection_grant_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id) ON DELETE CASCADE
);
