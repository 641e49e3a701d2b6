use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::State;
use bytes::Bytes;
use rusqlite::{ToSql, params};

use super::row;
use super::session::Session;
use crate::store::stored::{COLUMNS, Stored, job_columns};
use crate::store::{Filter, JobWithContent, Listed, Page, StoreError, code};

/// One job with its input and output.
pub(super) fn with_content(
    session: &Session,
    tenant: &Tenant,
    id: JobId,
) -> Result<Option<JobWithContent>, StoreError> {
    up_to(session, tenant, id, usize::MAX)
}

/// Those of these jobs whose input and output are small.
pub(super) fn small(
    session: &Session,
    tenant: &Tenant,
    ids: &[JobId],
    most: usize,
) -> Result<Vec<JobWithContent>, StoreError> {
    ids.iter().filter_map(|id| up_to(session, tenant, *id, most).transpose()).collect()
}

/// One job, if its input and output come to `most` bytes at most: a longer one is not even read.
fn up_to(session: &Session, tenant: &Tenant, id: JobId, most: usize) -> Result<Option<JobWithContent>, StoreError> {
    let mut statement = session.prepare(concat!(
        "SELECT ",
        job_columns!(),
        ", i.input, o.output FROM jobs AS j LEFT JOIN inputs AS i ON i.n = j.n LEFT JOIN outputs AS o ON o.n = j.n \
         WHERE j.id = ?1 AND ifnull(length(i.input), 0) + ifnull(length(o.output), 0) <= ?2"
    ))?;
    let mut rows = statement.query(params![id.as_uuid(), code::limit(most)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let Stored { n, job, .. } = row::stored(session, row)?;
    if job.tenant != *tenant {
        return Ok(None);
    }
    let bytes = |column| Ok::<_, StoreError>(row.get::<_, Option<Vec<u8>>>(column)?.map(Bytes::from));
    let input = bytes(COLUMNS)?.ok_or_else(|| StoreError::Corrupt(format!("job {n} has no input")))?;
    Ok(Some(JobWithContent { job, input, output: bytes(COLUMNS + 1)? }))
}

/// A tenant's jobs, newest first.
pub(super) fn jobs(session: &Session, tenant: &Tenant, filter: &Filter, page: Page) -> Result<Vec<Listed>, StoreError> {
    let Some(tenant) = session.tenant_id(tenant)? else {
        return Ok(Vec::new());
    };
    let kind = filter.kind.as_ref().map(|kind| session.kind_id(kind)).transpose()?.flatten();
    if kind.is_none() && filter.kind.is_some() {
        return Ok(Vec::new());
    }
    let sql = statement(filter);
    let tag = filter.tag.as_ref();
    let (name, value) = (tag.map(|(name, _)| name), tag.map(|(_, value)| value));
    let parameters: [&dyn ToSql; 6] =
        [&tenant, &page.after.unwrap_or(i64::MAX), &code::limit(page.limit), &kind, &name, &value];
    // SQLite refuses more than the statement names.
    let named = session.prepare(&sql)?.parameter_count();
    let found = row::all(session, &sql, &parameters[..named])?;
    Ok(found.into_iter().map(|stored| Listed { cursor: stored.n, job: stored.job }).collect())
}

/// The statement for a filter.
///
/// Each begins at the index with the fewest rows to look at, and says so: SQLite knows nothing of how many there are,
/// and might sort a million of them. `NOT INDEXED` goes by `n`. `?1` is the tenant, `?2` the cursor, `?3` the limit,
/// `?4` the kind, `?5` and `?6` the tag.
pub(super) fn statement(filter: &Filter) -> String {
    let phase = match filter.state {
        Some(state) => format!("AND {}", code::is_in(state)),
        None => String::new(),
    };
    let (from, condition, n) = match (&filter.tag, filter.state) {
        (Some(_), _) => {
            ("job_tags AS t CROSS JOIN jobs AS j ON j.n = t.n", "t.tenant = ?1 AND t.name = ?5 AND t.value = ?6", "t.n")
        }
        (None, Some(State::Queued)) => ("jobs AS j NOT INDEXED", QUEUED, "j.n"),
        (None, Some(State::Running)) => ("jobs AS j INDEXED BY jobs_leases", "j.lease_until IS NOT NULL", "j.n"),
        (None, Some(State::Scheduled | State::Retrying)) => {
            ("jobs AS j INDEXED BY jobs_due", "j.phase IN (0, 4)", "j.n")
        }
        (None, Some(State::Failed | State::Canceled | State::Expired)) => {
            ("jobs AS j INDEXED BY jobs_unlucky", "j.phase IN (6, 7, 8)", "j.n")
        }
        (None, Some(State::Succeeded) | None) if filter.kind.is_some() => {
            ("jobs AS j INDEXED BY jobs_kind", "true", "j.n")
        }
        (None, Some(State::Succeeded) | None) => ("jobs AS j NOT INDEXED", "true", "j.n"),
    };
    let kind = if filter.kind.is_some() { "AND j.kind = ?4" } else { "" };
    format!(
        "SELECT {} FROM {from} WHERE {condition} AND j.tenant = ?1 AND {n} < ?2 {kind} {phase} ORDER BY {n} DESC LIMIT ?3",
        job_columns!()
    )
}

/// The few that wait or are on their way, among many that are done.
const QUEUED: &str = "j.n IN (SELECT n FROM jobs INDEXED BY jobs_ready WHERE phase = 1 \
                      UNION ALL SELECT n FROM jobs INDEXED BY jobs_leases WHERE lease_until IS NOT NULL)";
