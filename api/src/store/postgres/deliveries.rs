use std::collections::BTreeMap;

use buzzer_shared::id::{DeliveryId, JobId, Tenant, WebhookId};
use buzzer_shared::time::Time;
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::Failure;
use super::house::House;
use super::names::Names;
use super::row::{self, Parameters, bytes, count, from_json, json, time};
use super::writes::Writes;
use super::{submit, webhooks};
use crate::delivery::{
    self, Delivery, Endpoint, Health, Load, Ripe, Rules, Settled, State, Told, Turn, Webhook, turns,
};
use crate::lifecycle::{Job, LogType};
use crate::store::stored::{DELIVERY_COLUMNS, delivery_columns};
use crate::store::{Addressee, Choice, End, Ended, Letter, Page, Settlement, Submission, code};

/// A delivery to begin, whose endpoint has a number.
#[derive(Debug)]
pub(super) struct Raised<'a> {
    pub(super) tenant: i64,
    pub(super) webhook: i64,
    /// Where a job has named it.
    pub(super) url: Option<&'a str>,
    pub(super) job: i64,
    pub(super) seq: u32,
    pub(super) r#type: LogType,
    pub(super) now: Time,
}

/// Begins the deliveries of entries that are written in the same transaction.
pub(super) async fn begin(client: &impl GenericClient, raised: &[Raised<'_>]) -> Result<(), Failure> {
    fn column<'a, T>(raised: &'a [Raised<'_>], of: impl Fn(&'a Raised<'_>) -> T) -> Vec<T> {
        raised.iter().map(of).collect()
    }
    if raised.is_empty() {
        return Ok(());
    }
    row::execute(
        client,
        "INSERT INTO deliveries (id, tenant, webhook, url, job, seq, type, created_at, due_at, state) \
         SELECT u.id, u.tenant, u.webhook, u.url, u.job, u.seq, u.type, u.now, u.now, 0 \
         FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::smallint[], \
         $8::bigint[]) AS u (id, tenant, webhook, url, job, seq, type, now)",
        &[
            &column(raised, |one| *DeliveryId::new(one.now).as_uuid()),
            &column(raised, |one| one.tenant),
            &column(raised, |one| one.webhook),
            &column(raised, |one| one.url),
            &column(raised, |one| one.job),
            &column(raised, |one| i64::from(one.seq)),
            &column(raised, |one| code::of_log_type(one.r#type)),
            &column(raised, |one| one.now.as_millis()),
        ],
    )
    .await?;
    Ok(())
}

/// What is, or was, on its way, newest first.
pub(super) async fn list(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    to: Addressee,
    choice: &Choice,
    page: Page,
) -> Result<Option<Vec<(i64, Delivery)>>, Failure> {
    let Some(to) = addressee(client, names, tenant, to).await? else { return Ok(None) };
    let job = match choice.job {
        Some(id) => match row::of_tenant(client, names, tenant, id).await? {
            Some(stored) => Some(stored.n),
            None => return Ok(Some(Vec::new())),
        },
        None => None,
    };
    let (after, most) = (page.after.unwrap_or(i64::MAX), code::limit(page.limit));
    some(client, &statement(to, choice), &[&to.number(), &after, &most, &job]).await.map(Some)
}

/// The statement for a choice. Those of a job are few, and so are those that are not delivered: `OFFSET 0` makes the list
/// begin there.
fn statement(to: Rows, choice: &Choice) -> String {
    use crate::delivery::StateName;
    let of = match to {
        Rows::Of(_) => "d.webhook = $1 AND d.url IS NULL",
        Rows::NamedBy(_) => "d.tenant = $1 AND d.url IS NOT NULL",
    };
    let few = |condition: &str| format!("(SELECT * FROM deliveries AS d WHERE {condition} OFFSET 0) AS d");
    let from = match (choice.job, choice.state, to) {
        (Some(_), _, _) => few("d.job IS NOT NULL AND d.job = $4::bigint"),
        (None, Some(StateName::Pending | StateName::Failed), Rows::Of(_)) => {
            few("d.webhook = $1 AND d.state <> 2 AND $4::bigint IS NULL")
        }
        (None, _, _) => "(SELECT WHERE $4::bigint IS NULL) AS everything CROSS JOIN deliveries AS d".into(),
    };
    let state = choice.state.map_or("true", code::is_delivery_in);
    format!(
        "SELECT {} FROM {from} LEFT JOIN jobs AS j ON j.n = d.job WHERE {of} AND {state} AND d.n < $2 \
         ORDER BY d.n DESC LIMIT $3",
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

async fn addressee(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    to: Addressee,
) -> Result<Option<Rows>, Failure> {
    match to {
        Addressee::Webhook(id) => Ok(webhooks::by_id(client, names, tenant, id).await?.map(|(n, _)| Rows::Of(n))),
        Addressee::NamedByJobs => Ok(Some(Rows::NamedBy(names.tenant_id(client, tenant).await?.unwrap_or(0)))),
    }
}

/// Begins a delivery of a test.
pub(super) async fn begin_test(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: WebhookId,
    now: Time,
) -> Result<Option<Delivery>, Failure> {
    let Some((webhook, _)) = webhooks::by_id(client, names, tenant, id).await? else { return Ok(None) };
    let tenant = names.kept_tenant(tenant)?;
    let insert = "INSERT INTO deliveries (id, tenant, webhook, created_at, due_at, state) VALUES ($1, $2, $3, $4, $4, 0) \
                  RETURNING n";
    let id = DeliveryId::new(now);
    let row = row::first(client, insert, &[id.as_uuid(), &tenant, &webhook, &now.as_millis()]).await?;
    let Some(n) = row.map(|row| row.try_get(0)).transpose()? else { return Ok(None) };
    by_n(client, n).await
}

/// Begins a delivery anew; one that is under way goes on.
pub(super) async fn replay(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    to: Addressee,
    id: DeliveryId,
    now: Time,
) -> Result<Option<Delivery>, Failure> {
    let Some(of) = addressee(client, names, tenant, to).await? else { return Ok(None) };
    let condition = match of {
        Rows::Of(_) => "webhook = $2 AND url IS NULL",
        Rows::NamedBy(_) => "tenant = $2 AND url IS NOT NULL",
    };
    let find = format!("SELECT n FROM deliveries WHERE id = $1 AND {condition}");
    let found = row::first(client, &find, &[id.as_uuid(), &of.number()]).await?;
    let Some(n) = found.map(|row| row.try_get::<_, i64>(0)).transpose()? else { return Ok(None) };
    let update =
        "UPDATE deliveries SET state = 0, due_at = $2, failed = 0, ended_at = NULL WHERE n = $1 AND state <> 1";
    row::execute(client, update, &[&n, &now.as_millis()]).await?;
    by_n(client, n).await
}

/// Begins deliveries of these events to one webhook, or begins them anew. Their jobs stay until that is written.
pub(super) async fn replay_events(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: WebhookId,
    events: &[(JobId, u32)],
    undelivered: bool,
    now: Time,
) -> Result<usize, Failure> {
    let Some((webhook, _)) = webhooks::by_id(client, names, tenant, id).await? else { return Ok(0) };
    let tenant = names.kept_tenant(tenant)?;
    let (jobs, seqs): (Vec<Uuid>, Vec<i64>) = events.iter().map(|(job, seq)| (*job.as_uuid(), i64::from(*seq))).unzip();
    let ids: Vec<Uuid> = events.iter().map(|_| *DeliveryId::new(now).as_uuid()).collect();
    let begun = row::execute(
        client,
        "INSERT INTO deliveries (id, tenant, webhook, job, seq, type, created_at, due_at, state) \
         SELECT u.id, $1, $2, j.n, e.seq, e.type, $3, $3, 0 \
         FROM unnest($4::uuid[], $5::uuid[], $6::bigint[]) AS u (id, job, seq) \
         JOIN jobs AS j ON j.id = u.job AND j.tenant = $1 JOIN events AS e ON e.job = j.n AND e.seq = u.seq \
         FOR KEY SHARE OF j \
         ON CONFLICT (job, seq, webhook) WHERE job IS NOT NULL DO UPDATE \
         SET state = 0, due_at = excluded.due_at, failed = 0, ended_at = NULL \
         WHERE deliveries.state <> 1 AND (deliveries.state <> 2 OR NOT $7)",
        &[&tenant, &webhook, &now.as_millis(), &ids, &jobs, &seqs, &undelivered],
    )
    .await?;
    Ok(usize::try_from(begun).unwrap_or(usize::MAX))
}

/// Which endpoints have deliveries that are due, those that have waited longest first; of these alone, where they are given.
async fn ripe(client: &impl GenericClient, among: Option<&[i64]>, now: Time) -> Result<Vec<Ripe>, Failure> {
    let sql = format!(
        "SELECT w.n, w.failing_since IS NOT NULL, w.slow, \
         (SELECT count(*) FROM deliveries AS u WHERE u.webhook = w.n AND u.state = 1) \
         FROM webhooks AS w CROSS JOIN LATERAL (SELECT min(d.due_at) AS due FROM deliveries AS d \
         WHERE d.webhook = w.n AND d.state = 0) AS first \
         WHERE w.disabled_at IS NULL AND w.deleted_at IS NULL AND (w.paused_until IS NULL OR w.paused_until <= $1) \
         AND first.due <= $1 {} ORDER BY first.due",
        if among.is_some() { "AND w.n = ANY($2)" } else { "" }
    );
    let now = now.as_millis();
    let rows = match &among {
        Some(among) => row::query(client, &sql, &[&now, among]).await?,
        None => row::query(client, &sql, &[&now]).await?,
    };
    let ripe = |row: &Row| {
        Ok(Ripe {
            webhook: row.try_get(0)?,
            failing: row.try_get(1)?,
            slow: row.try_get(2)?,
            under_way: number(row, 3)?,
        })
    };
    rows.iter().map(ripe).collect()
}

async fn load(client: &impl GenericClient) -> Result<Load, Failure> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE w.failing_since IS NOT NULL OR w.slow) \
               FROM deliveries AS d JOIN webhooks AS w ON w.n = d.webhook WHERE d.state = 1";
    let row = row::first(client, sql, &[]).await?;
    row.map_or(Ok(Load::default()), |row| Ok(Load { total: number(&row, 0)?, sluggish: number(&row, 1)? }))
}

/// Which endpoints have their turn; of these alone, where they are given.
async fn turn(
    client: &impl GenericClient,
    among: Option<&[i64]>,
    slots: usize,
    now: Time,
) -> Result<Vec<Turn>, Failure> {
    let ripe = ripe(client, among, now).await?;
    if ripe.is_empty() { Ok(Vec::new()) } else { Ok(turns(&ripe, load(client).await?, slots)) }
}

/// Makes jobs of the deliveries that have their turn. Endpoints that another replica looks at now are left to it.
pub(super) async fn take(house: &House, slots: usize, now: Time) -> Result<Vec<Job>, Failure> {
    let mut client = house.pools.work().await?;
    let candidates: Vec<i64> = turn(&client, None, slots, now).await?.iter().map(|turn| turn.webhook).collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    house.names.keep_tenant(&client, &Tenant::internal()).await?;
    house.names.keep_kind(&client, &delivery::kind()).await?;
    let transaction = client.transaction().await?;
    let lock = "SELECT n FROM webhooks WHERE n = ANY($1) ORDER BY n FOR NO KEY UPDATE SKIP LOCKED";
    let own = row::query(&transaction, lock, &[&candidates]).await?;
    let own = own.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    // Again, now that nobody else takes theirs.
    let turns = turn(&transaction, Some(&own), slots, now).await?;
    let submissions = make_runs(&transaction, &turns, now).await?;
    let mut writes = Writes::default();
    let all: Vec<&Submission> = submissions.iter().collect();
    submit::submit(&transaction, &house.names, &all, &mut writes).await?;
    house.commit(transaction, writes).await?;
    Ok(submissions.into_iter().map(|submission| submission.accepted.job).collect())
}

/// Notes for each delivery that has its turn which job it is made into; the jobs themselves are still to be kept.
async fn make_runs(transaction: &Transaction<'_>, turns: &[Turn], now: Time) -> Result<Vec<Submission>, Failure> {
    let (webhooks, most): (Vec<i64>, Vec<i64>) =
        turns.iter().map(|turn| (turn.webhook, code::limit(turn.most))).unzip();
    let due = row::query(
        transaction,
        "SELECT d.n, d.id FROM unnest($1::bigint[], $2::bigint[]) AS u (webhook, most) CROSS JOIN LATERAL \
         (SELECT d.n, d.id FROM deliveries AS d WHERE d.webhook = u.webhook AND d.state = 0 AND d.due_at <= $3 \
         ORDER BY d.due_at, d.n LIMIT u.most) AS d",
        &[&webhooks, &most, &now.as_millis()],
    )
    .await?;
    let mut runs: BTreeMap<i64, Submission> = BTreeMap::new();
    for row in &due {
        let (accepted, input) = delivery::run(DeliveryId::from(row.try_get::<_, Uuid>(1)?), now);
        runs.insert(row.try_get(0)?, Submission { accepted, input, key: None });
    }
    let (numbers, ids): (Vec<i64>, Vec<Uuid>) =
        runs.iter().map(|(n, run)| (*n, *run.accepted.job.id.as_uuid())).unzip();
    let taken = row::query(
        transaction,
        "UPDATE deliveries AS d SET state = 1, run = u.run, due_at = NULL \
         FROM unnest($1::bigint[], $2::uuid[]) AS u (n, run) WHERE d.n = u.n AND d.state = 0 RETURNING d.n",
        &[&numbers, &ids],
    )
    .await?;
    // One may have been deleted at the same moment.
    let taken = taken.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    Ok(taken.iter().filter_map(|n| runs.remove(n)).collect())
}

/// Deliveries whose job has ended.
pub(super) async fn ended(client: &impl GenericClient, most: usize) -> Result<Vec<Ended>, Failure> {
    let rows = row::query(
        client,
        "SELECT d.id, d.run, coalesce(j.started_at, d.created_at), j.n, j.error, j.output FROM deliveries AS d \
         LEFT JOIN jobs AS j ON j.id = d.run WHERE d.state = 1 AND (j.n IS NULL OR j.phase >= 5) LIMIT $1",
        &[&code::limit(most)],
    )
    .await?;
    let ended = |row: &Row| {
        let end = match (row.try_get::<_, Option<i64>>(3)?, bytes(row, 5)?) {
            (None, _) => End::Vanished,
            (Some(_), Some(output)) => End::Output(output),
            (Some(_), None) => End::Problem(from_json(row, 4)?),
        };
        Ok(Ended {
            id: DeliveryId::from(row.try_get::<_, Uuid>(0)?),
            run: JobId::from(row.try_get::<_, Uuid>(1)?),
            at: Time::from_millis(row.try_get(2)?),
            end,
        })
    };
    rows.iter().map(ended).collect()
}

/// Takes note of what came of attempts; tells which webhooks it disabled.
pub(super) async fn settle_all(
    house: &House,
    attempts: &[Settlement],
    rules: &Rules,
    now: Time,
) -> Result<Vec<Webhook>, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let ids: Vec<Uuid> = attempts.iter().map(|attempt| *attempt.id.as_uuid()).collect();
    let lock = "SELECT w.n FROM webhooks AS w WHERE w.n IN (SELECT webhook FROM deliveries WHERE id = ANY($1)) \
                ORDER BY w.n FOR NO KEY UPDATE";
    row::query(&transaction, lock, &[&ids]).await?;
    let mut under_way = under_way(&transaction, &ids).await?;
    let mut health: BTreeMap<i64, Health> = under_way.values().map(|one| (one.webhook, one.health)).collect();
    let (mut settled, mut disabled) = (Vec::new(), BTreeMap::new());
    for Settlement { id, run, attempt, chance } in attempts {
        let Some(one) = under_way.remove(id.as_uuid()).filter(|one| one.run() == Some(*run)) else { continue };
        let before = health.get(&one.webhook).copied().unwrap_or_default();
        let to = Endpoint { health: before, registered: one.registered.is_some() };
        let Settled { delivery, health: after } = rules.settle(one.delivery, to, attempt.clone(), *chance, now);
        settled.push((one.n, delivery));
        health.insert(one.webhook, after);
        if let Some(id) = one.registered.filter(|_| after.disabled != before.disabled) {
            disabled.insert(one.webhook, (one.tenant, id));
        }
    }
    write(&transaction, &settled).await?;
    webhooks::write_health(&transaction, &health.into_iter().collect::<Vec<_>>()).await?;
    let mut tenants: Vec<i64> = disabled.values().map(|(tenant, _)| *tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    webhooks::changed(&transaction, &tenants).await?;
    let mut told = Vec::new();
    for (tenant, id) in disabled.into_values() {
        house.names.learn_tenants(&transaction, vec![tenant]).await?;
        let tenant = house.names.tenant(tenant)?;
        told.extend(webhooks::by_id(&transaction, &house.names, &tenant, id).await?.map(|(_, webhook)| webhook));
    }
    transaction.commit().await?;
    Ok(told)
}

/// A delivery with what its attempt is judged by.
struct UnderWay {
    n: i64,
    delivery: Delivery,
    tenant: i64,
    webhook: i64,
    /// `None` for a host that jobs have named.
    registered: Option<WebhookId>,
    health: Health,
}

impl UnderWay {
    fn run(&self) -> Option<JobId> {
        match self.delivery.state {
            State::UnderWay { run } => Some(run),
            State::Waiting { .. } | State::Delivered { .. } | State::Failed { .. } => None,
        }
    }
}

async fn under_way(client: &impl GenericClient, ids: &[Uuid]) -> Result<BTreeMap<Uuid, UnderWay>, Failure> {
    let rows = row::query(
        client,
        concat!(
            "SELECT ",
            delivery_columns!(),
            ", d.tenant, w.n, w.id, w.failing_since, w.paused_until, w.slow, w.disabled_at, w.disabled_why \
             FROM deliveries AS d JOIN webhooks AS w ON w.n = d.webhook LEFT JOIN jobs AS j ON j.n = d.job \
             WHERE d.id = ANY($1) AND d.state = 1"
        ),
        &[&ids],
    )
    .await?;
    let mut found = BTreeMap::new();
    for row in &rows {
        let one = UnderWay {
            n: row.try_get(0)?,
            delivery: delivery(row)?,
            tenant: row.try_get(DELIVERY_COLUMNS)?,
            webhook: row.try_get(DELIVERY_COLUMNS + 1)?,
            registered: row.try_get::<_, Option<Uuid>>(DELIVERY_COLUMNS + 2)?.map(WebhookId::from),
            health: webhooks::health(row, DELIVERY_COLUMNS + 3)?,
        };
        found.insert(*one.delivery.id.as_uuid(), one);
    }
    Ok(found)
}

async fn write(transaction: &Transaction<'_>, settled: &[(i64, Delivery)]) -> Result<(), Failure> {
    if settled.is_empty() {
        return Ok(());
    }
    let state = |delivery: &Delivery| -> (i16, Option<i64>, Option<Uuid>, Option<i64>) {
        match delivery.state {
            State::Waiting { due } => (0, Some(due.as_millis()), None, None),
            State::UnderWay { run } => (1, None, Some(*run.as_uuid()), None),
            State::Delivered { at } => (2, None, None, Some(at.as_millis())),
            State::Failed { at } => (3, None, None, Some(at.as_millis())),
        }
    };
    let states: Vec<_> = settled.iter().map(|(_, delivery)| state(delivery)).collect();
    let attempts = settled.iter().map(|(_, delivery)| json(Some(&delivery.attempts))).collect::<Result<Vec<_>, _>>()?;
    row::execute(
        transaction,
        "UPDATE deliveries AS d SET state = u.state, due_at = u.due_at, run = u.run, ended_at = u.ended_at, \
         failed = u.failed, attempts = u.attempts \
         FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::text[]) \
         AS u (n, state, due_at, run, ended_at, failed, attempts) WHERE d.n = u.n",
        &[
            &settled.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            &states.iter().map(|state| state.0).collect::<Vec<_>>(),
            &states.iter().map(|state| state.1).collect::<Vec<_>>(),
            &states.iter().map(|state| state.2).collect::<Vec<_>>(),
            &states.iter().map(|state| state.3).collect::<Vec<_>>(),
            &settled.iter().map(|(_, delivery)| i64::from(delivery.failed)).collect::<Vec<_>>(),
            &attempts,
        ],
    )
    .await?;
    Ok(())
}

/// What a job is to post.
pub(super) async fn letter(
    client: &impl GenericClient,
    names: &Names,
    id: DeliveryId,
    run: JobId,
) -> Result<Option<Letter>, Failure> {
    let found = row::first(
        client,
        concat!(
            "SELECT ",
            delivery_columns!(),
            ", d.tenant, w.url, w.secrets, s.secrets FROM deliveries AS d JOIN webhooks AS w ON w.n = d.webhook \
             LEFT JOIN jobs AS j ON j.n = d.job LEFT JOIN job_secrets AS s ON s.tenant = d.tenant \
             WHERE d.id = $1 AND d.state = 1 AND d.run = $2 AND w.deleted_at IS NULL"
        ),
        &[id.as_uuid(), run.as_uuid()],
    )
    .await?;
    let Some(row) = &found else { return Ok(None) };
    let Delivery { id, of, url, created_at, .. } = delivery(row)?;
    let tenant: i64 = row.try_get(DELIVERY_COLUMNS)?;
    names.learn_tenants(client, vec![tenant]).await?;
    let (url, secrets) = match url {
        Some(named) => (named, from_json(row, DELIVERY_COLUMNS + 3)?),
        None => (row.try_get(DELIVERY_COLUMNS + 1)?, from_json(row, DELIVERY_COLUMNS + 2)?),
    };
    Ok(Some(Letter { id, tenant: names.tenant(tenant)?, url, told: of, created_at, secrets }))
}

/// Deletes what nobody sees any more: deliveries of deleted webhooks, old tests, and hosts that nothing is on its way to.
pub(super) async fn forget(house: &House, before: Time, most: usize) -> Result<usize, Failure> {
    let mut client = house.pools.work().await?;
    let of_deleted = row::execute(
        &client,
        "DELETE FROM deliveries WHERE n = ANY(ARRAY(SELECT d.n FROM webhooks AS w JOIN deliveries AS d ON d.webhook = w.n \
         WHERE w.deleted_at IS NOT NULL LIMIT $1 FOR UPDATE OF d SKIP LOCKED))",
        &[&code::limit(most)],
    )
    .await?;
    let of_deleted = usize::try_from(of_deleted).unwrap_or(usize::MAX);
    let tests = row::execute(
        &client,
        "DELETE FROM deliveries WHERE n = ANY(ARRAY(SELECT n FROM deliveries \
         WHERE job IS NULL AND created_at < $1 AND state <> 1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
        &[&before.as_millis(), &code::limit(most.saturating_sub(of_deleted))],
    )
    .await?;
    let forgotten = of_deleted + usize::try_from(tests).unwrap_or(usize::MAX);
    if forgotten < most {
        let transaction = client.transaction().await?;
        forget_endpoints(&transaction, before).await?;
        transaction.commit().await?;
    }
    Ok(forgotten)
}

/// Rows of endpoints are locked first: from then on nobody begins a delivery to one of them, and what was begun is seen.
async fn forget_endpoints(transaction: &Transaction<'_>, before: Time) -> Result<(), Failure> {
    let idle = "NOT EXISTS (SELECT FROM deliveries AS d WHERE d.webhook = w.n)";
    let lock = format!(
        "SELECT w.n FROM webhooks AS w WHERE (w.deleted_at IS NOT NULL OR (w.id IS NULL AND w.created_at < $1)) \
         AND {idle} LIMIT 100 FOR UPDATE SKIP LOCKED"
    );
    let rows = row::query(transaction, &lock, &[&before.as_millis()]).await?;
    let numbers = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let delete = format!("DELETE FROM webhooks AS w WHERE w.n = ANY($1) AND {idle}");
    row::execute(transaction, &delete, &[&numbers]).await?;
    Ok(())
}

async fn by_n(client: &impl GenericClient, n: i64) -> Result<Option<Delivery>, Failure> {
    let sql = concat!(
        "SELECT ",
        delivery_columns!(),
        " FROM deliveries AS d LEFT JOIN jobs AS j ON j.n = d.job WHERE d.n = $1"
    );
    Ok(some(client, sql, &[&n]).await?.into_iter().next().map(|(_, delivery)| delivery))
}

async fn some(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Vec<(i64, Delivery)>, Failure> {
    let rows = row::query(client, sql, parameters).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, delivery(row)?))).collect()
}

fn delivery(row: &Row) -> Result<Delivery, Failure> {
    let missing = |what: &str| Failure::Corrupt(format!("a delivery without {what}"));
    let of = match (row.try_get::<_, Option<Uuid>>(3)?, row.try_get::<_, Option<i64>>(4)?) {
        (Some(job), Some(_)) => {
            Told::Event { job: JobId::from(job), seq: count(row, 4)?, r#type: code::log_type(row.try_get(5)?)? }
        }
        (None, None) => Told::Test,
        _ => return Err(missing("its event")),
    };
    let ended = || time(row, 10)?.ok_or_else(|| missing("an end"));
    let state = match row.try_get::<_, i16>(7)? {
        0 => State::Waiting { due: time(row, 8)?.ok_or_else(|| missing("a time"))? },
        1 => State::UnderWay {
            run: row.try_get::<_, Option<Uuid>>(9)?.map(JobId::from).ok_or_else(|| missing("a job"))?,
        },
        2 => State::Delivered { at: ended()? },
        3 => State::Failed { at: ended()? },
        other => return Err(code::Unknown::Delivery(other).into()),
    };
    Ok(Delivery {
        id: DeliveryId::from(row.try_get::<_, Uuid>(1)?),
        of,
        url: row.try_get(2)?,
        created_at: Time::from_millis(row.try_get(6)?),
        state,
        attempts: from_json(row, 12)?.unwrap_or_default(),
        failed: count(row, 11)?,
    })
}

fn number(row: &Row, column: usize) -> Result<usize, Failure> {
    let number: i64 = row.try_get(column)?;
    Ok(usize::try_from(number).unwrap_or_default())
}
