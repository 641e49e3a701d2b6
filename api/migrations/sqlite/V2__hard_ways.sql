-- Cancel, suspects, early acknowledgement, retry by hand, retention per kind.

-- The job that somebody asked to run again, as this one.
ALTER TABLE jobs ADD COLUMN retry_of BLOB;
-- 1: never run twice.
ALTER TABLE jobs ADD COLUMN at_most_once INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN cancel_requested_at INTEGER;
-- NULL: the current dispatch is acknowledged at its end; 0 or 1: it was before, and a crash is charged or not.
ALTER TABLE jobs ADD COLUMN early INTEGER;
ALTER TABLE jobs ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN vanished INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;

-- Phase 7 is canceled, and so is an event of type 7.
DROP INDEX jobs_unlucky;
CREATE INDEX jobs_unlucky ON jobs (tenant, phase) WHERE phase IN (6, 7, 8);

-- For retention, which differs from kind to kind. A job with a key is looked for by the age of its key: looked for by its
-- end, one whose key must stay would be looked at each time.
DROP INDEX jobs_finished;
CREATE INDEX jobs_finished ON jobs (kind, finished_at) WHERE finished_at IS NOT NULL AND key IS NULL;
CREATE INDEX jobs_finished_keyed ON jobs (kind, created_at) WHERE finished_at IS NOT NULL AND key IS NOT NULL;
