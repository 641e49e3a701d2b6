use std::collections::BTreeMap;

use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{Kind, KindSpec, Refusal};
use buzzer_shared::message::Announce;
use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Failure;
use super::house::House;
use super::row::{self, from_json};
use crate::store::{CONTRACTS_MAX, KnownContract, KnownKind, KnownWorker, stored};

/// What a worker tells of itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    host: String,
    version: String,
    kinds: BTreeMap<Kind, u16>,
    #[serde(default)]
    contracts: BTreeMap<Kind, i32>,
    #[serde(default)]
    refused: Vec<Refusal>,
}

/// Keeps what a worker tells of itself and its kinds.
pub(super) async fn announce(house: &House, announce: &Announce, now: Time) -> Result<(), Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    // Two replicas at once would give one version to two contracts. Who reads is not held up.
    transaction.batch_execute("LOCK TABLE contracts IN SHARE ROW EXCLUSIVE MODE").await?;
    let mut contracts = BTreeMap::new();
    for spec in &announce.kinds {
        contracts.insert(spec.name.clone(), keep_contract(&transaction, spec, now).await?);
    }
    let told = Told {
        host: announce.host.clone(),
        version: announce.version.clone(),
        kinds: announce.kinds.iter().map(|spec| (spec.name.clone(), spec.slots)).collect(),
        contracts,
        refused: announce.refused.clone(),
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

/// The version of what a worker says of a kind: that of whoever said the same before, or a new one.
async fn keep_contract(client: &impl GenericClient, spec: &KindSpec, now: Time) -> Result<i32, Failure> {
    let (name, text, now) = (spec.name.as_str(), serde_json::to_string(spec)?, now.as_millis());
    let mut newest = 0;
    for row in row::query(client, "SELECT version, spec FROM contracts WHERE kind = $1", &[&name]).await? {
        let version: i32 = row.try_get(0)?;
        newest = newest.max(version);
        if from_json::<KindSpec>(&row, 1)?.is_some_and(|known| known.is_same_contract(spec)) {
            let update = "UPDATE contracts SET spec = $3, seen_at = $4 WHERE kind = $1 AND version = $2";
            row::execute(client, update, &[&name, &version, &text, &now]).await?;
            return Ok(version);
        }
    }
    let insert = "INSERT INTO contracts (kind, version, spec, announced_at, seen_at) VALUES ($1, $2, $3, $4, $4)";
    row::execute(client, insert, &[&name, &(newest + 1), &text, &now]).await?;
    let forget = "DELETE FROM contracts WHERE kind = $1 AND version NOT IN \
                  (SELECT version FROM contracts WHERE kind = $1 ORDER BY seen_at DESC, version DESC LIMIT $2)";
    row::execute(client, forget, &[&name, &i64::from(CONTRACTS_MAX)]).await?;
    Ok(newest + 1)
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
    let select = "SELECT version, spec, announced_at, seen_at FROM contracts ORDER BY kind COLLATE \"C\", version";
    let mut contracts = Vec::new();
    for row in row::query(client, select, &[]).await? {
        if let Some(spec) = from_json(&row, 1)? {
            let (announced_at, seen_at) = (Time::from_millis(row.try_get(2)?), Time::from_millis(row.try_get(3)?));
            let version = row.try_get::<_, i32>(0)?.unsigned_abs();
            contracts.push(KnownContract { version, spec, announced_at, seen_at });
        }
    }
    Ok(stored::by_kind(contracts))
}

/// Every worker that is known, the longest running first.
pub(super) async fn workers(client: &impl GenericClient) -> Result<Vec<KnownWorker>, Failure> {
    let select = "SELECT id, started_at, seen_at, told FROM workers ORDER BY started_at, id";
    let mut workers = Vec::new();
    for row in row::query(client, select, &[]).await? {
        let Told { host, version, kinds, contracts, refused } = from_json(&row, 3)?.unwrap_or_default();
        workers.push(KnownWorker {
            id: WorkerId::from(row.try_get::<_, Uuid>(0)?),
            host,
            version,
            started_at: Time::from_millis(row.try_get(1)?),
            seen_at: Time::from_millis(row.try_get(2)?),
            kinds,
            contracts: contracts.into_iter().map(|(kind, version)| (kind, version.unsigned_abs())).collect(),
            refused,
        });
    }
    Ok(workers)
}
