-- What scripts may ask for by name. `sealed` is ciphertext of the vault. Every script of the tenant may read a secret with
-- `restricted = 0`; others only those scripts that `secret_grant` names.
CREATE TABLE secret (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    name          TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    restricted    BIGINT NOT NULL CHECK (restricted IN (0, 1)),
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    CONSTRAINT secret_name_taken UNIQUE (tenant_id, name),
    CONSTRAINT secret_of_tenant UNIQUE (tenant_id, id)
);

CREATE TABLE secret_grant (
    tenant_id BIGINT NOT NULL,
    secret_id BIGINT NOT NULL,
    script_id BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, secret_id, script_id),
    CONSTRAINT secret_grant_secret FOREIGN KEY (tenant_id, secret_id) REFERENCES secret (tenant_id, id),
    CONSTRAINT secret_grant_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id)
);
