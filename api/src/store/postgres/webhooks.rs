use std::collections::{HashMap, HashSet};

use buzzer_shared::id::{Tenant, WebhookId};
use buzzer_shared::time::Time;
use buzzer_shared::webhook::Secret;
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::Failure;
use super::house::House;
use super::names::Names;
use super::row::{self, Parameters, from_json, json, time};
use crate::delivery::{Health, Secrets, Webhook};
use crate::store::stored::{Hook, webhook_columns};
use crate::store::{Page, Rotation, code};

/// `SELECT` with the columns of a webhook; the rest of the statement follows.
macro_rules! select_webhooks {
    ($rest:literal) => {
        concat!("SELECT ", webhook_columns!(), " FROM webhooks AS w ", $rest)
    };
}

/// Keeps a new webhook, unless its tenant has `most` already.
pub(super) async fn keep(house: &House, tenant: &Tenant, webhook: &Webhook, most: usize) -> Result<bool, Failure> {
    let mut client = house.pools.work().await?;
    let tenant = house.names.keep_tenant(&client, tenant).await?;
    let transaction = client.transaction().await?;
    // Locks the tenant's row: who makes another one waits, and counts this one.
    changed(&transaction, &[tenant]).await?;
    let count = "SELECT count(*) FROM webhooks WHERE tenant = $1 AND id IS NOT NULL AND deleted_at IS NULL";
    let count: i64 = row::first(&transaction, count, &[&tenant]).await?.map_or(Ok(0), |row| row.try_get(0))?;
    if count >= code::limit(most) {
        return Ok(false);
    }
    row::execute(
        &transaction,
        "INSERT INTO webhooks (id, tenant, url, wants, description, secrets, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            webhook.id.as_uuid(),
            &tenant,
            &webhook.url,
            &json(Some(&webhook.wants))?,
            &webhook.description.as_ref().map(String::as_bytes),
            &json(Some(&webhook.secrets))?,
            &webhook.created_at.as_millis(),
        ],
    )
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// One webhook of a tenant, with the number of its row.
pub(super) async fn by_id(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: WebhookId,
) -> Result<Option<(i64, Webhook)>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else { return Ok(None) };
    let sql = select_webhooks!("WHERE w.id = $1 AND w.tenant = $2 AND w.deleted_at IS NULL");
    Ok(some(client, sql, &[id.as_uuid(), &tenant]).await?.pop())
}

/// A tenant's webhooks, the oldest first.
pub(super) async fn list(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    page: Page,
) -> Result<Vec<(i64, Webhook)>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else { return Ok(Vec::new()) };
    let sql = select_webhooks!(
        "WHERE w.tenant = $1 AND w.id IS NOT NULL AND w.deleted_at IS NULL AND w.n > $2 ORDER BY w.n LIMIT $3"
    );
    some(client, sql, &[&tenant, &page.after.unwrap_or(0), &code::limit(page.limit)]).await
}

/// Changes one webhook of a tenant.
pub(super) async fn change(
    house: &House,
    tenant: &Tenant,
    id: WebhookId,
    change: impl FnOnce(Webhook) -> Webhook,
) -> Result<Option<Webhook>, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let Some((n, tenant, webhook)) = locked(&transaction, &house.names, tenant, id).await? else { return Ok(None) };
    let webhook = change(webhook);
    row::execute(
        &transaction,
        "UPDATE webhooks SET url = $2, wants = $3, description = $4, secrets = $5 WHERE n = $1",
        &[
            &n,
            &webhook.url,
            &json(Some(&webhook.wants))?,
            &webhook.description.as_ref().map(String::as_bytes),
            &json(Some(&webhook.secrets))?,
        ],
    )
    .await?;
    write_health(&transaction, &[(n, webhook.health)]).await?;
    changed(&transaction, &[tenant]).await?;
    transaction.commit().await?;
    Ok(Some(webhook))
}

/// Deletes one webhook of a tenant. Its row stays until its deliveries are gone.
pub(super) async fn delete(
    house: &House,
    tenant: &Tenant,
    id: WebhookId,
    now: Time,
) -> Result<Option<Webhook>, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let Some((n, tenant, webhook)) = locked(&transaction, &house.names, tenant, id).await? else { return Ok(None) };
    row::execute(&transaction, "UPDATE webhooks SET deleted_at = $2 WHERE n = $1", &[&n, &now.as_millis()]).await?;
    changed(&transaction, &[tenant]).await?;
    transaction.commit().await?;
    Ok(Some(webhook))
}

