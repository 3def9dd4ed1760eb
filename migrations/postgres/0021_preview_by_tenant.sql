-- A tenant's previews are found when it is exported; the hash finds one.
CREATE INDEX preview_by_tenant ON preview (tenant_id);
