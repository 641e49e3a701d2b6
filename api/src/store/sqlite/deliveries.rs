use buzzer_shared::id::{DeliveryId, JobId, Tenant, WebhookId};
use buzzer_shared::time::Time;
use bytes::Bytes;
use rusqlite::{OptionalExtension, Params, Row, params};
use uuid::Uuid;

use super::row::{self, from_json, json, time};
use super::session::Session;
use super::webhooks;
use crate::delivery::{self, Delivery, Endpoint, Load, Ripe, Rules, Settled, State, Told, Turn, Webhook, turns};
use crate::lifecycle::{Entry, Job};
use crate::store::stored::{DELIVERY_COLUMNS, Stored, delivery_columns, wanting};
use crate::store::{Addressee, Choice, End, Ended, Letter, Page, Settlement, StoreError, code};

/// `SELECT` with the columns of a delivery; the rest of the statement follows.
macro_rules! select_deliveries {
    ($rest:literal) => {
        concat!("SELECT ", delivery_columns!(), " FROM deliveries AS d ", $rest)
    };
}

/// Begins the deliveries of an entry that was just written.
pub(super) fn raise(session: &Session, stored: &Stored, entry: &Entry, now: Time) -> Result<(), StoreError> {
    let hooks = session.hooks(stored.tenant)?;
    for hook in wanting(&hooks, &stored.job, entry.r#type) {
        begin(session, stored, entry, hook.n, None, now)?;
    }
    if let Some(own) = stored.job.webhook.as_ref().filter(|own| own.events.contain(entry.r#type)) {
        let host = webhooks::keep_host(session, stored.tenant, &delivery::host(&own.url), now)?;
        begin(session, stored, entry, host, Some(&own.url), now)?;
    }
    Ok(())
}

fn begin(
    session: &Session,
    stored: &Stored,
    entry: &Entry,
    webhook: i64,
    url: Option<&str>,
    now: Time,
) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO deliveries (id, tenant, webhook, url, job, seq, type, created_at, state, due_at, failed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?8, 0)",
        params![
            DeliveryId::new(now).as_uuid(),
            stored.tenant,
            webhook,
            url,
            stored.n,
            entry.seq,
            code::of_log_type(entry.r#type),
            now.as_millis(),
        ],
    )?;
    Ok(())
}

/// What is, or was, on its way, newest first.
pub(super) fn list(
    session: &Session,
    tenant: &Tenant,
    to: Addressee,
    choice: &Choice,
    page: Page,
) -> Result<Option<Vec<(i64, Delivery)>>, StoreError> {
    let Some(to) = addressee(session, tenant, to)? else { return Ok(None) };
    let job = match choice.job {
        Some(id) => match row::of_tenant(session, tenant, id)? {
            Some(stored) => Some(stored.n),
            None => return Ok(Some(Vec::new())),
        },
        None => None,
    };
    let parameters = params![to.number(), page.after.unwrap_or(i64::MAX), code::limit(page.limit), job];
    some(session, &statement(to, choice), parameters).map(Some)
}

/// The statement for a choice. As for jobs, each begins at the index with the fewest rows to look at, and says so.
fn statement(to: Rows, choice: &Choice) -> String {
    use crate::delivery::StateName;
    let (index, of) = match to {
        Rows::Of(_) => ("deliveries_webhook", "d.webhook = ?1"),
        Rows::NamedBy(_) => ("deliveries_named", "d.tenant = ?1 AND d.url IS NOT NULL"),
    };
    let index = match (choice.job, choice.state, to) {
        (Some(_), _, _) => "deliveries_job",
        (None, Some(StateName::Pending | StateName::Failed), Rows::Of(_)) => "deliveries_open",
        (None, _, _) => index,
    };
    let open = if index == "deliveries_open" { "AND d.state <> 2" } else { "" };
    // SQLite refuses parameters that a statement does not name.
    let job = if choice.job.is_some() { "AND d.job IS NOT NULL AND d.job = ?4" } else { "AND ?4 IS NULL" };
    let state = choice.state.map(code::is_delivery_in).unwrap_or("true");
    format!(
        "SELECT {} FROM deliveries AS d INDEXED BY {index} LEFT JOIN jobs AS j ON j.n = d.job \
         WHERE {of} {open} {job} AND {state} AND d.n < ?2 ORDER BY d.n DESC LIMIT ?3",
        delivery_columns!()
    )
}

