-- Times are milliseconds since 1970, lengths of time milliseconds. What a client may have put a NUL character into is
-- BYTEA, or JSON in a TEXT, where a NUL is written as an escape. JSONB would refuse it, and would change the bytes.
-- An index on the road of every job costs as much as a row: where it can, an index holds only the few rows that
-- somebody looks for.

-- `feed` is the number of the tenant's newest event. Each transaction locks the row last and holds it until its commit:
-- so no number can be seen before a lower one. The room lets PostgreSQL write the row again on its own page.
CREATE TABLE tenants (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    feed BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.0);

-- Jobs name their kind by number, which keeps rows and indexes short. `spec` is what workers last announced, in JSON.
CREATE TABLE kinds (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT,
    announced_at BIGINT
) WITH (fillfactor = 50);

-- Input and output stand in the row: small ones cost less than a row of their own, and PostgreSQL itself keeps large
-- ones apart and leaves them alone when the rest of the row changes. What never changes comes first.
CREATE TABLE jobs (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,     -- in the order of acceptance
    id UUID NOT NULL,
    tenant BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    timeout BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    backoff BIGINT NOT NULL,
    max_backoff BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    retry_of UUID,                  -- the job that somebody asked to run again, as this one
    priority SMALLINT NOT NULL,
    at_most_once BOOLEAN NOT NULL,

    phase SMALLINT NOT NULL,        -- 0 scheduled, 1 ready, 2 sent, 3 running, 4 retrying, 5 succeeded, 6 failed, 7 canceled, 8 expired
    awaited BOOLEAN NOT NULL,
    alone BOOLEAN NOT NULL DEFAULT false,
    early BOOLEAN,                  -- set: the current dispatch was acknowledged before its end, and a crash is charged or not
    run_at BIGINT NOT NULL,
    lease_until BIGINT,             -- set while sent or running
    attempt BIGINT NOT NULL,
    dispatch BIGINT NOT NULL,
    signal BIGINT NOT NULL DEFAULT 0,
    seq BIGINT NOT NULL,
    vanished BIGINT NOT NULL DEFAULT 0,
    crashes BIGINT NOT NULL DEFAULT 0,
    started_at BIGINT,
    finished_at BIGINT,
    cancel_requested_at BIGINT,

    key BYTEA,                      -- its idempotency key, to find the row in `keys` without an index there
    tags TEXT,                      -- JSON object; NULL without tags
    progress TEXT,                  -- JSON
    error TEXT,                     -- JSON: a problem
    input BYTEA NOT NULL,
    output BYTEA
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
-- To compress takes longer than to write.
ALTER TABLE jobs ALTER COLUMN input SET STORAGE EXTERNAL, ALTER COLUMN output SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX jobs_id ON jobs (id);
-- Which job goes out next.
CREATE INDEX jobs_ready ON jobs (kind, priority DESC, n) WHERE phase = 1;
-- `kind` lets the count of jobs that are out be read from the index alone.
CREATE INDEX jobs_leases ON jobs (lease_until, kind) WHERE lease_until IS NOT NULL;
CREATE INDEX jobs_due ON jobs (run_at, kind, phase) WHERE phase IN (0, 4);
-- What has started once does not expire: without that condition the sweeper would look at the same rows for ever.
CREATE INDEX jobs_expiring ON jobs (expires_at)
    WHERE expires_at IS NOT NULL AND started_at IS NULL AND phase IN (0, 1);
-- For retention, which differs from kind to kind. A job with a key is looked for by the age of its key: looked for by its
-- end, one whose key must stay would be looked at each time.
CREATE INDEX jobs_finished ON jobs (kind, finished_at) WHERE finished_at IS NOT NULL AND key IS NULL;
CREATE INDEX jobs_finished_keyed ON jobs (kind, created_at) WHERE finished_at IS NOT NULL AND key IS NOT NULL;
-- For lists: those that went wrong are few, and people look for them.
CREATE INDEX jobs_unlucky ON jobs (tenant, n) WHERE phase IN (6, 7, 8);
-- For lists of one kind. It pays although every job enters it: without it, a list of a rare kind reads all jobs.
CREATE INDEX jobs_kind ON jobs (tenant, kind, n);

-- Written only for jobs with tags. `n` last: a list by tag comes out in order.
CREATE TABLE job_tags (
    tenant BIGINT NOT NULL,
    name BYTEA NOT NULL,
    value BYTEA NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, value, n)
);
CREATE INDEX job_tags_job ON job_tags (n);

-- A key goes with its job, never before it.
CREATE TABLE keys (
    tenant BIGINT NOT NULL,
    name BYTEA NOT NULL,
    fingerprint BYTEA NOT NULL,
    job UUID NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- The log of every job. `type`: 0 accepted, 1 started, 2 progress, 3 retrying, 4 succeeded, 5 failed, 6 expired,
-- 7 canceled. Terminal entries have no data: that is the job itself.
CREATE TABLE events (
    tenant BIGINT NOT NULL,
    feed BIGINT NOT NULL,
    job BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    type SMALLINT NOT NULL,
    data TEXT,                      -- JSON
    PRIMARY KEY (tenant, feed)
);
CREATE UNIQUE INDEX events_job ON events (job, seq);

CREATE TABLE workers (
    id UUID PRIMARY KEY,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    told TEXT NOT NULL              -- JSON: host, version, and the kinds with their slots
) WITH (fillfactor = 50);

-- One row, written to see whether writing works.
CREATE TABLE probes (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL
) WITH (fillfactor = 20);
