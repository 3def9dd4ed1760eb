-- People, what they may do, and what they did. See 0001 for the conventions.

CREATE TABLE user_account (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    email         TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT user_account_email_taken UNIQUE (email)
);

-- What a user may do in a tenant.
CREATE TABLE member (
    tenant_id     BIGINT NOT NULL REFERENCES tenant (id),
    user_id       BIGINT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('viewer', 'author', 'owner')),
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT member_user FOREIGN KEY (user_id) REFERENCES user_account (id)
);
CREATE INDEX member_by_user ON member (user_id);

-- What the control API accepts: `operator` for everything, `tenant` for one tenant in a role, `user` and `session` for a user.
-- Never the text itself; `hash` is that of 32 random bytes.
CREATE TABLE credential (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL CHECK (kind IN ('operator', 'tenant', 'user', 'session')),
    user_id         BIGINT,
    tenant_id       BIGINT REFERENCES tenant (id),
    role            TEXT CHECK (role IN ('viewer', 'author', 'owner')),
    name            TEXT NOT NULL,
    hash            TEXT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    expires_at_ms   BIGINT NOT NULL,
    last_used_at_ms BIGINT,
    revoked_at_ms   BIGINT,
    CONSTRAINT credential_hash_taken UNIQUE (hash),
    CONSTRAINT credential_user FOREIGN KEY (user_id) REFERENCES user_account (id),
    CONSTRAINT credential_kind CHECK (
        (kind IN ('user', 'session')) = (user_id IS NOT NULL)
        AND (kind = 'tenant') = (tenant_id IS NOT NULL)
        AND (kind = 'tenant') = (role IS NOT NULL)
    )
);
CREATE INDEX credential_by_user ON credential (user_id);
CREATE INDEX credential_by_tenant ON credential (tenant_id);

-- Every change, written in the transaction that made it. No foreign keys: it outlives what it names.
CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id BIGINT,
    actor     TEXT NOT NULL,
    action    TEXT NOT NULL,
    target    TEXT NOT NULL,
    at_ms     BIGINT NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant_id, seq);

-- Answers to creates, kept for a day, so that a request that is sent twice creates once. `status` is absent while it runs,
-- `body` also when the answer held a secret.
CREATE TABLE idempotency (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    key_hash      TEXT NOT NULL,
    request_hash  TEXT NOT NULL,
    status        BIGINT,
    body          BLOB,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT idempotency_key_taken UNIQUE (key_hash)
);
CREATE INDEX idempotency_by_time ON idempotency (created_at_ms);

-- The version that endpoints serve unless they name one, and the one that was served before it. Until now: the newest.
ALTER TABLE script ADD COLUMN live_version_id BIGINT;
ALTER TABLE script ADD COLUMN previous_version_id BIGINT;
UPDATE script SET live_version_id = (SELECT v.id FROM version v WHERE v.script_id = script.id ORDER BY v.number DESC LIMIT 1);

ALTER TABLE version ADD COLUMN author TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN message TEXT NOT NULL DEFAULT '';

-- The version that an endpoint serves, whatever the script's live one is. `revision` counts changes.
ALTER TABLE endpoint ADD COLUMN version_id BIGINT;
ALTER TABLE endpoint ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

-- What an author works on before publishing it: a JSON array of file name and content in base64.
CREATE TABLE script_draft (
    tenant_id     BIGINT NOT NULL,
    script_id     BIGINT NOT NULL,
    files         TEXT NOT NULL,
    revision      BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (script_id),
    CONSTRAINT script_draft_script FOREIGN KEY (tenant_id, script_id) REFERENCES script (tenant_id, id)
);

-- Addresses at which a version answers that is not served yet. Never the token itself.
CREATE TABLE preview (
    hash          TEXT PRIMARY KEY,
    tenant_id     BIGINT NOT NULL,
    version_id    BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    CONSTRAINT preview_version FOREIGN KEY (tenant_id, version_id) REFERENCES version (tenant_id, id)
);
