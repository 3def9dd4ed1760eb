-- An endpoint is answered by a script, or by a table or query directly: then `source` is a JSON `TableSource` and there is no script.
-- `settings` is a JSON `EndpointSettings`. SQLite cannot take NOT NULL away, so the table is made anew; dropping the old one would take
-- `token_endpoint` with it, which is therefore put aside.
CREATE TABLE kept_token_endpoint AS SELECT token_id, tenant_id, endpoint_id FROM token_endpoint;

CREATE TABLE new_endpoint (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    methods       TEXT NOT NULL,
    route         TEXT NOT NULL,
    script_id     BIGINT,
    auth          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    version_id    BIGINT,
    revision      BIGINT NOT NULL DEFAULT 1,
    record        BIGINT NOT NULL DEFAULT 0 CHECK (record IN (0, 1)),
    source        TEXT,
    enabled       BIGINT NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    settings      TEXT NOT NULL DEFAULT '{}',
    CONSTRAINT endpoint_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id),
    CONSTRAINT endpoint_route_taken UNIQUE (tenant_id, route, methods),
    CONSTRAINT endpoint_answers CHECK ((script_id IS NULL) = (source IS NOT NULL))
);
INSERT INTO new_endpoint (id, tenant_id, methods, route, script_id, auth, created_at_ms, version_id, revision, record)
SELECT id, tenant_id, methods, route, script_id, auth, created_at_ms, version_id, revision, record FROM endpoint;
-- No id is used twice, also not one whose endpoint is gone.
DELETE FROM sqlite_sequence WHERE name = 'new_endpoint';
INSERT INTO sqlite_sequence (name, seq) SELECT 'new_endpoint', seq FROM sqlite_sequence WHERE name = 'endpoint';
DROP TABLE endpoint;
ALTER TABLE new_endpoint RENAME TO endpoint;

INSERT INTO token_endpoint (token_id, tenant_id, endpoint_id)
SELECT k.token_id, k.tenant_id, k.endpoint_id FROM kept_token_endpoint k
WHERE NOT EXISTS (SELECT 1 FROM token_endpoint t WHERE t.token_id = k.token_id AND t.endpoint_id = k.endpoint_id);
DROP TABLE kept_token_endpoint;

-- Whether everybody may read the OpenAPI document of the tenant's endpoints.
ALTER TABLE tenant ADD COLUMN public_document BIGINT NOT NULL DEFAULT 0 CHECK (public_document IN (0, 1));
