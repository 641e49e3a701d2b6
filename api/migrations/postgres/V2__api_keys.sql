-- By which clients are let in. `hash` is the SHA-256 of a key's text, which is kept nowhere.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,            -- the beginning of the hash, to list and revoke by
    hash BYTEA NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    name TEXT,                      -- what it is for
    scopes TEXT NOT NULL,           -- words with a blank between them
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
