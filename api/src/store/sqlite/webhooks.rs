use std::collections::HashSet;

use buzzer_shared::id::{Tenant, WebhookId};
use buzzer_shared::time::Time;
use buzzer_shared::webhook::Secret;
use rusqlite::{OptionalExtension, Params, Row, params};
use uuid::Uuid;

use super::row::{from_json, json, time};
use super::session::Session;
use crate::delivery::{Health, Secrets, Webhook};
use crate::store::stored::{Hook, webhook_columns};
use crate::store::{Page, Rotation, StoreError, code};

/// `SELECT` with the columns of a webhook; the rest of the statement follows.
macro_rules! select_webhooks {
    ($rest:literal) => {
        concat!("SELECT ", webhook_columns!(), " FROM webhooks AS w ", $rest)
    };
}

const BY_ID: &str = select_webhooks!("WHERE w.id = ?1 AND w.tenant = ?2 AND w.deleted_at IS NULL");

/// Keeps a new webhook, unless its tenant has `most` already.
pub(super) fn keep(session: &Session, tenant: &Tenant, webhook: &Webhook, most: usize) -> Result<bool, StoreError> {
    let tenant = session.keep_tenant(tenant)?;
    let count: i64 = session
        .prepare("SELECT count(*) FROM webhooks WHERE tenant = ?1 AND id IS NOT NULL AND deleted_at IS NULL")?
        .query_one([tenant], |row| row.get(0))?;
    if count >= code::limit(most) {
        return Ok(false);
    }
    session.execute(
        "INSERT INTO webhooks (id, tenant, url, wants, description, secrets, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            webhook.id.as_uuid(),
            tenant,
            webhook.url,
            json(Some(&webhook.wants))?,
            webhook.description,
            json(Some(&webhook.secrets))?,
            webhook.created_at.as_millis(),
        ],
    )?;
    session.forget_hooks(tenant);
    Ok(true)
}

/// One webhook of a tenant, with the number of its row.
pub(super) fn by_id(session: &Session, tenant: &Tenant, id: WebhookId) -> Result<Option<(i64, Webhook)>, StoreError> {
    let Some(tenant) = session.tenant_id(tenant)? else { return Ok(None) };
    Ok(some(session, BY_ID, params![id.as_uuid(), tenant])?.pop())
}

/// A tenant's webhooks, the oldest first.
pub(super) fn list(session: &Session, tenant: &Tenant, page: Page) -> Result<Vec<(i64, Webhook)>, StoreError> {
    let Some(tenant) = session.tenant_id(tenant)? else { return Ok(Vec::new()) };
    let sql = select_webhooks!(
        "INDEXED BY webhooks_registered WHERE w.tenant = ?1 AND w.id IS NOT NULL AND w.deleted_at IS NULL \
         AND w.n > ?2 ORDER BY w.n LIMIT ?3"
    );
    some(session, sql, params![tenant, page.after.unwrap_or(0), code::limit(page.limit)])
}

/// Changes one webhook of a tenant.
pub(super) fn change(
    session: &Session,
    tenant: &Tenant,
    id: WebhookId,
    change: impl Fn(Webhook) -> Webhook,
) -> Result<Option<Webhook>, StoreError> {
    let Some((n, webhook)) = by_id(session, tenant, id)? else { return Ok(None) };
    let webhook = change(webhook);
    session.execute(
        "UPDATE webhooks SET url = ?2, wants = ?3, description = ?4, secrets = ?5 WHERE n = ?1",
        params![n, webhook.url, json(Some(&webhook.wants))?, webhook.description, json(Some(&webhook.secrets))?,],
    )?;
    write_health(session, n, webhook.health)?;
    session.forget_hooks(session.keep_tenant(tenant)?);
    Ok(Some(webhook))
}

/// Writes how an endpoint fares.
pub(super) fn write_health(session: &Session, n: i64, health: Health) -> Result<(), StoreError> {
    session.execute(
        "UPDATE webhooks SET failing_since = ?2, paused_until = ?3, slow = ?4, disabled_at = ?5, disabled_why = ?6 WHERE n = ?1",
        params![
            n,
            health.failing_since.map(Time::as_millis),
            health.paused_until.map(Time::as_millis),
            health.slow,
            health.disabled.map(|disabled| disabled.at.as_millis()),
            health.disabled.map(|disabled| code::of_why(disabled.why)),
        ],
    )?;
    Ok(())
}

/// Deletes one webhook of a tenant. Its row stays until its deliveries are gone.
pub(super) fn delete(
    session: &Session,
    tenant: &Tenant,
    id: WebhookId,
    now: Time,
) -> Result<Option<Webhook>, StoreError> {
    let Some((n, webhook)) = by_id(session, tenant, id)? else { return Ok(None) };
    session.execute("UPDATE webhooks SET deleted_at = ?2 WHERE n = ?1", [n, now.as_millis()])?;
    session.forget_hooks(session.keep_tenant(tenant)?);
    Ok(Some(webhook))
}

