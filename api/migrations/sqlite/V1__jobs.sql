-- Times are milliseconds since 1970, lengths of time milliseconds, ids the 16 bytes of the UUID.
-- An index on the road of every job costs as much as a row: where it can, an index holds only the few rows that
-- somebody looks for, and what is submitted, claimed and finished in one go never enters the others.

-- 'Buzz': by it a file is known as ours before anything is written to it.
PRAGMA application_id = 0x42757A7A;

-- `feed` is the number of the tenant's newest event. The writer counts in memory and writes the row last, once for
-- each commit.
CREATE TABLE tenants (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    feed INTEGER NOT NULL
) STRICT;

-- Jobs name their kind by number, which keeps rows and indexes short. `spec` is what workers last announced, in JSON.
CREATE TABLE kinds (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT,
    announced_at INTEGER
) STRICT;

-- Input and output lie apart (`inputs`, `outputs`): a change of state must not rewrite a megabyte. What never changes
-- comes first.
CREATE TABLE jobs (
    n INTEGER PRIMARY KEY,          -- in the order of acceptance
    id BLOB NOT NULL UNIQUE,
    tenant INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    timeout INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    backoff INTEGER NOT NULL,
    max_backoff INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    key TEXT,                       -- its idempotency key, to find the row in `keys` without an index there
    tags TEXT,                      -- JSON object; NULL without tags

    phase INTEGER NOT NULL,         -- 0 scheduled, 1 ready, 2 sent, 3 running, 4 retrying, 5 succeeded, 6 failed, 8 expired
    run_at INTEGER NOT NULL,
    lease_until INTEGER,            -- set while sent or running
    attempt INTEGER NOT NULL,
    dispatch INTEGER NOT NULL,
    awaited INTEGER NOT NULL,
    signal INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    progress TEXT,                  -- JSON
    error TEXT                      -- JSON: a problem
) STRICT;

-- Which job goes out next; `n` follows by itself. `phase` takes no room, and lets counts be read from the index alone.
CREATE INDEX jobs_ready ON jobs (phase, kind, priority DESC) WHERE phase = 1;
-- `kind` lets the count of jobs that are out be read from the index alone.
CREATE INDEX jobs_leases ON jobs (lease_until, kind) WHERE lease_until IS NOT NULL;
CREATE INDEX jobs_due ON jobs (run_at, kind, phase) WHERE phase IN (0, 4);
-- What has started once does not expire: without that condition the sweeper would look at the same rows for ever.
CREATE INDEX jobs_expiring ON jobs (expires_at)
    WHERE expires_at IS NOT NULL AND started_at IS NULL AND phase IN (0, 1);
-- For retention. Rows only ever arrive at its end.
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
-- For lists: those that went wrong are few, and people look for them.
CREATE INDEX jobs_unlucky ON jobs (tenant, phase) WHERE phase IN (6, 8);
-- For lists of one kind. It pays although every job enters it, once: without it, a list of a rare kind reads all jobs.
CREATE INDEX jobs_kind ON jobs (tenant, kind);

CREATE TABLE inputs (n INTEGER PRIMARY KEY, input BLOB NOT NULL) STRICT;
CREATE TABLE outputs (n INTEGER PRIMARY KEY, output BLOB NOT NULL) STRICT;

-- Written only for jobs with tags. `n` last: a list by tag comes out in order.
CREATE TABLE job_tags (
    tenant INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, value, n)
) STRICT, WITHOUT ROWID;

-- A key goes with its job, never before it.
CREATE TABLE keys (
    tenant INTEGER NOT NULL,
    name TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- The log of every job. The rows lie in the order of the tenant's feed, so writing appends, and reading a feed is one
-- sweep; a job's own few entries are found by the short index. `type`: 0 accepted, 1 started, 2 progress, 3 retrying,
-- 4 succeeded, 5 failed, 6 expired. Terminal entries have no data: that is the job itself.
CREATE TABLE events (
    tenant INTEGER NOT NULL,
    feed INTEGER NOT NULL,
    job INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    type INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    data TEXT,                      -- JSON
    PRIMARY KEY (tenant, feed)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX events_job ON events (job, seq);

CREATE TABLE workers (
    id BLOB PRIMARY KEY,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    kinds TEXT NOT NULL             -- JSON object: name to slots
) STRICT, WITHOUT ROWID;

-- One row, written to see whether writing works.
CREATE TABLE probes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
