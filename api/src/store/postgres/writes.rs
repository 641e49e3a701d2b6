use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use buzzer_shared::id::JobId;
use buzzer_shared::time::Time;
use bytes::Bytes;
use deadpool_postgres::GenericClient;
use futures_util::future::try_join;
use tokio_postgres::{Row, Statement};

use super::error::Failure;
use super::hints::{FeedRange, News};
use super::hooks::Hooks;
use super::row::{self, Parameters, json};
use super::{deliveries, webhooks};
use crate::delivery::host;
use crate::lifecycle::{Effect, Entry, Event, Ignored, Job, step};
use crate::store::stored::{Stored, wanting};
use crate::store::{Change, code};

/// What a transaction writes at its end, all at once: the rows of jobs that changed, and the log.
#[derive(Debug, Default)]
pub(super) struct Writes {
    moved: Vec<Moved>,
    /// Those that are new.
    accepted: Vec<Stored>,
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
    /// When it is written; the entry itself may be of a time by the clock of a worker.
    now: Time,
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
        moved.output = self.log(&moved.stored, transition.effects, now).or(moved.output.take());
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

    /// Takes in the rows that go with a new job.
    pub(super) fn accept(&mut self, stored: Stored, effects: Vec<Effect>) {
        let now = stored.job.created_at;
        self.log(&stored, effects, now);
        self.accepted.push(stored);
    }

    /// Takes in the rows that go with a move of a job; its output, if that is among them, is handed back. Of the internal
    /// tenant nobody reads the logs: it has none.
    fn log(&mut self, stored: &Stored, effects: Vec<Effect>, now: Time) -> Option<Bytes> {
        let mut kept = None;
        for effect in effects {
            match effect {
                Effect::Log(_) if stored.job.tenant.is_internal() => {}
                Effect::Log(entry) => self.log.push(Line { tenant: stored.tenant, job: stored.n, entry, now }),
                Effect::KeepOutput(output) => kept = Some(output),
            }
        }
        kept
    }

    /// Takes in what another part of the same transaction writes.
    pub(super) fn extend(&mut self, more: Writes) {
        self.moved.extend(more.moved);
        self.accepted.extend(more.accepted);
        self.log.extend(more.log);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.log.is_empty()
    }

    /// Writes everything, the feeds' numbers last but for what these lead to. The commit should follow at once: others wait
    /// for those.
    pub(super) async fn write(self, client: &impl GenericClient, hooks: &Hooks) -> Result<News, Failure> {
        // Sent at once, in this order.
        let ((), tenants) = try_join(self.write_rows(client), self.write_log(client)).await?;
        self.write_deliveries(client, hooks, &tenants).await?;
        Ok(News { jobs: self.changed(), feeds: tenants.into_iter().map(|tenant| tenant.feed).collect() })
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
    async fn write_log(&self, client: &impl GenericClient) -> Result<Vec<Raised>, Failure> {
        if self.log.is_empty() {
            return Ok(Vec::new());
        }
        let counts = self.entries_of_each();
        let raise = client.prepare_cached(RAISE).await?;
        let append = client.prepare_cached(APPEND).await?;
        // Both are sent at once, in this order: the rows of the tenants are held for one round trip less.
        let raised = raise_feeds(client, &raise, &counts);
        let (tenants, _) = try_join(raised, self.append(client, &append, counts.clone())).await?;
        Ok(tenants)
    }

    /// Begins the deliveries of what was logged. The rows of the tenants are locked: whom they have enabled is whom they had
    /// when each entry got its number.
    async fn write_deliveries(
        &self,
        client: &impl GenericClient,
        hooks: &Hooks,
        tenants: &[Raised],
    ) -> Result<(), Failure> {
        let with_hooks = tenants.iter().filter(|tenant| tenant.webhooks > 0);
        let mut hooked = HashMap::new();
        for Raised { feed, webhooks } in with_hooks {
            hooked.insert(feed.tenant, hooks.of(client, feed.tenant, *webhooks).await?);
        }
        if hooked.is_empty() && self.jobs().all(|stored| stored.job.webhook.is_none()) {
            return Ok(());
        }
        let jobs: HashMap<i64, &Job> = self.jobs().map(|stored| (stored.n, &stored.job)).collect();
        let lines = || self.log.iter().filter_map(|line| Some((line, *jobs.get(&line.job)?)));
        let hosts = self.keep_hosts(client, lines()).await?;
        let mut raised = Vec::new();
        for (line, job) in lines() {
            let r#type = line.entry.r#type;
            let begin = |webhook, url| deliveries::Raised {
                tenant: line.tenant,
                webhook,
                url,
                job: line.job,
                seq: line.entry.seq,
                r#type,
                now: line.now,
            };
            let hooks = hooked.get(&line.tenant).into_iter();
            raised.extend(hooks.flat_map(|hooks| wanting(hooks, job, r#type)).map(|hook| begin(hook.n, None)));
            if let Some((url, host)) = named(line, job)
                && let Some(n) = hosts.get(&host)
            {
                raised.push(begin(*n, Some(url)));
            }
        }
        deliveries::begin(client, &raised).await
    }

    /// The rows for the hosts that are told of these lines because their jobs have named them.
    async fn keep_hosts<'a>(
        &self,
        client: &impl GenericClient,
        lines: impl Iterator<Item = (&'a Line, &'a Job)>,
    ) -> Result<HashMap<(i64, String), i64>, Failure> {
        let hosts: BTreeSet<_> = lines.filter_map(|(line, job)| Some(named(line, job)?.1)).collect();
        match self.log.first() {
            Some(line) if !hosts.is_empty() => {
                webhooks::keep_hosts(client, &hosts.into_iter().collect::<Vec<_>>(), line.now).await
            }
            _ => Ok(HashMap::new()),
        }
    }

    /// Every job that is written.
    fn jobs(&self) -> impl Iterator<Item = &Stored> {
        self.moved.iter().map(|moved| &moved.stored).chain(&self.accepted)
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

/// The URL that is told of a line because the job has named it, and its host among those of the tenant.
fn named<'a>(line: &Line, job: &'a Job) -> Option<(&'a str, (i64, String))> {
    let own = job.webhook.as_ref().filter(|own| own.events.contain(line.entry.r#type))?;
    Some((&own.url, (line.tenant, host(&own.url))))
}

/// A tenant whose row is locked, with the new numbers of its feed.
#[derive(Debug)]
struct Raised {
    feed: FeedRange,
    /// How often its webhooks have changed.
    webhooks: i64,
}

/// The rows are locked in the order of their numbers, as everybody does.
const RAISE: &str = "WITH owners AS MATERIALIZED \
                     (SELECT id FROM tenants WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE) \
                     UPDATE tenants AS t SET feed = t.feed + u.entries \
                     FROM owners AS o JOIN unnest($1::bigint[], $2::bigint[]) AS u (id, entries) ON u.id = o.id \
                     WHERE t.id = o.id RETURNING t.id, t.feed, u.entries, t.webhooks";
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
) -> Result<Vec<Raised>, tokio_postgres::Error> {
    let (tenants, entries): (Vec<i64>, Vec<i64>) = counts.iter().map(|(tenant, entries)| (*tenant, *entries)).unzip();
    let rows = client.query(statement, &[&tenants, &entries]).await?;
    let raised = |row: &Row| {
        let (last, entries): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        let feed = FeedRange { tenant: row.try_get(0)?, after: last - entries, last };
        Ok(Raised { feed, webhooks: row.try_get(3)? })
    };
    rows.iter().map(raised).collect()
}
