-- For deleting what is too old.
CREATE INDEX invocation_by_start ON invocation (started_at_ms);