/// Which rows are those of an addressee.
#[derive(Clone, Copy)]
enum Rows {
    /// Those of this webhook.
    Of(i64),
    /// Those that jobs of this tenant have named.
    NamedBy(i64),
}

impl Rows {
    fn number(self) -> i64 {
        match self {
            Rows::Of(number) | Rows::NamedBy(number) => number,
        }
    }
}

fn addressee(session: &Session, tenant: &Tenant, to: Addressee) -> Result<Option<Rows>, StoreError> {
    match to {
        Addressee::Webhook(id) => Ok(webhooks::by_id(session, tenant, id)?.map(|(n, _)| Rows::Of(n))),
        Addressee::NamedByJobs => Ok(Some(Rows::NamedBy(session.tenant_id(tenant)?.unwrap_or(0)))),
    }
}

/// Begins a delivery of a test.
pub(super) fn begin_test(
    session: &Session,
    tenant: &Tenant,
    id: WebhookId,
    now: Time,
) -> Result<Option<Delivery>, StoreError> {
    let Some((webhook, _)) = webhooks::by_id(session, tenant, id)? else { return Ok(None) };
    session.execute(
        "INSERT INTO deliveries (id, tenant, webhook, created_at, state, due_at, failed) \
         VALUES (?1, ?2, ?3, ?4, 0, ?4, 0)",
        params![DeliveryId::new(now).as_uuid(), session.keep_tenant(tenant)?, webhook, now.as_millis()],
    )?;
    by_n(session, session.connection.last_insert_rowid())
}

/// Begins a delivery anew; one that is under way goes on.
pub(super) fn replay(
    session: &Session,
    tenant: &Tenant,
    to: Addressee,
    id: DeliveryId,
    now: Time,
) -> Result<Option<Delivery>, StoreError> {
    let Some(to) = addressee(session, tenant, to)? else { return Ok(None) };
    let mut statement = session.prepare("SELECT n, webhook, tenant, url FROM deliveries WHERE id = ?1")?;
    let found = statement.query_one([id.as_uuid()], |row| {
        let url: Option<String> = row.get(3)?;
        let of = match to {
            Rows::Of(webhook) => webhook == row.get::<_, i64>(1)? && url.is_none(),
            Rows::NamedBy(tenant) => tenant == row.get::<_, i64>(2)? && url.is_some(),
        };
        Ok(if of { Some(row.get(0)?) } else { None })
    });
    let Some(n) = found.optional()?.flatten() else { return Ok(None) };
    session.execute(
        "UPDATE deliveries SET state = 0, due_at = ?2, failed = 0, ended_at = NULL WHERE n = ?1 AND state <> 1",
        [n, now.as_millis()],
    )?;
    by_n(session, n)
}

/// Begins deliveries of these events to one webhook, or begins them anew.
pub(super) fn replay_events(
    session: &Session,
    tenant: &Tenant,
    id: WebhookId,
    events: &[(JobId, u32)],
    undelivered: bool,
    now: Time,
) -> Result<usize, StoreError> {
    let Some((webhook, _)) = webhooks::by_id(session, tenant, id)? else { return Ok(0) };
    let tenant = session.keep_tenant(tenant)?;
    let mut begun = 0;
    for (job, seq) in events {
        begun += session.execute(
            "INSERT INTO deliveries (id, tenant, webhook, job, seq, type, created_at, state, due_at, failed) \
             SELECT ?1, ?2, ?3, j.n, e.seq, e.type, ?6, 0, ?6, 0 \
             FROM jobs AS j JOIN events AS e INDEXED BY events_job ON e.job = j.n AND e.seq = ?5 \
             WHERE j.id = ?4 AND j.tenant = ?2 \
             ON CONFLICT (job, seq, webhook) WHERE job IS NOT NULL DO UPDATE \
             SET state = 0, due_at = excluded.due_at, failed = 0, ended_at = NULL \
             WHERE state <> 1 AND (state <> 2 OR NOT ?7)",
            params![DeliveryId::new(now).as_uuid(), tenant, webhook, job.as_uuid(), seq, now.as_millis(), undelivered,],
        )?;
    }
    Ok(begun)
}

