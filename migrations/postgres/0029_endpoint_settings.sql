-- An endpoint is answered by a script, or by a table or query directly: then `source` is a JSON `TableSource` and there is no script.
-- `settings` is a JSON `EndpointSettings`.
ALTER TABLE endpoint ALTER COLUMN script_id DROP NOT NULL;
ALTER TABLE endpoint ADD COLUMN source TEXT COLLATE "C";
ALTER TABLE endpoint ADD COLUMN enabled BIGINT NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1));
ALTER TABLE endpoint ADD COLUMN settings TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE endpoint ADD CONSTRAINT endpoint_answers CHECK ((script_id IS NULL) = (source IS NOT NULL));

-- Whether everybody may read the OpenAPI document of the tenant's endpoints.
ALTER TABLE tenant ADD COLUMN public_document BIGINT NOT NULL DEFAULT 0 CHECK (public_document IN (0, 1));
