use buzzer_shared::time::Time;
use rusqlite::{Params, Row, params};

use super::row::time;
use super::session::Session;
use crate::store::{ApiKey, KeyHash, KeyId, KeyName, Scopes, StoreError};

/// `SELECT` with the columns that [`read`] reads; the rest of the statement follows.
macro_rules! select_keys {
    ($rest:literal) => {
        concat!("SELECT hash, tenant, name, scopes, created_at, revoked_at FROM api_keys ", $rest)
    };
}

/// Keeps a new key.
pub(super) fn keep(session: &Session, key: &ApiKey) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO api_keys (id, hash, tenant, name, scopes, created_at, revoked_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            key.id().as_str(),
            key.hash.as_bytes(),
            key.tenant.as_str(),
            key.name.as_ref().map(KeyName::as_str),
            key.scopes.to_string(),
            key.created_at.as_millis(),
            key.revoked_at.map(Time::as_millis),
        ],
    )?;
    Ok(())
}

/// The key with this hash.
pub(super) fn by_hash(session: &Session, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
    Ok(some(session, select_keys!("WHERE hash = ?1"), [hash.as_bytes()])?.pop())
}

/// Every key, the oldest first.
pub(super) fn all(session: &Session) -> Result<Vec<ApiKey>, StoreError> {
    some(session, select_keys!("ORDER BY created_at, id"), [])
}

/// Revokes a key that is not revoked yet; tells how it is now.
pub(super) fn revoke(session: &Session, id: &KeyId, now: Time) -> Result<Option<ApiKey>, StoreError> {
    session.execute(
        "UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
        params![id.as_str(), now.as_millis()],
    )?;
    Ok(some(session, select_keys!("WHERE id = ?1"), [id.as_str()])?.pop())
}

fn some(session: &Session, sql: &'static str, params: impl Params) -> Result<Vec<ApiKey>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read(row)?);
    }
    Ok(keys)
}

fn read(row: &Row<'_>) -> Result<ApiKey, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt(format!("an API key: {what}"));
    let hash: Vec<u8> = row.get(0)?;
    let (tenant, name): (String, Option<String>) = (row.get(1)?, row.get(2)?);
    Ok(ApiKey {
        hash: KeyHash::from_stored(&hash).ok_or_else(|| corrupt("its hash has not 32 bytes".into()))?,
        tenant: tenant.parse().map_err(|error| corrupt(format!("{error}")))?,
        name: name.map(|name| name.parse()).transpose().map_err(|error| corrupt(format!("{error}")))?,
        scopes: Scopes::from_stored(&row.get::<_, String>(3)?),
        created_at: Time::from_millis(row.get(4)?),
        revoked_at: time(row, 5)?,
    })
}
