-- By which browsers are let in for a while, to look. `hash` is the SHA-256 of a ticket's text, which is kept nowhere. Whose
-- it is, its key tells.
CREATE TABLE tickets (
    hash BLOB PRIMARY KEY,
    key BLOB NOT NULL,              -- the hash of the API key that it was made with; empty where nobody needs one
    job BLOB,                       -- the id of the one that it opens; NULL for all
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_key ON tickets (key, expires_at);
CREATE INDEX tickets_expired ON tickets (expires_at);
