-- A value that the first host has sealed: who cannot open it has another key than those that use this database. One row.
CREATE TABLE vault_check (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    sealed BLOB NOT NULL
);
