use std::collections::{BTreeMap, HashSet};

use buzzer_shared::id::JobId;
use buzzer_shared::time::Time;
use bytes::Bytes;
use deadpool_postgres::GenericClient;
use futures_util::future::try_join;
use tokio_postgres::{Row, Statement};

use super::error::Failure;
use super::hints::{FeedRange, News};
use super::row::{self, Parameters, json};
use crate::lifecycle::{Effect, Entry, Event, Ignored, Job, step};
use crate::store::stored::Stored;
use crate::store::{Change, code};

/// What a transaction writes at its end, all at once: the rows of jobs that changed, and the log.
#[derive(Debug, Default)]
pub(super) struct Writes {
    moved: Vec<Moved>,
    log: Vec<Line>,
}

/// A job whose row is locked, on its way from one phase to another.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) stored: Stored,
    output: Option<Bytes>,
    changed: bool,
}

/// An entry for the log of one job.
#[derive(Debug)]
struct Line {
    tenant: i64,
    job: i64,
    entry: Entry,
}

impl Moved {
    pub(super) fn new(stored: Stored) -> Self {
        Self { stored, output: None, changed: false }
    }
}

impl Writes {
    /// Tells a job what happened to it. Its row is written with [`Writes::keep`].
    pub(super) fn advance(&mut self, moved: &mut Moved, event: &Event, now: Time) -> Result<Change, Ignored> {
        let was_out = moved.stored.job.phase.lease().is_some();
        let transition = step(&moved.stored.job, event, now)?;
        moved.stored.job = transition.job;
        moved.changed = true;
        moved.output = self.log(&moved.stored, transition.effects).or(moved.output.take());
        Ok(Change { job: moved.stored.job.clone(), was_out })
    }

    /// Writes the row of a job, if it has changed.
    pub(super) fn keep(&mut self, moved: Moved) {
        if moved.changed {
            self.moved.push(moved);
        }
    }

    /// Tells a job one thing, and writes its row.
    pub(super) fn move_on(&mut self, stored: Stored, event: &Event, now: Time) -> Result<Change, Ignored> {
        let mut moved = Moved::new(stored);
        let change = self.advance(&mut moved, event, now)?;
        self.keep(moved);
        Ok(change)
    }

    /// Tells many jobs the same; those that take no notice are left out.
    pub(super) fn move_all(&mut self, jobs: impl IntoIterator<Item = Stored>, event: &Event, now: Time) -> Vec<Change> {
        jobs.into_iter().filter_map(|stored| self.move_on(stored, event, now).ok()).collect()
    }

    /// Takes in the rows that go with a move of a job; its output, if that is among them, is handed back.
    pub(super) fn log(&mut self, stored: &Stored, effects: Vec<Effect>) -> Option<Bytes> {
        let mut kept = None;
        for effect in effects {
            match effect {
                Effect::Log(entry) => self.log.push(Line { tenant: stored.tenant, job: stored.n, entry }),
                Effect::KeepOutput(output) => kept = Some(output),
            }
        }
        kept
    }

    /// Takes in what another part of the same transaction writes.
    pub(super) fn extend(&mut self, more: Writes) {
        self.moved.extend(more.moved);
        self.log.extend(more.log);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.log.is_empty()
    }

    /// Writes everything, the feeds' numbers last. The commit should follow at once: others wait for those.
    pub(super) async fn write(self, client: &impl GenericClient) -> Result<News, Failure> {
        // Sent at once, in this order.
        let ((), feeds) = try_join(self.write_rows(client), self.write_log(client)).await?;
        Ok(News { jobs: self.changed(), feeds })
    }

    /// The jobs that have something new in their log, and that somebody may wait for: who is new is not known to anybody.
    fn changed(&self) -> Vec<JobId> {
        let logged: HashSet<i64> = self.log.iter().map(|line| line.job).collect();
        let changed = self.moved.iter().filter(|moved| logged.contains(&moved.stored.n));
        changed.map(|moved| moved.stored.job.id).collect()
    }

