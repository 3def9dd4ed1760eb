-- When the source of a version was destroyed with what was made of it. Its number, hash, author and message stay.
ALTER TABLE version ADD COLUMN purged_at_ms BIGINT;
