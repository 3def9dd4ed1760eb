-- How many of the changes that `counter` counts concern one tenant, which `tenant_change` names, or nothing that hosts remember; all others
-- concern every tenant. An older pqhost counts none here, so that hosts read everything anew after its changes.
ALTER TABLE change ADD COLUMN attributed BIGINT NOT NULL DEFAULT 0;

-- What `change.counter` was after the last change of a tenant. No foreign key: hosts are told of a tenant's deletion, too.
CREATE TABLE tenant_change (
    tenant_id BIGINT NOT NULL PRIMARY KEY,
    counter   BIGINT NOT NULL
);

-- For finding what has changed since a host last looked.
CREATE INDEX tenant_change_by_counter ON tenant_change (counter);
