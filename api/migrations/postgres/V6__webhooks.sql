-- Webhooks, and what is on its way to them.

-- Where the events of this job are posted, and which: JSON; NULL where its submission named nobody.
ALTER TABLE jobs ADD COLUMN webhook TEXT;

-- How often the webhooks of a tenant have changed; 0 where it never had any. Whoever appends to a log holds this row, so it
-- knows whether it knows them.
ALTER TABLE tenants ADD COLUMN webhooks BIGINT NOT NULL DEFAULT 0;

-- Endpoints that tenants have registered; and, without an id, hosts that jobs have named themselves, which have nothing but
-- their health. `wants` and `secrets` are JSON. `disabled_why`: 0 its owner, 1 gone, 2 failing. What is deleted stays until its
-- deliveries are gone.
CREATE TABLE webhooks (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id UUID UNIQUE,
    tenant BIGINT NOT NULL,
    url TEXT NOT NULL,              -- of a host: scheme, name and port
    wants TEXT,
    description BYTEA,
    secrets TEXT,
    created_at BIGINT NOT NULL,
    failing_since BIGINT,
    paused_until BIGINT,
    slow BOOLEAN NOT NULL DEFAULT false,
    disabled_at BIGINT,
    disabled_why SMALLINT,
    deleted_at BIGINT
) WITH (fillfactor = 50);
CREATE INDEX webhooks_registered ON webhooks (tenant, n) WHERE id IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX webhooks_hosts ON webhooks (tenant, url) WHERE id IS NULL;
CREATE INDEX webhooks_deleted ON webhooks (deleted_at) WHERE deleted_at IS NOT NULL;

-- The secrets for what a tenant's jobs name themselves: JSON.
CREATE TABLE job_secrets (
    tenant BIGINT PRIMARY KEY,
    secrets TEXT NOT NULL
);

-- One event on its way to one endpoint. `job` is NULL for a test.
CREATE TABLE deliveries (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    tenant BIGINT NOT NULL,
    webhook BIGINT NOT NULL,
    job BIGINT,
    seq BIGINT,
    created_at BIGINT NOT NULL,
    due_at BIGINT,                  -- set while waiting
    ended_at BIGINT,
    failed BIGINT NOT NULL DEFAULT 0,
    run UUID,                       -- the id of the job that makes the attempt, set while under way
    type SMALLINT,                  -- of the event, as in `events`
    state SMALLINT NOT NULL,        -- 0 waiting, 1 under way, 2 delivered, 3 failed
    url TEXT,                       -- where a job has named it
    attempts TEXT                   -- JSON; NULL before the first
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
-- The event of a job goes with it, and to each endpoint once.
CREATE UNIQUE INDEX deliveries_job ON deliveries (job, seq, webhook) WHERE job IS NOT NULL;
CREATE INDEX deliveries_due ON deliveries (webhook, due_at, n) WHERE state = 0;
CREATE INDEX deliveries_under_way ON deliveries (webhook, n) WHERE state = 1;
CREATE INDEX deliveries_webhook ON deliveries (webhook, n);
CREATE INDEX deliveries_named ON deliveries (tenant, n) WHERE url IS NOT NULL;
-- Those that are not delivered are few, and people look for them.
CREATE INDEX deliveries_open ON deliveries (webhook, n) WHERE state <> 2;
CREATE INDEX deliveries_tests ON deliveries (created_at) WHERE job IS NULL;
