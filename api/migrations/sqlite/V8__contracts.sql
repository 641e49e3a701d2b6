-- What workers say of kinds, one row for each different thing they said. Versions are numbered from 1 within their kind. `spec`
-- is JSON, with the slots of whoever announced it last.
CREATE TABLE contracts (
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    spec TEXT NOT NULL,
    announced_at INTEGER NOT NULL,   -- for the first time
    seen_at INTEGER NOT NULL,        -- for the last time
    PRIMARY KEY (kind, version)
) STRICT, WITHOUT ROWID;
INSERT INTO contracts (kind, version, spec, announced_at, seen_at)
    SELECT name, 1, spec, announced_at, announced_at FROM kinds WHERE spec IS NOT NULL;
ALTER TABLE kinds DROP COLUMN spec;
ALTER TABLE kinds DROP COLUMN announced_at;
-- JSON objects: name to the version of its contract, and what is not taken with the reasons.
ALTER TABLE workers ADD COLUMN contracts TEXT NOT NULL DEFAULT '{}';
ALTER TABLE workers ADD COLUMN refused TEXT NOT NULL DEFAULT '[]';