/// Which endpoints have their turn.
pub(super) fn turn(session: &Session, slots: usize, now: Time) -> Result<Vec<Turn>, StoreError> {
    let mut statement = session.prepare(
        "SELECT w.n, w.failing_since IS NOT NULL, w.slow, \
         (SELECT count(*) FROM deliveries AS u INDEXED BY deliveries_under_way WHERE u.webhook = w.n AND u.state = 1), \
         (SELECT min(d.due_at) FROM deliveries AS d INDEXED BY deliveries_due WHERE d.webhook = w.n AND d.state = 0) AS due \
         FROM webhooks AS w WHERE w.disabled_at IS NULL AND w.deleted_at IS NULL \
         AND (w.paused_until IS NULL OR w.paused_until <= ?1) AND due <= ?1 ORDER BY due",
    )?;
    let mut rows = statement.query([now.as_millis()])?;
    let mut ripe = Vec::new();
    while let Some(row) = rows.next()? {
        ripe.push(Ripe { webhook: row.get(0)?, failing: row.get(1)?, slow: row.get(2)?, under_way: number(row, 3)? });
    }
    if ripe.is_empty() {
        return Ok(Vec::new());
    }
    Ok(turns(&ripe, load(session)?, slots))
}

fn load(session: &Session) -> Result<Load, StoreError> {
    let load = session
        .prepare(
            "SELECT count(*), count(*) FILTER (WHERE w.failing_since IS NOT NULL OR w.slow) \
             FROM deliveries AS d INDEXED BY deliveries_under_way JOIN webhooks AS w ON w.n = d.webhook WHERE d.state = 1",
        )?
        .query_one([], |row| Ok(Load { total: number(row, 0)?, sluggish: number(row, 1)? }))?;
    Ok(load)
}

/// Makes jobs of the deliveries that have their turn.
pub(super) fn take(session: &Session, slots: usize, now: Time) -> Result<Vec<Job>, StoreError> {
    let tenant = session.keep_tenant(&Tenant::internal())?;
    let mut jobs = Vec::new();
    for Turn { webhook, most } in turn(session, slots, now)? {
        for (n, id) in due(session, webhook, most, now)? {
            let (transition, input) = delivery::run(id, now);
            let job = transition.job;
            let row = row::insert(session, &job, tenant, None)?;
            session.execute("INSERT INTO inputs (n, input) VALUES (?1, ?2)", params![row, &input[..]])?;
            session.execute(
                "UPDATE deliveries SET state = 1, run = ?2, due_at = NULL WHERE n = ?1",
                params![n, job.id.as_uuid()],
            )?;
            jobs.push(job);
        }
    }
    Ok(jobs)
}

