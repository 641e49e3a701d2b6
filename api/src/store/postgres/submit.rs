use std::collections::{BTreeMap, HashMap};

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::error::Failure;
use super::names::Names;
use super::row::{self, json};
use super::writes::Writes;
use crate::lifecycle::Job;
use crate::store::stored::{COLUMNS, Stored, job_columns};
use crate::store::{Key, Submission, Submitted, code};

/// An idempotency key of a tenant, as it is found in the store.
type Name<'a> = (i64, &'a [u8]);

/// A new row, and the numbers that its names stand for.
struct New<'a> {
    submission: &'a Submission,
    tenant: i64,
    kind: i64,
}

/// Keeps new jobs, except those whose key was used before. One answer for each.
///
/// Their tenants and kinds have numbers already. Nothing that others can wait for is written before the keys; and these are
/// written in their order, so that two replicas with the same keys wait for each other in one direction only.
pub(super) async fn submit<'a>(
    client: &impl GenericClient,
    names: &Names,
    submissions: &[&'a Submission],
    writes: &mut Writes,
) -> Result<Vec<Submitted>, Failure> {
    let named = |submission: &&'a Submission| {
        let job = &submission.accepted.job;
        Ok(New { submission, tenant: names.kept_tenant(&job.tenant)?, kind: names.kept_kind(&job.kind)? })
    };
    let mut new = submissions.iter().map(named).collect::<Result<Vec<_>, Failure>>()?;
    let mut first: BTreeMap<Name<'_>, &Submission> = BTreeMap::new();
    for one in &new {
        if let Some(name) = one.name() {
            first.entry(name).or_insert(one.submission);
        }
    }
    let taken = take_keys(client, names, &first).await?;
    let answers = new.iter().map(|one| one.answer(&first, &taken)).collect::<Vec<_>>();
    new = new.into_iter().zip(&answers).filter(|(_, answer)| **answer == Submitted::New).map(|(one, _)| one).collect();
    insert(client, &new, writes).await?;
    Ok(answers)
}

impl<'a> New<'a> {
    fn job(&self) -> &'a Job {
        &self.submission.accepted.job
    }

    fn name(&self) -> Option<Name<'a>> {
        self.submission.key.as_ref().map(|key| (self.tenant, key.name.as_bytes()))
    }

    /// What to answer, once it is known which keys were used before, and who came first with each.
    fn answer(&self, first: &BTreeMap<Name<'_>, &Submission>, taken: &HashMap<(i64, Vec<u8>), Used>) -> Submitted {
        let (Some(name), Some(key)) = (self.name(), &self.submission.key) else { return Submitted::New };
        if let Some(used) = taken.get(&(name.0, name.1.to_vec())) {
            return used.answer(key);
        }
        match first.get(&name) {
            Some(first) if !std::ptr::eq(*first, self.submission) => {
                let fingerprint = first.key.as_ref().map(|key| key.fingerprint).unwrap_or_default();
                Used { fingerprint: fingerprint.to_vec(), job: first.accepted.job.clone() }.answer(key)
            }
            _ => Submitted::New,
        }
    }
}

/// What a key stands for.
struct Used {
    fingerprint: Vec<u8>,
    job: Job,
}

impl Used {
    fn answer(&self, key: &Key) -> Submitted {
        if self.fingerprint == key.fingerprint {
            Submitted::Repeated(Box::new(self.job.clone()))
        } else {
            Submitted::KeyReused
        }
    }
}

/// Writes the keys that are free, and tells what the others stand for. Waits for replicas that are about to write one
/// of them.
async fn take_keys(
    client: &impl GenericClient,
    names: &Names,
    first: &BTreeMap<Name<'_>, &Submission>,
) -> Result<HashMap<(i64, Vec<u8>), Used>, Failure> {
    if first.is_empty() {
        return Ok(HashMap::new());
    }
    let tenants: Vec<i64> = first.keys().map(|(tenant, _)| *tenant).collect();
    let keys: Vec<&[u8]> = first.keys().map(|(_, name)| *name).collect();
    let fingerprints: Vec<&[u8]> =
        first.values().map(|submission| submission.key.as_ref().map_or(&[][..], |key| &key.fingerprint)).collect();
    let jobs: Vec<Uuid> = first.values().map(|submission| *submission.accepted.job.id.as_uuid()).collect();
    let written = row::execute(
        client,
        "INSERT INTO keys (tenant, name, fingerprint, job) \
         SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::uuid[]) ON CONFLICT DO NOTHING",
        &[&tenants, &keys, &fingerprints, &jobs],
    )
    .await?;
    if usize::try_from(written).is_ok_and(|written| written == first.len()) {
        return Ok(HashMap::new());
    }
    let found = used(client, names, &tenants, &keys).await?;
    // Ours have no job yet: they are not found. A key that was forgotten just now is neither ours nor found.
    if found.len() as u64 + written < first.len() as u64 {
        return Err(Failure::Clash("a key was given up at the same moment".into()));
    }
    Ok(found)
}

