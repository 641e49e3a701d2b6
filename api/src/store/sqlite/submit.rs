use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::Tenant;
use rusqlite::{OptionalExtension, params};

use super::log;
use super::row;
use super::session::Session;
use crate::store::stored::{Stored, select_jobs};
use crate::store::{Key, StoreError, Submission, Submitted};

/// Keeps a new job, unless its key was used before.
pub(super) fn submit(session: &Session, submission: &Submission) -> Result<Submitted, StoreError> {
    let job = &submission.accepted.job;
    let tenant = session.keep_tenant(&job.tenant)?;
    if let Some(key) = &submission.key
        && let Some(earlier) = earlier(session, tenant, key)?
    {
        return Ok(earlier);
    }
    let key = submission.key.as_ref();
    let n = row::insert(session, job, tenant, key.map(|key| key.name.as_str()))?;
    session.execute("INSERT INTO inputs (n, input) VALUES (?1, ?2)", params![n, &submission.input[..]])?;
    if let Some(key) = key.filter(|_| !bites(Fault::ForgetKey)) {
        session.execute(
            "INSERT INTO keys (tenant, name, fingerprint, job) VALUES (?1, ?2, ?3, ?4)",
            params![tenant, key.name, key.fingerprint, n],
        )?;
    }
    for (name, value) in &job.tags {
        session.execute(
            "INSERT INTO job_tags (tenant, name, value, n) VALUES (?1, ?2, ?3, ?4)",
            params![tenant, name, value, n],
        )?;
    }
    let stored = Stored { n, tenant, job: job.clone() };
    log::write(session, &stored, &submission.accepted.effects, job.created_at)?;
    Ok(Submitted::New)
}

/// What a key of this tenant stands for.
pub(super) fn keyed(session: &Session, tenant: &Tenant, key: &Key) -> Result<Option<Submitted>, StoreError> {
    match session.tenant_id(tenant)? {
        Some(tenant) => earlier(session, tenant, key),
        None => Ok(None),
    }
}

/// What the key stood for before.
fn earlier(session: &Session, tenant: i64, key: &Key) -> Result<Option<Submitted>, StoreError> {
    let used: Option<(Vec<u8>, i64)> = session
        .prepare("SELECT fingerprint, job FROM keys WHERE tenant = ?1 AND name = ?2")?
        .query_one(params![tenant, key.name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((fingerprint, n)) = used else { return Ok(None) };
    if fingerprint != key.fingerprint {
        return Ok(Some(Submitted::KeyReused));
    }
    let found = row::all(session, select_jobs!("WHERE j.n = ?1"), [n])?.into_iter().next();
    let stored = found.ok_or_else(|| StoreError::Corrupt(format!("the key {:?} without its job", key.name)))?;
    Ok(Some(Submitted::Repeated(Box::new(stored.job))))
}