fn due(session: &Session, webhook: i64, most: usize, now: Time) -> Result<Vec<(i64, DeliveryId)>, StoreError> {
    let mut statement = session.prepare(
        "SELECT n, id FROM deliveries INDEXED BY deliveries_due \
         WHERE webhook = ?1 AND state = 0 AND due_at <= ?2 ORDER BY due_at, n LIMIT ?3",
    )?;
    let found = statement.query_map(params![webhook, now.as_millis(), code::limit(most)], |row| {
        Ok((row.get(0)?, DeliveryId::from(row.get::<_, Uuid>(1)?)))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Deliveries whose job has ended.
pub(super) fn ended(session: &Session, most: usize) -> Result<Vec<Ended>, StoreError> {
    let mut statement = session.prepare(
        "SELECT d.id, d.run, ifnull(j.started_at, d.created_at), j.n, j.error, o.output \
         FROM deliveries AS d INDEXED BY deliveries_under_way LEFT JOIN jobs AS j ON j.id = d.run \
         LEFT JOIN outputs AS o ON o.n = j.n WHERE d.state = 1 AND (j.n IS NULL OR j.phase >= 5) LIMIT ?1",
    )?;
    let mut rows = statement.query([code::limit(most)])?;
    let mut ended = Vec::new();
    while let Some(row) = rows.next()? {
        let end = match (row.get::<_, Option<i64>>(3)?, row.get::<_, Option<Vec<u8>>>(5)?) {
            (None, _) => End::Vanished,
            (Some(_), Some(output)) => End::Output(Bytes::from(output)),
            (Some(_), None) => End::Problem(from_json(row, 4)?),
        };
        ended.push(Ended {
            id: DeliveryId::from(row.get::<_, Uuid>(0)?),
            run: JobId::from(row.get::<_, Uuid>(1)?),
            at: Time::from_millis(row.get(2)?),
            end,
        });
    }
    Ok(ended)
}

/// Takes note of what came of attempts; tells which webhooks it disabled.
pub(super) fn settle_all(
    session: &Session,
    attempts: &[Settlement],
    rules: &Rules,
    now: Time,
) -> Result<Vec<Webhook>, StoreError> {
    let mut disabled = Vec::new();
    for Settlement { id, run, attempt, chance } in attempts {
        let Some(under_way) = under_way(session, *id, *run)? else { continue };
        let UnderWay { n, delivery, tenant, webhook, registered, health } = under_way;
        let (before, to) = (health.disabled, Endpoint { health, registered: registered.is_some() });
        let Settled { delivery, health } = rules.settle(delivery, to, attempt.clone(), *chance, now);
        write(session, n, &delivery)?;
        webhooks::write_health(session, webhook, health)?;
        if let Some(id) = registered.filter(|_| health.disabled != before) {
            session.forget_hooks(tenant);
            disabled.extend(webhooks::by_id(session, &session.tenant(tenant)?, id)?.map(|(_, webhook)| webhook));
        }
    }
    Ok(disabled)
}

/// A delivery with what its attempt is judged by.
struct UnderWay {
    n: i64,
    delivery: Delivery,
    tenant: i64,
    webhook: i64,
    /// `None` for a host that jobs have named.
    registered: Option<WebhookId>,
    health: delivery::Health,
}

fn under_way(session: &Session, id: DeliveryId, run: JobId) -> Result<Option<UnderWay>, StoreError> {
    let mut statement = session.prepare(concat!(
        "SELECT ",
        delivery_columns!(),
        ", d.tenant, w.n, w.id, w.failing_since, w.paused_until, w.slow, w.disabled_at, w.disabled_why \
         FROM deliveries AS d JOIN webhooks AS w ON w.n = d.webhook LEFT JOIN jobs AS j ON j.n = d.job \
         WHERE d.id = ?1 AND d.state = 1 AND d.run = ?2"
    ))?;
    let mut rows = statement.query(params![id.as_uuid(), run.as_uuid()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(UnderWay {
        n: row.get(0)?,
        delivery: delivery(row)?,
        tenant: row.get(DELIVERY_COLUMNS)?,
        webhook: row.get(DELIVERY_COLUMNS + 1)?,
        registered: row.get::<_, Option<Uuid>>(DELIVERY_COLUMNS + 2)?.map(WebhookId::from),
        health: webhooks::health(row, DELIVERY_COLUMNS + 3)?,
    }))
}

fn write(session: &Session, n: i64, delivery: &Delivery) -> Result<(), StoreError> {
    let (state, due, run, ended) = match delivery.state {
        State::Waiting { due } => (0, Some(due), None, None),
        State::UnderWay { run } => (1, None, Some(*run.as_uuid()), None),
        State::Delivered { at } => (2, None, None, Some(at)),
        State::Failed { at } => (3, None, None, Some(at)),
    };
    session.execute(
        "UPDATE deliveries SET state = ?2, due_at = ?3, run = ?4, ended_at = ?5, failed = ?6, attempts = ?7 WHERE n = ?1",
        params![
            n,
            state,
            due.map(Time::as_millis),
            run,
            ended.map(Time::as_millis),
            delivery.failed,
            json(Some(&delivery.attempts))?,
        ],
    )?;
    Ok(())
}

/// What a job is to post.
pub(super) fn letter(session: &Session, id: DeliveryId, run: JobId) -> Result<Option<Letter>, StoreError> {
    let mut statement = session.prepare(concat!(
        "SELECT ",
        delivery_columns!(),
        ", d.tenant, w.url, w.secrets FROM deliveries AS d JOIN webhooks AS w ON w.n = d.webhook \
         LEFT JOIN jobs AS j ON j.n = d.job \
         WHERE d.id = ?1 AND d.state = 1 AND d.run = ?2 AND w.deleted_at IS NULL"
    ))?;
    let mut rows = statement.query(params![id.as_uuid(), run.as_uuid()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let Delivery { id, of, url, created_at, .. } = delivery(row)?;
    let tenant = row.get(DELIVERY_COLUMNS)?;
    let (url, secrets) = match url {
        Some(named) => (named, webhooks::read_job_secrets(session, tenant)?),
        None => (row.get(DELIVERY_COLUMNS + 1)?, from_json(row, DELIVERY_COLUMNS + 2)?),
    };
    Ok(Some(Letter { id, tenant: session.tenant(tenant)?, url, told: of, created_at, secrets }))
}

/// Deletes what nobody sees any more: deliveries of deleted webhooks, old tests, and hosts that nothing is on its way to.
pub(super) fn forget(session: &Session, before: Time, most: usize) -> Result<usize, StoreError> {
    let (before, limit) = (before.as_millis(), code::limit(most));
    let of_deleted = session.execute(
        "DELETE FROM deliveries WHERE n IN (SELECT d.n FROM webhooks AS w INDEXED BY webhooks_deleted \
         CROSS JOIN deliveries AS d INDEXED BY deliveries_webhook ON d.webhook = w.n WHERE w.deleted_at IS NOT NULL LIMIT ?1)",
        [limit],
    )?;
    let tests = session.execute(
        "DELETE FROM deliveries WHERE n IN (SELECT n FROM deliveries INDEXED BY deliveries_tests \
         WHERE job IS NULL AND created_at < ?1 AND state <> 1 LIMIT ?2)",
        [before, limit - code::limit(of_deleted)],
    )?;
    if of_deleted + tests < most {
        session.execute(
            "DELETE FROM webhooks WHERE n IN (SELECT w.n FROM webhooks AS w \
             WHERE (w.deleted_at IS NOT NULL OR (w.id IS NULL AND w.created_at < ?1)) \
             AND NOT EXISTS (SELECT 1 FROM deliveries AS d INDEXED BY deliveries_webhook WHERE d.webhook = w.n))",
            [before],
        )?;
    }
    Ok(of_deleted + tests)
}

fn by_n(session: &Session, n: i64) -> Result<Option<Delivery>, StoreError> {
    let found = some(session, select_deliveries!("LEFT JOIN jobs AS j ON j.n = d.job WHERE d.n = ?1"), [n])?;
    Ok(found.into_iter().next().map(|(_, delivery)| delivery))
}

fn some(session: &Session, sql: &str, params: impl Params) -> Result<Vec<(i64, Delivery)>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, delivery(row)?));
    }
    Ok(found)
}

fn delivery(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let missing = |what: &str| StoreError::Corrupt(format!("a delivery without {what}"));
    let of = match (row.get::<_, Option<Uuid>>(3)?, row.get(4)?) {
        (Some(job), Some(seq)) => Told::Event { job: JobId::from(job), seq, r#type: code::log_type(row.get(5)?)? },
        (None, None) => Told::Test,
        _ => return Err(missing("its event")),
    };
    let ended = || time(row, 10)?.ok_or_else(|| missing("an end"));
    let state = match row.get(7)? {
        0 => State::Waiting { due: time(row, 8)?.ok_or_else(|| missing("a time"))? },
        1 => State::UnderWay { run: row.get::<_, Option<Uuid>>(9)?.map(JobId::from).ok_or_else(|| missing("a job"))? },
        2 => State::Delivered { at: ended()? },
        3 => State::Failed { at: ended()? },
        other => return Err(code::Unknown::Delivery(other).into()),
    };
    Ok(Delivery {
        id: DeliveryId::from(row.get::<_, Uuid>(1)?),
        of,
        url: row.get(2)?,
        created_at: Time::from_millis(row.get(6)?),
        state,
        attempts: from_json(row, 12)?.unwrap_or_default(),
        failed: row.get(11)?,
    })
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
    Ok(usize::try_from(row.get::<_, u32>(column)?).unwrap_or(usize::MAX))
}