/// What these keys stand for, as far as their jobs are there.
async fn used(
    client: &impl GenericClient,
    names: &Names,
    tenants: &[i64],
    keys: &[&[u8]],
) -> Result<HashMap<(i64, Vec<u8>), Used>, Failure> {
    let rows = row::query(
        client,
        concat!(
            "SELECT ",
            job_columns!(),
            ", k.tenant, k.name, k.fingerprint FROM unnest($1::bigint[], $2::bytea[]) AS u (tenant, name) \
             JOIN keys AS k ON k.tenant = u.tenant AND k.name = u.name JOIN jobs AS j ON j.id = k.job"
        ),
        &[&tenants, &keys],
    )
    .await?;
    names.learn(client, &rows).await?;
    let mut used = HashMap::new();
    for row in &rows {
        let name = (row.try_get(COLUMNS)?, row.try_get(COLUMNS + 1)?);
        let job = row::stored(names, row)?.job;
        used.insert(name, Used { fingerprint: row.try_get(COLUMNS + 2)?, job });
    }
    Ok(used)
}

/// What a key of this tenant stands for.
pub(super) async fn keyed(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    key: &Key,
) -> Result<Option<Submitted>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else { return Ok(None) };
    let used = used(client, names, &[tenant], &[key.name.as_bytes()]).await?;
    Ok(used.into_values().next().map(|used| used.answer(key)))
}

async fn insert(client: &impl GenericClient, new: &[New<'_>], writes: &mut Writes) -> Result<(), Failure> {
    if new.is_empty() {
        return Ok(());
    }
    let numbers = insert_jobs(client, new).await?;
    for one in new {
        let id = one.job().id;
        let n = *numbers.get(id.as_uuid()).ok_or_else(|| Failure::Corrupt(format!("{id} was not kept")))?;
        let stored = Stored { n, tenant: one.tenant, job: one.job().clone() };
        writes.accept(stored, one.submission.accepted.effects.clone());
    }
    insert_tags(client, new, &numbers).await
}

/// Writes the rows, and tells the number of each.
async fn insert_jobs(client: &impl GenericClient, new: &[New<'_>]) -> Result<HashMap<Uuid, i64>, Failure> {
    fn column<'a, T>(new: &[New<'a>], of: impl Fn(&'a Job) -> T) -> Vec<T> {
        new.iter().map(|one| of(one.job())).collect()
    }
    let time = |of: fn(&Job) -> Option<Time>| column(new, |job| of(job).map(Time::as_millis));
    let count = |of: fn(&Job) -> u32| column(new, |job| i64::from(of(job)));
    let tags = |one: &New<'_>| match &one.job().tags {
        tags if tags.is_empty() => Ok(None),
        tags => serde_json::to_string(tags).map(Some),
    };
    let rows = row::query(
        client,
        "INSERT INTO jobs (id, tenant, kind, priority, timeout, max_attempts, backoff, max_backoff, created_at, \
         expires_at, key, tags, phase, run_at, lease_until, attempt, dispatch, awaited, seq, retry_of, at_most_once, \
         webhook, input) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], \
         $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::text[], \
         $13::smallint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bool[], $19::bigint[], \
         $20::uuid[], $21::bool[], $22::text[], $23::bytea[]) RETURNING id, n",
        &[
            &column(new, |job| *job.id.as_uuid()),
            &new.iter().map(|one| one.tenant).collect::<Vec<_>>(),
            &new.iter().map(|one| one.kind).collect::<Vec<_>>(),
            &column(new, |job| i16::from(job.priority.get())),
            &column(new, |job| code::of_length(job.timeout)),
            &count(|job| job.retry.max_attempts),
            &column(new, |job| code::of_length(job.retry.backoff.as_duration())),
            &column(new, |job| code::of_length(job.retry.max_backoff.as_duration())),
            &column(new, |job| job.created_at.as_millis()),
            &time(|job| job.expires_at),
            &new.iter().map(|one| one.name().map(|(_, name)| name)).collect::<Vec<_>>(),
            &new.iter().map(tags).collect::<Result<Vec<_>, _>>()?,
            &column(new, |job| code::of_phase(job.phase)),
            &column(new, |job| job.run_at.as_millis()),
            &time(|job| job.phase.lease()),
            &count(|job| job.attempt),
            &count(|job| job.dispatch),
            &column(new, |job| job.awaited),
            &count(|job| job.seq),
            &column(new, |job| job.retry_of.as_ref().map(|id| *JobId::as_uuid(id))),
            &column(new, |job| job.delivery == DeliveryMode::AtMostOnce),
            &column(new, |job| json(job.webhook.as_ref())).into_iter().collect::<Result<Vec<_>, _>>()?,
            &new.iter().map(|one| &one.submission.input[..]).collect::<Vec<_>>(),
        ],
    )
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn insert_tags(
    client: &impl GenericClient,
    new: &[New<'_>],
    numbers: &HashMap<Uuid, i64>,
) -> Result<(), Failure> {
    let (mut tenants, mut tags, mut values, mut jobs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in new {
        for (name, value) in &one.job().tags {
            tenants.push(one.tenant);
            tags.push(name.as_bytes());
            values.push(value.as_bytes());
            jobs.push(numbers.get(one.job().id.as_uuid()).copied());
        }
    }
    if !jobs.is_empty() {
        row::execute(
            client,
            "INSERT INTO job_tags (tenant, name, value, n) \
             SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[])",
            &[&tenants, &tags, &values, &jobs],
        )
        .await?;
    }
    Ok(())
}
