use std::collections::BTreeMap;

use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::Kind;
use buzzer_shared::message::Announce;
use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Failure;
use super::house::House;
use super::row::{self, from_json};
use crate::store::{KnownKind, KnownWorker};

/// What a worker tells of itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    host: String,
    version: String,
    kinds: BTreeMap<Kind, u16>,
}

/// Keeps what a worker tells of itself and its kinds.
pub(super) async fn announce(house: &House, announce: &Announce, now: Time) -> Result<(), Failure> {
    let mut specs: Vec<_> = announce.kinds.iter().collect();
    // In one order, whoever announces: or two replicas might wait for each other.
    specs.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    for spec in &specs {
        row::execute(
            &transaction,
            "INSERT INTO kinds (name, spec, announced_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, announced_at = excluded.announced_at",
            &[&spec.name.as_str(), &serde_json::to_string(spec)?, &now.as_millis()],
        )
        .await?;
    }
    let told = Told {
        host: announce.host.clone(),
        version: announce.version.clone(),
        kinds: announce.kinds.iter().map(|spec| (spec.name.clone(), spec.slots)).collect(),
    };
    row::execute(
        &transaction,
        "INSERT INTO workers (id, started_at, seen_at, told) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, seen_at = excluded.seen_at, \
         told = excluded.told",
        &[
            announce.worker.as_uuid(),
            &announce.started_at.as_millis(),
            &now.as_millis(),
            &serde_json::to_string(&told)?,
        ],
    )
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Notes that a worker is alive; `false` when it is not known.
pub(super) async fn beat(client: &impl GenericClient, worker: WorkerId, now: Time) -> Result<bool, Failure> {
    let update = "UPDATE workers SET seen_at = $2 WHERE id = $1";
    Ok(row::execute(client, update, &[worker.as_uuid(), &now.as_millis()]).await? == 1)
}

/// Forgets a worker that has left, and those not heard of since `before`.
pub(super) async fn dismiss(
    client: &impl GenericClient,
    worker: Option<WorkerId>,
    before: Time,
) -> Result<(), Failure> {
    let worker = worker.as_ref().map(WorkerId::as_uuid);
    let delete = "DELETE FROM workers WHERE id = $1 OR seen_at < $2";
    row::execute(client, delete, &[&worker, &before.as_millis()]).await?;
    Ok(())
}

/// Every kind that was ever announced, by name.
pub(super) async fn kinds(client: &impl GenericClient) -> Result<Vec<KnownKind>, Failure> {
    // By the bytes of the name, whatever the database's language is.
    let select = "SELECT spec, announced_at FROM kinds WHERE spec IS NOT NULL ORDER BY name COLLATE \"C\"";
    let mut kinds = Vec::new();
    for row in row::query(client, select, &[]).await? {
        if let Some(spec) = from_json(&row, 0)? {
            kinds.push(KnownKind { spec, announced_at: Time::from_millis(row.try_get(1)?) });
        }
    }
    Ok(kinds)
}

/// Every worker that is known, the longest running first.
pub(super) async fn workers(client: &impl GenericClient) -> Result<Vec<KnownWorker>, Failure> {
    let select = "SELECT id, started_at, seen_at, told FROM workers ORDER BY started_at, id";
    let mut workers = Vec::new();
    for row in row::query(client, select, &[]).await? {
        let Told { host, version, kinds } = from_json(&row, 3)?.unwrap_or_default();
        workers.push(KnownWorker {
            id: WorkerId::from(row.try_get::<_, Uuid>(0)?),
            host,
            version,
            started_at: Time::from_millis(row.try_get(1)?),
            seen_at: Time::from_millis(row.try_get(2)?),
            kinds,
        });
    }
    Ok(workers)
}