/// One webhook of a tenant, which nobody else changes until the transaction ends; with its number and the tenant's.
///
/// Rows of webhooks are locked before those of tenants, by everybody; who appends to a log locks the tenant's alone.
async fn locked(
    transaction: &Transaction<'_>,
    names: &Names,
    tenant: &Tenant,
    id: WebhookId,
) -> Result<Option<(i64, i64, Webhook)>, Failure> {
    let Some(tenant) = names.tenant_id(transaction, tenant).await? else { return Ok(None) };
    let sql = select_webhooks!("WHERE w.id = $1 AND w.tenant = $2 AND w.deleted_at IS NULL FOR NO KEY UPDATE");
    let found = some(transaction, sql, &[id.as_uuid(), &tenant]).await?.pop();
    Ok(found.map(|(n, webhook)| (n, tenant, webhook)))
}

/// Says in the rows of tenants that their webhooks are not those they were. Whoever appends to their logs waits until that is
/// committed, and then reads them again.
pub(super) async fn changed(transaction: &Transaction<'_>, tenants: &[i64]) -> Result<(), Failure> {
    for tenant in tenants {
        row::execute(transaction, "UPDATE tenants SET webhooks = webhooks + 1 WHERE id = $1", &[tenant]).await?;
    }
    Ok(())
}

/// Writes how endpoints fare.
pub(super) async fn write_health(transaction: &Transaction<'_>, health: &[(i64, Health)]) -> Result<(), Failure> {
    let column = |of: fn(&Health) -> Option<Time>| -> Vec<Option<i64>> {
        health.iter().map(|(_, health)| of(health).map(Time::as_millis)).collect()
    };
    let why = |(_, health): &(i64, Health)| health.disabled.map(|disabled| code::of_why(disabled.why));
    row::execute(
        transaction,
        "UPDATE webhooks AS w SET failing_since = u.failing_since, paused_until = u.paused_until, \
         disabled_at = u.disabled_at, disabled_why = u.disabled_why, slow = u.slow \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bool[]) \
         AS u (n, failing_since, paused_until, disabled_at, disabled_why, slow) WHERE w.n = u.n",
        &[
            &health.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            &column(|health| health.failing_since),
            &column(|health| health.paused_until),
            &column(|health| health.disabled.map(|disabled| disabled.at)),
            &health.iter().map(why).collect::<Vec<_>>(),
            &health.iter().map(|(_, health)| health.slow).collect::<Vec<_>>(),
        ],
    )
    .await?;
    Ok(())
}

/// Those that a tenant has enabled.
pub(super) async fn enabled(client: &impl GenericClient, tenant: i64) -> Result<Vec<Hook>, Failure> {
    let sql = select_webhooks!(
        "WHERE w.tenant = $1 AND w.id IS NOT NULL AND w.deleted_at IS NULL AND w.disabled_at IS NULL ORDER BY w.n"
    );
    let found = some(client, sql, &[&tenant]).await?;
    Ok(found.into_iter().map(|(n, webhook)| Hook { n, wants: webhook.wants }).collect())
}

/// The tenants that have some which are enabled.
pub(super) async fn listening(client: &impl GenericClient) -> Result<HashSet<Tenant>, Failure> {
    let rows = row::query(
        client,
        "SELECT name FROM tenants AS t WHERE t.webhooks > 0 AND EXISTS (SELECT FROM webhooks AS w \
         WHERE w.tenant = t.id AND w.id IS NOT NULL AND w.deleted_at IS NULL AND w.disabled_at IS NULL)",
        &[],
    )
    .await?;
    let name = |row: &Row| Tenant::from_stored(row.try_get(0)?).map_err(|error| Failure::Corrupt(error.to_string()));
    rows.iter().map(name).collect()
}

/// The rows that stand for hosts which jobs have named, each made now if there is none. They stay until the transaction ends.
pub(super) async fn keep_hosts(
    client: &impl GenericClient,
    hosts: &[(i64, String)],
    now: Time,
) -> Result<HashMap<(i64, String), i64>, Failure> {
    let (tenants, urls): (Vec<i64>, Vec<&str>) = hosts.iter().map(|(tenant, url)| (*tenant, url.as_str())).unzip();
    let mut found = find_hosts(client, &tenants, &urls).await?;
    if hosts.iter().any(|host| !found.contains_key(host)) {
        row::execute(
            client,
            "INSERT INTO webhooks (tenant, url, created_at) \
             SELECT u.tenant, u.url, $3 FROM unnest($1::bigint[], $2::text[]) AS u (tenant, url) \
             ON CONFLICT (tenant, url) WHERE id IS NULL DO NOTHING",
            &[&tenants, &urls, &now.as_millis()],
        )
        .await?;
        found = find_hosts(client, &tenants, &urls).await?;
    }
    Ok(found)
}

