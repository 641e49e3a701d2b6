use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::error::Failure;
use super::row::{self, Parameters, time};
use crate::store::{ApiKey, KeyHash, KeyId, KeyName, Scopes};

/// `SELECT` with the columns that [`read`] reads; the rest of the statement follows.
macro_rules! select_keys {
    ($rest:literal) => {
        concat!("SELECT hash, tenant, name, scopes, created_at, revoked_at FROM api_keys ", $rest)
    };
}

/// Keeps a new key.
pub(super) async fn keep(client: &impl GenericClient, key: &ApiKey) -> Result<(), Failure> {
    row::execute(
        client,
        "INSERT INTO api_keys (id, hash, tenant, name, scopes, created_at, revoked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &key.id().as_str(),
            &key.hash.as_bytes(),
            &key.tenant.as_str(),
            &key.name.as_ref().map(KeyName::as_str),
            &key.scopes.to_string(),
            &key.created_at.as_millis(),
            &key.revoked_at.map(Time::as_millis),
        ],
    )
    .await?;
    Ok(())
}

/// The key with this hash.
pub(super) async fn by_hash(client: &impl GenericClient, hash: &KeyHash) -> Result<Option<ApiKey>, Failure> {
    Ok(some(client, select_keys!("WHERE hash = $1"), &[&hash.as_bytes()]).await?.pop())
}

/// Every key, the oldest first.
pub(super) async fn all(client: &impl GenericClient) -> Result<Vec<ApiKey>, Failure> {
    some(client, select_keys!("ORDER BY created_at, id COLLATE \"C\""), &[]).await
}

/// Revokes a key that is not revoked yet; tells how it is now.
pub(super) async fn revoke(client: &impl GenericClient, id: &KeyId, now: Time) -> Result<Option<ApiKey>, Failure> {
    let update = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    row::execute(client, update, &[&id.as_str(), &now.as_millis()]).await?;
    Ok(some(client, select_keys!("WHERE id = $1"), &[&id.as_str()]).await?.pop())
}

async fn some(client: &impl GenericClient, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<ApiKey>, Failure> {
    row::query(client, sql, parameters).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<ApiKey, Failure> {
    let corrupt = |what: String| Failure::Corrupt(format!("an API key: {what}"));
    let (tenant, name): (&str, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
    Ok(ApiKey {
        hash: KeyHash::from_stored(row.try_get(0)?).ok_or_else(|| corrupt("its hash has not 32 bytes".into()))?,
        tenant: tenant.parse().map_err(|error| corrupt(format!("{error}")))?,
        name: name.map(str::parse).transpose().map_err(|error| corrupt(format!("{error}")))?,
        scopes: Scopes::from_stored(row.try_get(3)?),
        created_at: Time::from_millis(row.try_get(4)?),
        revoked_at: time(row, 5)?,
    })
}
