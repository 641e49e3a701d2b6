use std::collections::{HashMap, HashSet};

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use super::error::Failure;
use super::house::House;
use super::names::Names;
use super::row;
use super::writes::{Moved, Writes};
use crate::lifecycle::Event;
use crate::store::stored::{COLUMNS, Stored, job_columns, select_jobs};
use crate::store::{Applied, Asked, Change, Happening, Outgoing, Wish, code};

/// Tells jobs what happened to them. Each row is locked once, in the order of ids, so that two batches which meet cannot
/// wait for each other; read once and written once.
pub(super) async fn apply(
    client: &impl GenericClient,
    names: &Names,
    happenings: &[(&Happening, Time)],
    writes: &mut Writes,
) -> Result<Vec<Applied>, Failure> {
    if happenings.is_empty() {
        return Ok(Vec::new());
    }
    let mut jobs = locked(client, names, happenings.iter().map(|(happening, _)| happening.job)).await?;
    let tell = |(Happening { job, event }, now): &(&Happening, Time)| match jobs.get_mut(job) {
        Some(moved) => match writes.advance(moved, event, *now) {
            Ok(change) => Applied::Changed(change),
            Err(ignored) => Applied::Ignored(ignored),
        },
        None => Applied::Unknown,
    };
    let answers = happenings.iter().map(tell).collect();
    jobs.into_values().for_each(|moved| writes.keep(moved));
    Ok(answers)
}

async fn locked(
    client: &impl GenericClient,
    names: &Names,
    ids: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Moved>, Failure> {
    let mut ids: Vec<Uuid> = ids.map(|id| *id.as_uuid()).collect();
    ids.sort_unstable();
    ids.dedup();
    let sql = select_jobs!("WHERE j.id = ANY($1) ORDER BY j.id FOR NO KEY UPDATE");
    let found = row::readable(client, names, sql, &[&ids], |_| Ok(())).await?;
    Ok(found.into_iter().map(|(stored, ())| (stored.job.id, Moved::new(stored))).collect())
}

/// Tells one job of a tenant what its owner wants.
pub(super) async fn ask(
    house: &House,
    tenant: &Tenant,
    id: JobId,
    wish: Wish,
    now: Time,
) -> Result<Option<Asked>, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let Some(stored) = row::of_tenant_locked(&transaction, &house.names, tenant, id).await? else {
        return Ok(None);
    };
    let (mut writes, mut moved) = (Writes::default(), Moved::new(stored));
    let asked = match writes.advance(&mut moved, &wish.into(), now) {
        Ok(change) => Asked::Changed(change),
        Err(ignored) => return Ok(Some(Asked::Refused(moved.stored.job, ignored))),
    };
    writes.keep(moved);
    house.commit(transaction, writes).await?;
    Ok(Some(asked))
}

/// Claims the next jobs of a kind. Those that another replica is claiming now are passed by.
pub(super) async fn claim(
    house: &House,
    kind: &Kind,
    most: usize,
    until: Time,
    now: Time,
) -> Result<Vec<Outgoing>, Failure> {
    let mut client = house.pools.work().await?;
    let Some(kind) = house.names.kind_id(&client, kind).await? else {
        return Ok(Vec::new());
    };
    let transaction = client.transaction().await?;
    // What must have started by now is left to the sweeper, which ends it.
    let ready = row::readable(
        &transaction,
        &house.names,
        concat!(
            "SELECT ",
            job_columns!(),
            ", j.input FROM jobs AS j WHERE j.phase = 1 AND j.kind = $1 \
             AND (j.expires_at IS NULL OR j.expires_at > $2 OR j.started_at IS NOT NULL) \
             ORDER BY j.priority DESC, j.n LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
        ),
        &[&kind, &now.as_millis(), &code::limit(most)],
        |row| row::bytes(row, COLUMNS),
    )
    .await?;
    let mut writes = Writes::default();
    let claimed = Event::Claimed { until };
    let outgoing = ready.into_iter().filter_map(|(stored, input)| {
        let change = writes.move_on(stored, &claimed, now).ok()?;
        Some(Outgoing { job: change.job, input: input? })
    });
    let outgoing = outgoing.collect();
    house.commit(transaction, writes).await?;
    Ok(outgoing)
}

