use std::collections::BTreeMap;

use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::Kind;
use buzzer_shared::message::Announce;
use buzzer_shared::time::Time;
use rusqlite::params;
use uuid::Uuid;

use super::row::from_json;
use super::session::Session;
use crate::store::{KnownKind, KnownWorker, StoreError};

/// Keeps what a worker tells of itself and its kinds.
pub(super) fn announce(session: &Session, announce: &Announce, now: Time) -> Result<(), StoreError> {
    for spec in &announce.kinds {
        session.execute(
            "INSERT INTO kinds (name, spec, announced_at) VALUES (?1, ?2, ?3) \
             ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, announced_at = excluded.announced_at",
            params![spec.name.as_str(), serde_json::to_string(spec)?, now.as_millis()],
        )?;
    }
    let kinds: BTreeMap<&Kind, u16> = announce.kinds.iter().map(|spec| (&spec.name, spec.slots)).collect();
    session.execute(
        "INSERT INTO workers (id, host, version, started_at, seen_at, kinds) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, version = excluded.version, \
         started_at = excluded.started_at, seen_at = excluded.seen_at, kinds = excluded.kinds",
        params![
            announce.worker.as_uuid(),
            announce.host,
            announce.version,
            announce.started_at.as_millis(),
            now.as_millis(),
            serde_json::to_string(&kinds)?,
        ],
    )?;
    Ok(())
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
    let mut statement = session.prepare("SELECT spec, announced_at FROM kinds WHERE spec IS NOT NULL ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut kinds = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(spec) = from_json(row, 0)? {
            kinds.push(KnownKind { spec, announced_at: Time::from_millis(row.get(1)?) });
        }
    }
    Ok(kinds)
}

/// Every worker that is known, the longest running first.
pub(super) fn workers(session: &Session) -> Result<Vec<KnownWorker>, StoreError> {
    let mut statement =
        session.prepare("SELECT id, host, version, started_at, seen_at, kinds FROM workers ORDER BY started_at, id")?;
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
        });
    }
    Ok(workers)
}
