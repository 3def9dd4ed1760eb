-- Keys that partners present at endpoints with the auth mode `key`. Of a key only a hash is kept.
CREATE TABLE consumer_key (
    id              TEXT COLLATE "C" PRIMARY KEY,
    tenant_id       BIGINT NOT NULL,
    name            TEXT COLLATE "C" NOT NULL,
    hash            TEXT COLLATE "C" NOT NULL CONSTRAINT consumer_key_hash UNIQUE,
    -- The methods that it is for; all if NULL.
    methods         TEXT COLLATE "C",
    -- With 1 it is for the endpoints in `consumer_key_endpoint` only.
    restricted      BIGINT NOT NULL DEFAULT 0 CHECK (restricted IN (0, 1)),
    -- A JSON object: what the tenant wrote down about the key's holder.
    attributes      TEXT COLLATE "C" NOT NULL,
    -- A JSON array; NULL does not filter.
    row_filters     TEXT COLLATE "C",
    -- A JSON object; NULL does not limit.
    rate_limit      TEXT COLLATE "C",
    revision        BIGINT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    expires_at_ms   BIGINT NOT NULL,
    last_used_at_ms BIGINT,
    revoked_at_ms   BIGINT,
    CONSTRAINT consumer_key_tenant FOREIGN KEY (tenant_id) REFERENCES tenant (id) ON DELETE CASCADE
);

-- For lists.
CREATE INDEX consumer_key_by_tenant ON consumer_key (tenant_id, id);

-- For deleting what has expired.
CREATE INDEX consumer_key_by_expiry ON consumer_key (expires_at_ms);

CREATE TABLE consumer_key_endpoint (
    key_id      TEXT COLLATE "C" NOT NULL,
    tenant_id   BIGINT NOT NULL,
    endpoint_id BIGINT NOT NULL,
    PRIMARY KEY (key_id, endpoint_id),
    CONSTRAINT consumer_key_endpoint_key FOREIGN KEY (key_id) REFERENCES consumer_key (id) ON DELETE CASCADE,
    CONSTRAINT consumer_key_endpoint_endpoint FOREIGN KEY (endpoint_id) REFERENCES endpoint (id) ON DELETE CASCADE
);

-- For deleting an endpoint.
CREATE INDEX consumer_key_endpoint_by_endpoint ON consumer_key_endpoint (endpoint_id);
