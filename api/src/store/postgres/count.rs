use std::collections::{BTreeMap, HashMap};

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;

use super::error::Failure;
use super::names::Names;
use super::row;
use crate::lifecycle::Phase;
use crate::store::{Backlog, Usage};

// Each is answered by an index that holds only what is counted.
const OUT: &str =
    "SELECT kind, 0::smallint, count(*), NULL::bigint FROM jobs WHERE lease_until IS NOT NULL GROUP BY kind";
const DUE: &str = "SELECT kind, phase, count(*), NULL::bigint FROM jobs WHERE phase IN (0, 4) GROUP BY kind, phase";
const READY: &str = "SELECT kind, 1::smallint, count(*), min(n) FROM jobs WHERE phase = 1 GROUP BY kind";

/// So many jobs of a kind are in one place.
struct Count {
    kind: Kind,
    phase: i16,
    jobs: u64,
    /// The one that waits longest.
    first: Option<i64>,
}

async fn by_kind(client: &impl GenericClient, names: &Names, sql: &str) -> Result<Vec<Count>, Failure> {
    let rows = row::query(client, sql, &[]).await?;
    let kinds = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    names.learn_kinds(client, kinds).await?;
    let count = |row: &tokio_postgres::Row| {
        let jobs: i64 = row.try_get(2)?;
        let kind = names.kind(row.try_get(0)?)?;
        Ok(Count { kind, phase: row.try_get(1)?, jobs: jobs.unsigned_abs(), first: row.try_get(3)? })
    };
    rows.iter().map(count).collect()
}

/// How many jobs of each kind are out.
pub(super) async fn out(client: &impl GenericClient, names: &Names) -> Result<HashMap<Kind, usize>, Failure> {
    let counts = by_kind(client, names, OUT).await?;
    let jobs = |count: Count| (count.kind, usize::try_from(count.jobs).unwrap_or(usize::MAX));
    Ok(counts.into_iter().map(jobs).collect())
}

/// Numbers for each kind that has jobs which are not done.
pub(super) async fn backlog(client: &impl GenericClient, names: &Names) -> Result<BTreeMap<Kind, Backlog>, Failure> {
    let mut backlog: BTreeMap<Kind, Backlog> = BTreeMap::new();
    for count in by_kind(client, names, OUT).await? {
        backlog.entry(count.kind).or_default().out = count.jobs;
    }
    for count in by_kind(client, names, DUE).await? {
        let of_kind = backlog.entry(count.kind).or_default();
        if count.phase == 0 {
            of_kind.scheduled = count.jobs;
        } else {
            of_kind.retrying = count.jobs;
        }
    }
    for count in by_kind(client, names, READY).await? {
        let accepted = row::first(client, "SELECT created_at FROM jobs WHERE n = $1", &[&count.first]).await?;
        let of_kind = backlog.entry(count.kind).or_default();
        of_kind.ready = count.jobs;
        of_kind.oldest = accepted.map(|row| row.try_get(0)).transpose()?.map(Time::from_millis);
    }
    Ok(backlog)
}

/// How many ready jobs of its kind go out before this one; `None` beyond `limit`, or when it is not ready itself.
pub(super) async fn place(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: JobId,
    limit: u32,
) -> Result<Option<u32>, Failure> {
    let stored = row::of_tenant(client, names, tenant, id).await?.filter(|stored| stored.job.phase == Phase::Ready);
    let Some(stored) = stored else { return Ok(None) };
    let Some(kind) = names.kind_id(client, &stored.job.kind).await? else {
        return Ok(None);
    };
    let priority = i16::from(stored.job.priority.get());
    let before = row::first(
        client,
        "SELECT count(*) FROM (SELECT * FROM (\
         SELECT 1 FROM jobs WHERE phase = 1 AND kind = $1 AND priority > $2 UNION ALL \
         SELECT 1 FROM jobs WHERE phase = 1 AND kind = $1 AND priority = $2 AND n < $3) AS before LIMIT $4) AS few",
        &[&kind, &priority, &stored.n, &(i64::from(limit) + 1)],
    )
    .await?;
    let before = before.map(|row| row::count(&row, 0)).transpose()?;
    Ok(before.filter(|before| *before <= limit))
}

/// How much there is. Counts are read from indexes that hold only what is not done. Deliveries have jobs, too, that no tenant
/// has handed in; some of them may be done already.
pub(super) async fn usage(client: &impl GenericClient) -> Result<Usage, Failure> {
    let found = row::first(
        client,
        "SELECT (SELECT count(*) FROM jobs WHERE phase = 1) + (SELECT count(*) FROM jobs WHERE lease_until IS NOT NULL) \
         + (SELECT count(*) FROM jobs WHERE phase IN (0, 4)) - (SELECT count(*) FROM deliveries WHERE state = 1), \
         pg_database_size(current_database())",
        &[],
    )
    .await?;
    let Some(row) = found else { return Ok(Usage::default()) };
    let (unfinished, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Usage { unfinished: unfinished.max(0).unsigned_abs(), bytes: bytes.unsigned_abs() })
}

/// Writes a row and reads it back.
pub(super) async fn probe(client: &impl GenericClient, now: Time) -> Result<(), Failure> {
    let found = row::first(
        client,
        "INSERT INTO probes (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = excluded.at RETURNING at",
        &[&now.as_millis()],
    )
    .await?;
    match found.map(|row| row.try_get(0)).transpose()? {
        Some(at) if now == Time::from_millis(at) => Ok(()),
        found => Err(Failure::Corrupt(format!("a probe of {now} is read back as {found:?}"))),
    }
}
