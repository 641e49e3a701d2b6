use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::State;
use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::names::Names;
use super::row::{self, Parameters};
use crate::store::stored::{COLUMNS, job_columns};
use crate::store::{Filter, JobWithContent, Listed, Page, code};

/// One job with its input and output.
pub(super) async fn with_content(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: JobId,
) -> Result<Option<JobWithContent>, Failure> {
    let sql = concat!("SELECT ", job_columns!(), ", j.input, j.output FROM jobs AS j WHERE j.id = $1");
    let found = whole(client, names, tenant, sql, &[id.as_uuid()]).await?;
    Ok(found.into_iter().next())
}

/// Those of these jobs whose input and output are small.
pub(super) async fn small(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    ids: &[JobId],
    most: usize,
) -> Result<Vec<JobWithContent>, Failure> {
    let sql = concat!(
        "SELECT ",
        job_columns!(),
        ", j.input, j.output FROM jobs AS j WHERE j.id = ANY($1) \
         AND octet_length(j.input) + coalesce(octet_length(j.output), 0) <= $2"
    );
    let ids: Vec<_> = ids.iter().map(|id| *id.as_uuid()).collect();
    whole(client, names, tenant, sql, &[&ids, &i32::try_from(most).unwrap_or(i32::MAX)]).await
}

/// The jobs of a statement that selects them with input and output, as far as they are this tenant's.
async fn whole(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Vec<JobWithContent>, Failure> {
    let rows = row::query(client, sql, parameters).await?;
    names.learn(client, &rows).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = row::stored(names, row)?.job;
        if job.tenant == *tenant {
            let input = row::bytes(row, COLUMNS)?.unwrap_or_default();
            found.push(JobWithContent { job, input, output: row::bytes(row, COLUMNS + 1)? });
        }
    }
    Ok(found)
}

/// A tenant's jobs, newest first.
pub(super) async fn jobs(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    filter: &Filter,
    page: Page,
) -> Result<Vec<Listed>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else {
        return Ok(Vec::new());
    };
    let kind = match &filter.kind {
        Some(kind) => names.kind_id(client, kind).await?,
        None => None,
    };
    if kind.is_none() && filter.kind.is_some() {
        return Ok(Vec::new());
    }
    let tag = filter.tag.as_ref();
    let (name, value) = (tag.map(|(name, _)| name.as_bytes()), tag.map(|(_, value)| value.as_bytes()));
    let (after, most) = (page.after.unwrap_or(i64::MAX), code::limit(page.limit));
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&tenant, &after, &most];
    if kind.is_some() {
        parameters.push(&kind);
    }
    if tag.is_some() {
        parameters.extend::<[&(dyn ToSql + Sync); 2]>([&name, &value]);
    }
    let parameters: &Parameters<'_> = &parameters;
    let found = row::all(client, names, &statement(filter), parameters).await?;
    Ok(found.into_iter().map(|stored| Listed { cursor: stored.n, job: stored.job }).collect())
}

/// The statement for a filter.
///
/// Where a state has an index that holds its few rows alone, the list begins there and sorts them: `OFFSET 0` keeps
/// PostgreSQL from going through all jobs by `n` instead, and a tenant that is named there would lead it to another index.
/// All else goes by `n`. `$1` is the tenant, `$2` the cursor, `$3`
/// the limit; what comes then, kind and tag, is numbered as it comes.
pub(super) fn statement(filter: &Filter) -> String {
    let few = |condition: &str| format!("(SELECT * FROM jobs AS j WHERE {condition} OFFSET 0) AS j");
    let from = match (&filter.tag, filter.state) {
        (Some(_), _) => "job_tags AS t JOIN jobs AS j ON j.n = t.n".into(),
        (None, Some(State::Queued)) => {
            let (ready, out) = ("j.phase = 1", "j.lease_until IS NOT NULL");
            format!("(SELECT * FROM {} UNION ALL SELECT * FROM {}) AS j", few(ready), few(out))
        }
        (None, Some(State::Running)) => few("j.lease_until IS NOT NULL"),
        (None, Some(State::Scheduled | State::Retrying)) => few("j.phase IN (0, 4)"),
        (None, Some(State::Failed | State::Canceled | State::Expired)) => few("j.phase IN (6, 7, 8) AND j.tenant = $1"),
        (None, Some(State::Succeeded) | None) => "jobs AS j".into(),
    };
    let kind = if filter.kind.is_some() { "AND j.kind = $4" } else { "" };
    let tag = match (&filter.tag, &filter.kind) {
        (None, _) => "",
        (Some(_), None) => "AND t.tenant = $1 AND t.name = $4 AND t.value = $5",
        (Some(_), Some(_)) => "AND t.tenant = $1 AND t.name = $5 AND t.value = $6",
    };
    let n = if filter.tag.is_some() { "t.n" } else { "j.n" };
    let phase = filter.state.map_or("true", code::is_in);
    format!(
        "SELECT {} FROM {from} WHERE {phase} AND j.tenant = $1 AND {n} < $2 {kind} {tag} ORDER BY {n} DESC LIMIT $3",
        job_columns!()
    )
}
