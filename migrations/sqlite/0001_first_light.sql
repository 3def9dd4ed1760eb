-- The control database, SQLite dialect. Additive first: the previous binary must run against the new schema for one deploy.
--
-- Only definitions differ between databases (here: INTEGER PRIMARY KEY AUTOINCREMENT, BLOB); statements in src/db are the
-- same everywhere. Times are milliseconds since 1970 UTC. Constraint names are part of the contract: src/db maps them to
-- errors. References between rows of a tenant include the tenant, so no row can point at another tenant's.
-- AUTOINCREMENT: an id is never used twice, because caches and sealed values are bound to ids.

-- One row. Every change of the tables below, except `invocation`, counts it up in the same transaction.
CREATE TABLE change (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    counter BIGINT NOT NULL
);
INSERT INTO change (id, counter) VALUES (1, 0);

CREATE TABLE tenant (
    id                    INTEGER PRIMARY KEY AUTOINCREMENT,
    name                  TEXT NOT NULL,
    default_connection_id BIGINT,
    created_at_ms         BIGINT NOT NULL,
    CONSTRAINT tenant_name_taken UNIQUE (name),
    CONSTRAINT tenant_default_connection FOREIGN KEY (id, default_connection_id) REFERENCES connection (tenant_id, id)
);

-- A database of the tenant. `sealed_url` is ciphertext of the vault; `revision` counts changes of the URL.
CREATE TABLE connection (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    name          TEXT NOT NULL,
    revision      BIGINT NOT NULL,
    sealed_url    BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT connection_name_taken UNIQUE (tenant_id, name),
    CONSTRAINT connection_of_tenant UNIQUE (tenant_id, id)
);

CREATE TABLE script (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    name          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT script_name_taken UNIQUE (tenant_id, name),
    CONSTRAINT script_of_tenant UNIQUE (tenant_id, id)
);

-- Immutable but for what is derived from the source: load mode and image follow the runtime that they were made with.
CREATE TABLE version (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL,
    script_id     BIGINT NOT NULL,
    number        BIGINT NOT NULL CHECK (number >= 1),
    content_hash  TEXT NOT NULL,
    load_mode     TEXT NOT NULL CHECK (load_mode IN ('image', 'per_request')),
    load_reason   TEXT,
    image_hash    TEXT,
    image_bytes   BIGINT CHECK (image_bytes >= 0),
    runtime_hash  TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT version_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id),
    CONSTRAINT version_number_taken UNIQUE (script_id, number),
    CONSTRAINT version_of_tenant UNIQUE (tenant_id, id),
    CONSTRAINT version_image CHECK ((image_hash IS NULL) = (image_bytes IS NULL))
);

-- The source exactly as it was published. File 0 is the one that defines `handler`.
CREATE TABLE version_file (
    tenant_id  BIGINT NOT NULL,
    version_id BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    name       TEXT NOT NULL,
    content    BLOB NOT NULL,
    PRIMARY KEY (version_id, position),
    CONSTRAINT version_file_name_taken UNIQUE (version_id, name),
    CONSTRAINT version_file_version FOREIGN KEY (tenant_id, version_id) REFERENCES version (tenant_id, id)
);

CREATE TABLE endpoint (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    methods       TEXT NOT NULL,
    route         TEXT NOT NULL,
    script_id     BIGINT NOT NULL,
    auth          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT endpoint_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id),
    CONSTRAINT endpoint_route_taken UNIQUE (tenant_id, route, methods)
);

-- Tokens that were issued; never their text. A token whose row is missing or revoked is refused.
CREATE TABLE token (
    id             TEXT PRIMARY KEY,
    tenant_id      BIGINT NOT NULL REFERENCES tenant (id),
    name           TEXT NOT NULL,
    endpoint_route TEXT,
    created_at_ms  BIGINT NOT NULL,
    expires_at_ms  BIGINT NOT NULL,
    revoked_at_ms  BIGINT
);
CREATE INDEX token_by_tenant ON token (tenant_id, created_at_ms);

-- Keys that sign a tenant's tokens. The newest signs; all verify, so keys can rotate with overlap.
CREATE TABLE signing_key (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    kid           TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT signing_key_kid_taken UNIQUE (tenant_id, kid)
);

-- Append-only log. No foreign keys: thousands of rows a second, and what it names is never deleted before it.
-- `seq` is the order of writing, which a reader follows; `id` sorts by start, so a long run is written behind later ones.
CREATE TABLE invocation (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     BIGINT NOT NULL,
    id            TEXT NOT NULL,
    script_id     BIGINT NOT NULL,
    version_id    BIGINT,
    endpoint_id   BIGINT NOT NULL,
    method        TEXT NOT NULL,
    path          TEXT NOT NULL,
    status        BIGINT NOT NULL,
    code          TEXT,
    started_at_ms BIGINT NOT NULL,
    duration_us   BIGINT NOT NULL,
    fuel          BIGINT NOT NULL,
    dirty_pages   BIGINT NOT NULL,
    row_count     BIGINT NOT NULL,
    log           TEXT NOT NULL,
    traceback     TEXT
);
CREATE INDEX invocation_by_tenant ON invocation (tenant_id, seq);
CREATE UNIQUE INDEX invocation_by_id ON invocation (tenant_id, id);
