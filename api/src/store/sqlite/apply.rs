use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use bytes::Bytes;
use rusqlite::params;

use super::log;
use super::row;
use super::session::Session;
use crate::lifecycle::{Event, Ignored, step};
use crate::store::stored::{Stored, select_jobs};
use crate::store::{Applied, Asked, Change, Happening, Outgoing, StoreError, Wish, code};

/// Tells jobs what happened to them. A job with several happenings is read once and written once.
pub(super) fn apply(session: &Session, happenings: &[Happening], now: Time) -> Result<Vec<Applied>, StoreError> {
    let mut touched: HashMap<JobId, (Stored, bool)> = HashMap::new();
    let mut answers = Vec::with_capacity(happenings.len());
    for Happening { job, event } in happenings {
        let (stored, changed) = match touched.entry(*job) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => match row::by_id(session, *job)? {
                Some(stored) => slot.insert((stored, false)),
                None => {
                    answers.push(Applied::Unknown);
                    continue;
                }
            },
        };
        answers.push(match advance(session, stored, event, now)? {
            Ok(change) => {
                *changed = true;
                Applied::Changed(change)
            }
            Err(ignored) => Applied::Ignored(ignored),
        });
    }
    for (stored, _) in touched.values().filter(|(_, changed)| *changed) {
        row::update(session, stored)?;
    }
    Ok(answers)
}

/// Tells one job of a tenant what its owner wants.
pub(super) fn ask(
    session: &Session,
    tenant: &Tenant,
    id: JobId,
    wish: Wish,
    now: Time,
) -> Result<Option<Asked>, StoreError> {
    let Some(mut stored) = row::of_tenant(session, tenant, id)? else {
        return Ok(None);
    };
    let asked = match move_on(session, &mut stored, &wish.into(), now)? {
        Ok(change) => Asked::Changed(change),
        Err(ignored) => Asked::Refused(stored.job, ignored),
    };
    Ok(Some(asked))
}

/// Claims the next jobs of a kind.
pub(super) fn claim(
    session: &Session,
    kind: &Kind,
    most: usize,
    until: Time,
    now: Time,
) -> Result<Vec<Outgoing>, StoreError> {
    let Some(kind) = session.kind_id(kind)? else {
        return Ok(Vec::new());
    };
    // What must have started by now is left to the sweeper, which ends it.
    let ready = row::readable(
        session,
        select_jobs!(
            "INDEXED BY jobs_ready WHERE j.phase = 1 AND j.kind = ?1 \
             AND (j.expires_at IS NULL OR j.expires_at > ?2 OR j.started_at IS NOT NULL) \
             ORDER BY j.priority DESC, j.n LIMIT ?3"
        ),
        params![kind, now.as_millis(), code::limit(most)],
    )?;
    let mut outgoing = Vec::with_capacity(ready.len());
    for mut stored in ready {
        if move_on(session, &mut stored, &Event::Claimed { until }, now)?.is_ok() {
            outgoing.push(Outgoing { input: input(session, stored.n)?, job: stored.job });
        }
    }
    Ok(outgoing)
}

/// Wakes jobs whose time has come. Expired first: what is both due and expired must not go out.
pub(super) fn wake_due(session: &Session, now: Time, most: usize) -> Result<Vec<Change>, StoreError> {
    let expired = row::readable(
        session,
        select_jobs!(
            "INDEXED BY jobs_expiring WHERE j.expires_at <= ?1 AND j.expires_at IS NOT NULL \
             AND j.started_at IS NULL AND j.phase IN (0, 1) ORDER BY j.expires_at LIMIT ?2"
        ),
        params![now.as_millis(), code::limit(most)],
    )?;
    let mut changes = move_all(session, expired, &Event::Expired, now)?;
    let due = row::readable(
        session,
        select_jobs!("INDEXED BY jobs_due WHERE j.phase IN (0, 4) AND j.run_at <= ?1 ORDER BY j.run_at LIMIT ?2"),
        params![now.as_millis(), code::limit(most.saturating_sub(changes.len()))],
    )?;
    changes.extend(move_all(session, due, &Event::Due, now)?);
    Ok(changes)
}

/// Takes back jobs whose lease has ended.
pub(super) fn end_leases(
    session: &Session,
    bereft: &HashSet<Kind>,
    now: Time,
    most: usize,
) -> Result<Vec<Change>, StoreError> {
    let ended = row::readable(
        session,
        select_jobs!("INDEXED BY jobs_leases WHERE j.lease_until <= ?1 ORDER BY j.lease_until LIMIT ?2"),
        params![now.as_millis(), code::limit(most)],
    )?;
    let (bereft, usual) = ended.into_iter().partition(|stored: &Stored| bereft.contains(&stored.job.kind));
    let mut changes = move_all(session, usual, &Event::LeaseEnded { bereft: false }, now)?;
    changes.extend(move_all(session, bereft, &Event::LeaseEnded { bereft: true }, now)?);
    Ok(changes)
}

/// Takes back every job that is out, as if their leases had ended now.
pub(super) fn void_leases(session: &Session, now: Time) -> Result<usize, StoreError> {
    let mut out = row::readable(session, select_jobs!("INDEXED BY jobs_leases WHERE j.lease_until IS NOT NULL"), [])?;
    out.iter_mut().for_each(|stored| stored.job.phase = stored.job.phase.until(now));
    // With the process, its worker was lost.
    Ok(move_all(session, out, &Event::LeaseEnded { bereft: true }, now)?.len())
}

fn move_all(session: &Session, jobs: Vec<Stored>, event: &Event, now: Time) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::with_capacity(jobs.len());
    for mut stored in jobs {
        if let Ok(change) = move_on(session, &mut stored, event, now)? {
            changes.push(change);
        }
    }
    Ok(changes)
}

/// Moves one job and writes its row.
fn move_on(
    session: &Session,
    stored: &mut Stored,
    event: &Event,
    now: Time,
) -> Result<Result<Change, Ignored>, StoreError> {
    let moved = advance(session, stored, event, now)?;
    if moved.is_ok() {
        row::update(session, stored)?;
    }
    Ok(moved)
}

/// Moves one job; writes what goes with it, but not yet its row.
fn advance(
    session: &Session,
    stored: &mut Stored,
    event: &Event,
    now: Time,
) -> Result<Result<Change, Ignored>, StoreError> {
    let was_out = stored.job.phase.lease().is_some();
    match step(&stored.job, event, now) {
        Ok(transition) => {
            stored.job = transition.job;
            log::write(session, stored, &transition.effects, now)?;
            Ok(Ok(Change { job: stored.job.clone(), was_out }))
        }
        Err(ignored) => Ok(Err(ignored)),
    }
}

/// A job's input.
pub(super) fn input(session: &Session, n: i64) -> Result<Bytes, StoreError> {
    let input: Option<Vec<u8>> = row::value(session, "SELECT input FROM inputs WHERE n = ?1", &[&n])?;
    input.map(Bytes::from).ok_or_else(|| StoreError::Corrupt(format!("job {n} has no input")))
}
