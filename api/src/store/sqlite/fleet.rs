use std::collections::BTreeMap;

use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::message::Announce;
use buzzer_shared::time::Time;
use rusqlite::params;
use uuid::Uuid;

use super::row::from_json;
use super::session::Session;
use crate::store::{CONTRACTS_MAX, KnownContract, KnownKind, KnownWorker, StoreError, stored};

/// Keeps what a worker tells of itself and its kinds.
pub(super) fn announce(session: &Session, announce: &Announce, now: Time) -> Result<(), StoreError> {
    let (mut slots, mut contracts) = (BTreeMap::new(), BTreeMap::new());
    for spec in &announce.kinds {
        slots.insert(&spec.name, spec.slots);
        contracts.insert(&spec.name, keep_contract(session, spec, now)?);
    }
    session.execute(
        "INSERT INTO workers (id, host, version, started_at, seen_at, kinds, contracts, refused) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, version = excluded.version, \
         started_at = excluded.started_at, seen_at = excluded.seen_at, kinds = excluded.kinds, \
         contracts = excluded.contracts, refused = excluded.refused",
        params![
            announce.worker.as_uuid(),
            announce.host,
            announce.version,
            announce.started_at.as_millis(),
            now.as_millis(),
            serde_json::to_string(&slots)?,
            serde_json::to_string(&contracts)?,
            serde_json::to_string(&announce.refused)?,
        ],
    )?;
    Ok(())
}

/// The version of what a worker says of a kind: that of whoever said the same before, or a new one.
fn keep_contract(session: &Session, spec: &KindSpec, now: Time) -> Result<u32, StoreError> {
    let (name, text, now) = (spec.name.as_str(), serde_json::to_string(spec)?, now.as_millis());
    let known = contracts_of(session, name)?;
    if let Some((version, _)) = known.iter().find(|(_, known)| known.is_same_contract(spec)) {
        let update = "UPDATE contracts SET spec = ?3, seen_at = ?4 WHERE kind = ?1 AND version = ?2";
        session.execute(update, params![name, version, text, now])?;
        return Ok(*version);
    }
    let version = known.iter().map(|(version, _)| *version).max().unwrap_or(0) + 1;
    session.execute(
        "INSERT INTO contracts (kind, version, spec, announced_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![name, version, text, now],
    )?;
    session.execute(
        "DELETE FROM contracts WHERE kind = ?1 AND version NOT IN \
         (SELECT version FROM contracts WHERE kind = ?1 ORDER BY seen_at DESC, version DESC LIMIT ?2)",
        params![name, CONTRACTS_MAX],
    )?;
    Ok(version)
}

fn contracts_of(session: &Session, name: &str) -> Result<Vec<(u32, KindSpec)>, StoreError> {
    let mut statement = session.prepare("SELECT version, spec FROM contracts WHERE kind = ?1")?;
    let mut rows = statement.query([name])?;
    let mut contracts = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(spec) = from_json(row, 1)? {
            contracts.push((row.get(0)?, spec));
        }
    }
    Ok(contracts)
}

/// Notes that a worker is alive; `false` when it is not known.
pub(super) fn beat(session: &Session, worker: WorkerId, now: Time) -> Result<bool, StoreError> {
    let known =
        session.execute("UPDATE workers SET seen_at = ?2 WHERE id = ?1", params![worker.as_uuid(), now.as_millis()])?;
    Ok(known == 1)
}

/// Forgets a worker that has left, and those not heard of since `before`.
pub(super) fn dismiss(session: &Session, worker: Option<WorkerId>, before: Time) -> Result<(), StoreError> {
    session.execute(
        "DELETE FROM workers WHERE id = ?1 OR seen_at < ?2",
        params![worker.as_ref().map(WorkerId::as_uuid), before.as_millis()],
    )?;
    Ok(())
}

/// Every kind that was ever announced, by name.
pub(super) fn kinds(session: &Session) -> Result<Vec<KnownKind>, StoreError> {
    let mut statement =
        session.prepare("SELECT version, spec, announced_at, seen_at FROM contracts ORDER BY kind, version")?;
    let mut rows = statement.query([])?;
    let mut contracts = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(spec) = from_json(row, 1)? {
            let (announced_at, seen_at) = (Time::from_millis(row.get(2)?), Time::from_millis(row.get(3)?));
            contracts.push(KnownContract { version: row.get(0)?, spec, announced_at, seen_at });
        }
    }
    Ok(stored::by_kind(contracts))
}

/// Every worker that is known, the longest running first.
pub(super) fn workers(session: &Session) -> Result<Vec<KnownWorker>, StoreError> {
    let mut statement = session.prepare(
        "SELECT id, host, version, started_at, seen_at, kinds, contracts, refused FROM workers ORDER BY started_at, id",
    )?;
    let mut rows = statement.query([])?;
    let mut workers = Vec::new();
    while let Some(row) = rows.next()? {
        workers.push(KnownWorker {
            id: WorkerId::from(row.get::<_, Uuid>(0)?),
            host: row.get(1)?,
            version: row.get(2)?,
            started_at: Time::from_millis(row.get(3)?),
            seen_at: Time::from_millis(row.get(4)?),
            kinds: from_json(row, 5)?.unwrap_or_default(),
            contracts: from_json(row, 6)?.unwrap_or_default(),
            refused: from_json(row, 7)?.unwrap_or_default(),
        });
    }
    Ok(workers)
}