/// Those that a tenant has enabled.
pub(super) fn enabled(session: &Session, tenant: i64) -> Result<Vec<Hook>, StoreError> {
    let sql = select_webhooks!(
        "INDEXED BY webhooks_registered WHERE w.tenant = ?1 AND w.id IS NOT NULL AND w.deleted_at IS NULL \
         AND w.disabled_at IS NULL ORDER BY w.n"
    );
    let found = some(session, sql, [tenant])?;
    Ok(found.into_iter().map(|(n, webhook)| Hook { n, wants: webhook.wants }).collect())
}

/// The tenants that have some which are enabled.
pub(super) fn listening(session: &Session) -> Result<HashSet<Tenant>, StoreError> {
    let mut statement = session.prepare(
        "SELECT DISTINCT tenant FROM webhooks INDEXED BY webhooks_registered \
         WHERE id IS NOT NULL AND deleted_at IS NULL AND disabled_at IS NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut tenants = HashSet::new();
    while let Some(row) = rows.next()? {
        tenants.insert(session.tenant(row.get(0)?)?);
    }
    Ok(tenants)
}

/// The row that stands for a host which jobs have named, made now if there is none.
pub(super) fn keep_host(session: &Session, tenant: i64, host: &str, now: Time) -> Result<i64, StoreError> {
    let found = session
        .prepare("SELECT n FROM webhooks INDEXED BY webhooks_hosts WHERE tenant = ?1 AND url = ?2 AND id IS NULL")?
        .query_one(params![tenant, host], |row| row.get(0))
        .optional()?;
    if let Some(n) = found {
        return Ok(n);
    }
    let insert = "INSERT INTO webhooks (tenant, url, created_at) VALUES (?1, ?2, ?3)";
    session.execute(insert, params![tenant, host, now.as_millis()])?;
    Ok(session.connection.last_insert_rowid())
}

/// The secrets for what a tenant's jobs name themselves; where there are none, this one is kept.
pub(super) fn job_secrets(session: &Session, tenant: &Tenant, fresh: &Secret) -> Result<Secrets, StoreError> {
    let tenant = session.keep_tenant(tenant)?;
    match read_job_secrets(session, tenant)? {
        Some(secrets) => Ok(secrets),
        None => write_job_secrets(session, tenant, Secrets::new(fresh.clone())),
    }
}

/// Gives a tenant another secret for what its jobs name themselves.
pub(super) fn rotate_job_secret(
    session: &Session,
    tenant: &Tenant,
    rotation: &Rotation,
    now: Time,
) -> Result<Secrets, StoreError> {
    let tenant = session.keep_tenant(tenant)?;
    let secrets = match read_job_secrets(session, tenant)? {
        Some(secrets) => secrets.rotated(rotation.secret.clone(), rotation.until, now),
        None => Secrets::new(rotation.secret.clone()),
    };
    write_job_secrets(session, tenant, secrets)
}

pub(super) fn read_job_secrets(session: &Session, tenant: i64) -> Result<Option<Secrets>, StoreError> {
    let mut statement = session.prepare("SELECT secrets FROM job_secrets WHERE tenant = ?1")?;
    let mut rows = statement.query([tenant])?;
    match rows.next()? {
        Some(row) => from_json(row, 0),
        None => Ok(None),
    }
}

fn write_job_secrets(session: &Session, tenant: i64, secrets: Secrets) -> Result<Secrets, StoreError> {
    session.execute(
        "INSERT INTO job_secrets (tenant, secrets) VALUES (?1, ?2) \
         ON CONFLICT (tenant) DO UPDATE SET secrets = excluded.secrets",
        params![tenant, json(Some(&secrets))?],
    )?;
    Ok(secrets)
}

fn some(session: &Session, sql: &'static str, params: impl Params) -> Result<Vec<(i64, Webhook)>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, webhook(row)?));
    }
    Ok(found)
}

fn webhook(row: &Row<'_>) -> Result<Webhook, StoreError> {
    let missing = |what: &str| StoreError::Corrupt(format!("a webhook without {what}"));
    Ok(Webhook {
        id: row.get::<_, Option<Uuid>>(1)?.map(WebhookId::from).ok_or_else(|| missing("an id"))?,
        url: row.get(2)?,
        wants: from_json(row, 3)?.ok_or_else(|| missing("events"))?,
        description: row.get(4)?,
        secrets: from_json(row, 5)?.ok_or_else(|| missing("secrets"))?,
        created_at: Time::from_millis(row.get(6)?),
        health: health(row, 7)?,
    })
}

/// How an endpoint fares, in five columns from this one on.
pub(super) fn health(row: &Row<'_>, first: usize) -> Result<Health, StoreError> {
    Ok(Health {
        failing_since: time(row, first)?,
        paused_until: time(row, first + 1)?,
        slow: row.get(first + 2)?,
        disabled: code::disabled(time(row, first + 3)?, row.get(first + 4)?)?,
    })
}