    async fn write_rows(&self, client: &impl GenericClient) -> Result<(), Failure> {
        if self.moved.is_empty() {
            return Ok(());
        }
        let time = |of: fn(&Job) -> Option<Time>| self.column(|moved| of(&moved.stored.job).map(Time::as_millis));
        let count = |of: fn(&Job) -> u32| self.column(|moved| i64::from(of(&moved.stored.job)));
        let jobs = || self.moved.iter().map(|moved| &moved.stored.job);
        let progress = jobs().map(|job| json(job.progress.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let error = jobs().map(|job| json(job.error.as_ref())).collect::<Result<Vec<_>, _>>()?;
        row::execute(
            client,
            "UPDATE jobs AS j SET phase = u.phase, run_at = u.run_at, lease_until = u.lease_until, attempt = u.attempt, \
             dispatch = u.dispatch, awaited = u.awaited, signal = u.signal, seq = u.seq, started_at = u.started_at, \
             finished_at = u.finished_at, progress = u.progress, error = u.error, \
             cancel_requested_at = u.cancel_requested_at, early = u.early, alone = u.alone, vanished = u.vanished, \
             crashes = u.crashes, told = u.told, output = u.output \
             FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bool[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], \
             $14::bigint[], $15::bool[], $16::bool[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bytea[]) \
             AS u (n, phase, run_at, lease_until, attempt, dispatch, awaited, signal, seq, started_at, finished_at, \
             progress, error, cancel_requested_at, early, alone, vanished, crashes, told, output) WHERE j.n = u.n",
            &[
                &self.column(|moved| moved.stored.n),
                &self.column(|moved| code::of_phase(moved.stored.job.phase)),
                &self.column(|moved| moved.stored.job.run_at.as_millis()),
                &time(|job| job.phase.lease()),
                &count(|job| job.attempt),
                &count(|job| job.dispatch),
                &self.column(|moved| moved.stored.job.awaited),
                &count(|job| job.signal),
                &count(|job| job.seq),
                &time(|job| job.started_at),
                &time(|job| job.finished_at),
                &progress,
                &error,
                &time(|job| job.cancel_requested_at),
                &self.column(|moved| moved.stored.job.early.map(|early| early.charged)),
                &self.column(|moved| moved.stored.job.suspicion.alone),
                &count(|job| job.suspicion.vanished),
                &count(|job| job.suspicion.crashes),
                &count(|job| job.told),
                &self.column(|moved| moved.output.as_deref()),
            ],
        )
        .await?;
        Ok(())
    }

    fn column<'a, T>(&'a self, of: impl Fn(&'a Moved) -> T) -> Vec<T> {
        self.moved.iter().map(of).collect()
    }

    /// Locks the row of each tenant, raises its number, and writes the entries under the numbers in between.
    async fn write_log(&self, client: &impl GenericClient) -> Result<Vec<FeedRange>, Failure> {
        if self.log.is_empty() {
            return Ok(Vec::new());
        }
        let counts = self.entries_of_each();
        let raise = client.prepare_cached(RAISE).await?;
        let append = client.prepare_cached(APPEND).await?;
        // Both are sent at once, in this order: the rows of the tenants are held for one round trip less.
        let raised = raise_feeds(client, &raise, &counts);
        let (feeds, _) = try_join(raised, self.append(client, &append, counts.clone())).await?;
        Ok(feeds)
    }

    fn entries_of_each(&self) -> BTreeMap<i64, i64> {
        let mut counts = BTreeMap::new();
        self.log.iter().for_each(|line| *counts.entry(line.tenant).or_default() += 1);
        counts
    }

    /// `below` counts down how far below its tenant's new number each entry is.
    async fn append(
        &self,
        client: &impl GenericClient,
        statement: &Statement,
        mut below: BTreeMap<i64, i64>,
    ) -> Result<u64, tokio_postgres::Error> {
        let below: Vec<i64> = self
            .log
            .iter()
            .map(|line| {
                let left = below.entry(line.tenant).or_default();
                *left -= 1;
                *left
            })
            .collect();
        let data: Vec<Option<String>> =
            self.log.iter().map(|line| line.entry.data.as_ref().map(ToString::to_string)).collect();
        let parameters: &Parameters<'_> = &[
            &self.lines(|line| line.tenant),
            &below,
            &self.lines(|line| line.job),
            &self.lines(|line| i64::from(line.entry.seq)),
            &self.lines(|line| line.entry.at.as_millis()),
            &self.lines(|line| i64::from(line.entry.attempt)),
            &self.lines(|line| code::of_log_type(line.entry.r#type)),
            &data,
        ];
        client.execute(statement, parameters).await
    }

    fn lines<T>(&self, of: impl Fn(&Line) -> T) -> Vec<T> {
        self.log.iter().map(of).collect()
    }
}

/// The rows are locked in the order of their numbers, as everybody does.
const RAISE: &str = "WITH owners AS MATERIALIZED \
                     (SELECT id FROM tenants WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE) \
                     UPDATE tenants AS t SET feed = t.feed + u.entries \
                     FROM owners AS o JOIN unnest($1::bigint[], $2::bigint[]) AS u (id, entries) ON u.id = o.id \
                     WHERE t.id = o.id RETURNING t.id, t.feed, u.entries";
const APPEND: &str = "INSERT INTO events (tenant, feed, job, seq, at, attempt, type, data) \
                      SELECT u.tenant, t.feed - u.below, u.job, u.seq, u.at, u.attempt, u.type, u.data \
                      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                      $6::bigint[], $7::smallint[], $8::text[]) \
                      AS u (tenant, below, job, seq, at, attempt, type, data) JOIN tenants AS t ON t.id = u.tenant";

/// Gives the feed of each tenant so many more numbers; tells which.
async fn raise_feeds(
    client: &impl GenericClient,
    statement: &Statement,
    counts: &BTreeMap<i64, i64>,
) -> Result<Vec<FeedRange>, tokio_postgres::Error> {
    let (tenants, entries): (Vec<i64>, Vec<i64>) = counts.iter().map(|(tenant, entries)| (*tenant, *entries)).unzip();
    let rows = client.query(statement, &[&tenants, &entries]).await?;
    let range = |row: &Row| {
        let (last, entries): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        Ok(FeedRange { tenant: row.try_get(0)?, after: last - entries, last })
    };
    rows.iter().map(range).collect()
}
