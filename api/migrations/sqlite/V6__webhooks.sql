-- Webhooks, and what is on its way to them.

-- Where the events of this job are posted, and which: JSON; NULL where its submission named nobody.
ALTER TABLE jobs ADD COLUMN webhook TEXT;

-- Endpoints that tenants have registered; and, without an id, hosts that jobs have named themselves, which have nothing but
-- their health. `wants` and `secrets` are JSON. `disabled_why`: 0 its owner, 1 gone, 2 failing. What is deleted stays until its
-- deliveries are gone.
CREATE TABLE webhooks (
    n INTEGER PRIMARY KEY,
    id BLOB UNIQUE,
    tenant INTEGER NOT NULL,
    url TEXT NOT NULL,              -- of a host: scheme, name and port
    wants TEXT,
    description TEXT,
    secrets TEXT,
    created_at INTEGER NOT NULL,
    failing_since INTEGER,
    paused_until INTEGER,
    slow INTEGER NOT NULL DEFAULT 0,
    disabled_at INTEGER,
    disabled_why INTEGER,
    deleted_at INTEGER
) STRICT;
CREATE INDEX webhooks_registered ON webhooks (tenant, n) WHERE id IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX webhooks_hosts ON webhooks (tenant, url) WHERE id IS NULL;
CREATE INDEX webhooks_deleted ON webhooks (deleted_at) WHERE deleted_at IS NOT NULL;

-- The secrets for what a tenant's jobs name themselves: JSON.
CREATE TABLE job_secrets (
    tenant INTEGER PRIMARY KEY,
    secrets TEXT NOT NULL
) STRICT;

-- One event on its way to one endpoint. `job` is NULL for a test.
CREATE TABLE deliveries (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant INTEGER NOT NULL,
    webhook INTEGER NOT NULL,
    url TEXT,                       -- where a job has named it
    job INTEGER,
    seq INTEGER,
    type INTEGER,                   -- of the event, as in `events`
    created_at INTEGER NOT NULL,
    state INTEGER NOT NULL,         -- 0 waiting, 1 under way, 2 delivered, 3 failed
    due_at INTEGER,                 -- set while waiting
    run BLOB,                       -- the id of the job that makes the attempt, set while under way
    ended_at INTEGER,
    failed INTEGER NOT NULL,
    attempts TEXT                   -- JSON; NULL before the first
) STRICT;
-- The event of a job goes with it, and to each endpoint once.
CREATE UNIQUE INDEX deliveries_job ON deliveries (job, seq, webhook) WHERE job IS NOT NULL;
CREATE INDEX deliveries_due ON deliveries (webhook, due_at) WHERE state = 0;
CREATE INDEX deliveries_under_way ON deliveries (webhook) WHERE state = 1;
CREATE INDEX deliveries_webhook ON deliveries (webhook);
CREATE INDEX deliveries_named ON deliveries (tenant) WHERE url IS NOT NULL;
-- Those that are not delivered are few, and people look for them.
CREATE INDEX deliveries_open ON deliveries (webhook) WHERE state <> 2;
CREATE INDEX deliveries_tests ON deliveries (created_at) WHERE job IS NULL;
