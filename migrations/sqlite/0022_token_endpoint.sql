-- The endpoints that a token is good for, if not for all: `token.endpoint_route` is only what they are called. An endpoint that is made anew
-- for the same route has another id.
CREATE TABLE token_endpoint (
    token_id    TEXT NOT NULL,
    tenant_id   BIGINT NOT NULL,
    endpoint_id BIGINT NOT NULL,
    PRIMARY KEY (token_id, endpoint_id),
    CONSTRAINT token_endpoint_token FOREIGN KEY (token_id) REFERENCES token (id) ON DELETE CASCADE,
    CONSTRAINT token_endpoint_endpoint FOREIGN KEY (endpoint_id) REFERENCES endpoint (id) ON DELETE CASCADE
);

-- For deleting an endpoint.
CREATE INDEX token_endpoint_by_endpoint ON token_endpoint (endpoint_id);

-- Tokens that are out there stay good for the endpoints that their route has now.
INSERT INTO token_endpoint (token_id, tenant_id, endpoint_id)
SELECT t.id, t.tenant_id, e.id FROM token t JOIN endpoint e ON e.tenant_id = t.tenant_id AND e.route = t.endpoint_route;

-- For deleting what has expired.
CREATE INDEX token_by_expiry ON token (expires_at_ms);
CREATE INDEX preview_by_expiry ON preview (expires_at_ms);