/// Wakes jobs whose time has come. Expired first: what is both due and expired must not go out.
pub(super) async fn wake_due(house: &House, now: Time, most: usize) -> Result<Vec<Change>, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let mut writes = Writes::default();
    let expired = free(
        house,
        &transaction,
        select_jobs!(
            "WHERE j.expires_at <= $1 AND j.expires_at IS NOT NULL AND j.started_at IS NULL AND j.phase IN (0, 1) \
             ORDER BY j.expires_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
        ),
        now,
        most,
    )
    .await?;
    let mut changes = writes.move_all(expired, &Event::Expired, now);
    let due = free(
        house,
        &transaction,
        select_jobs!(
            "WHERE j.phase IN (0, 4) AND j.run_at <= $1 ORDER BY j.run_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
        ),
        now,
        most.saturating_sub(changes.len()),
    )
    .await?;
    // The rows of the expired ones are written at the end: here they still look as if they were due.
    let ended: HashSet<JobId> = changes.iter().map(|change| change.job.id).collect();
    let due = due.into_iter().filter(|stored| !ended.contains(&stored.job.id));
    changes.extend(writes.move_all(due, &Event::Due, now));
    house.commit(transaction, writes).await?;
    Ok(changes)
}

/// Takes back jobs whose lease has ended.
pub(super) async fn end_leases(
    house: &House,
    bereft: &HashSet<Kind>,
    now: Time,
    most: usize,
) -> Result<Vec<Change>, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let sql = select_jobs!(
        "WHERE j.lease_until <= $1 AND j.lease_until IS NOT NULL ORDER BY j.lease_until LIMIT $2 \
         FOR NO KEY UPDATE SKIP LOCKED"
    );
    let ended = free(house, &transaction, sql, now, most).await?;
    let (bereft, usual): (Vec<_>, Vec<_>) = ended.into_iter().partition(|stored| bereft.contains(&stored.job.kind));
    let mut writes = Writes::default();
    let mut changes = writes.move_all(usual, &Event::LeaseEnded { bereft: false }, now);
    changes.extend(writes.move_all(bereft, &Event::LeaseEnded { bereft: true }, now));
    house.commit(transaction, writes).await?;
    Ok(changes)
}

/// Takes back every job that is out, as if the last of their leases had ended now.
pub(super) async fn void_leases(house: &House, now: Time) -> Result<usize, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let sql = select_jobs!("WHERE j.lease_until IS NOT NULL ORDER BY j.id FOR NO KEY UPDATE");
    let out = row::readable(&transaction, &house.names, sql, &[], |_| Ok(())).await?;
    let mut writes = Writes::default();
    // With the process, its worker was lost.
    // As if their leases had ended now.
    let ended = |mut stored: Stored| {
        stored.job.phase = stored.job.phase.until(now);
        stored
    };
    let out = out.into_iter().map(|(stored, ())| ended(stored));
    let voided = writes.move_all(out, &Event::LeaseEnded { bereft: true }, now).len();
    house.commit(transaction, writes).await?;
    Ok(voided)
}

/// Locks the rows that a statement finds by `now`, but for those that somebody else is changing: who does not wait
/// cannot be part of a deadlock.
async fn free(
    house: &House,
    transaction: &Transaction<'_>,
    sql: &str,
    now: Time,
    most: usize,
) -> Result<Vec<Stored>, Failure> {
    let found =
        row::readable(transaction, &house.names, sql, &[&now.as_millis(), &code::limit(most)], |_| Ok(())).await?;
    Ok(found.into_iter().map(|(stored, ())| stored).collect())
}
