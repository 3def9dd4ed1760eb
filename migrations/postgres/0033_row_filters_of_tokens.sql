-- The only rows that a token reaches, and that tokens of an issuer reach: a JSON array; NULL does not filter. An older pqhost does not know
-- of them: it lets such tokens reach all rows.
ALTER TABLE token ADD COLUMN row_filters TEXT COLLATE "C";
ALTER TABLE issuer ADD COLUMN row_filters TEXT COLLATE "C";
