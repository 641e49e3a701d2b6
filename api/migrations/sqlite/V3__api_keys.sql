-- By which clients are let in. `hash` is the SHA-256 of a key's text, which is kept nowhere. The rows say the tenant's
-- name, not its number: whoever makes a key while an API runs must not touch what that one has in memory.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,            -- the beginning of the hash, to list and revoke by
    hash BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    name TEXT,                      -- what it is for
    scopes TEXT NOT NULL,           -- words with a blank between them
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