async fn find_hosts(
    client: &impl GenericClient,
    tenants: &[i64],
    urls: &[&str],
) -> Result<HashMap<(i64, String), i64>, Failure> {
    let rows = row::query(
        client,
        "SELECT w.tenant, w.url, w.n FROM unnest($1::bigint[], $2::text[]) AS u (tenant, url) \
         JOIN webhooks AS w ON w.tenant = u.tenant AND w.url = u.url AND w.id IS NULL FOR KEY SHARE OF w",
        &[&tenants, &urls],
    )
    .await?;
    rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
}

/// The secrets for what a tenant's jobs name themselves; where there are none, this one is kept.
pub(super) async fn job_secrets(house: &House, tenant: &Tenant, fresh: &Secret) -> Result<Secrets, Failure> {
    let client = house.pools.work().await?;
    let tenant = house.names.keep_tenant(&client, tenant).await?;
    if let Some(secrets) = read_job_secrets(&client, tenant, "").await? {
        return Ok(secrets);
    }
    let insert = "INSERT INTO job_secrets (tenant, secrets) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    row::execute(&client, insert, &[&tenant, &json(Some(&Secrets::new(fresh.clone())))?]).await?;
    let kept = read_job_secrets(&client, tenant, "").await?;
    kept.ok_or_else(|| Failure::Corrupt("a secret was not kept".into()))
}

/// Gives a tenant another secret for what its jobs name themselves.
pub(super) async fn rotate_job_secret(
    house: &House,
    tenant: &Tenant,
    rotation: &Rotation,
    now: Time,
) -> Result<Secrets, Failure> {
    // There is one from then on, which may be locked.
    job_secrets(house, tenant, &rotation.secret).await?;
    let mut client = house.pools.work().await?;
    let tenant = house.names.keep_tenant(&client, tenant).await?;
    let transaction = client.transaction().await?;
    let before = read_job_secrets(&transaction, tenant, " FOR UPDATE").await?;
    let before = before.ok_or_else(|| Failure::Corrupt("a secret was not kept".into()))?;
    if *before.present() == rotation.secret {
        return Ok(before);
    }
    let secrets = before.rotated(rotation.secret.clone(), rotation.until, now);
    let update = "UPDATE job_secrets SET secrets = $2 WHERE tenant = $1";
    row::execute(&transaction, update, &[&tenant, &json(Some(&secrets))?]).await?;
    transaction.commit().await?;
    Ok(secrets)
}

async fn read_job_secrets(
    client: &impl GenericClient,
    tenant: i64,
    lock: &'static str,
) -> Result<Option<Secrets>, Failure> {
    let select = format!("SELECT secrets FROM job_secrets WHERE tenant = $1{lock}");
    row::first(client, &select, &[&tenant]).await?.map_or(Ok(None), |row| from_json(&row, 0))
}

async fn some(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Vec<(i64, Webhook)>, Failure> {
    let rows = row::query(client, sql, parameters).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, webhook(row)?))).collect()
}

fn webhook(row: &Row) -> Result<Webhook, Failure> {
    let missing = |what: &str| Failure::Corrupt(format!("a webhook without {what}"));
    let description: Option<&[u8]> = row.try_get(4)?;
    Ok(Webhook {
        id: row.try_get::<_, Option<Uuid>>(1)?.map(WebhookId::from).ok_or_else(|| missing("an id"))?,
        url: row.try_get(2)?,
        wants: from_json(row, 3)?.ok_or_else(|| missing("events"))?,
        description: description.map(|text| String::from_utf8_lossy(text).into_owned()),
        secrets: from_json(row, 5)?.ok_or_else(|| missing("secrets"))?,
        created_at: Time::from_millis(row.try_get(6)?),
        health: health(row, 7)?,
    })
}

/// How an endpoint fares, in five columns from this one on.
pub(super) fn health(row: &Row, first: usize) -> Result<Health, Failure> {
    Ok(Health {
        failing_since: time(row, first)?,
        paused_until: time(row, first + 1)?,
        slow: row.try_get(first + 2)?,
        disabled: code::disabled(time(row, first + 3)?, row.try_get(first + 4)?)?,
    })
}
