//! Where everything is kept. The store is the truth; the broker is a cache.
//!
//! A method is a whole promise: one transaction, named by what it means. When it has answered, what it wrote is on
//! disk. Nobody else says begin or commit, and no SQL stands outside this folder. `conformance` is the suite that every
//! store must pass.

mod code;
#[cfg(feature = "conformance")]
pub mod conformance;
mod keyring;
pub mod postgres;
pub mod sqlite;
mod stored;
pub mod survey;
mod tickets;
mod webhooks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::id::{JobId, RunId, Tenant, WorkerId};
use buzzer_shared::job::State;
use buzzer_shared::kind::{Kind, KindSpec, Refusal};
use buzzer_shared::message::Announce;
use buzzer_shared::time::Time;
use bytes::Bytes;

use crate::lifecycle::{Entry, Event, Ignored, Job, RunLease, Transition};
use crate::retention::Retention;

pub use keyring::{
    ApiKey, InvalidKeyId, InvalidKeyName, InvalidScope, KeyHash, KeyId, KeyName, Keyring, Scope, Scopes,
};
pub use tickets::{Issued, Ticket, TicketHash, Tickets};
pub use webhooks::{Addressee, Choice, End, Ended, Letter, Rotation, Settlement, Webhooks};

#[async_trait]
pub trait Store: Keyring + Tickets + Webhooks {
    /// Keeps a new job: its row, its input, the first lines of its log, and its key, all or nothing.
    ///
    /// With a key that the tenant has used before, nothing is kept, and the answer is the earlier job or
    /// [`Submitted::KeyReused`].
    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError>;

    /// What [`Store::submit`] would answer to this key: `None` when the tenant has not used it.
    async fn keyed(&self, tenant: &Tenant, key: &Key) -> Result<Option<Submitted>, StoreError>;

    /// One job of a tenant.
    async fn job(&self, tenant: &Tenant, id: JobId) -> Result<Option<Job>, StoreError>;

    /// One job of a tenant with its input and, where it has one, its output.
    async fn job_with_content(&self, tenant: &Tenant, id: JobId) -> Result<Option<JobWithContent>, StoreError>;

    /// Those of these jobs of a tenant whose input and output come to `most` bytes at most. In no order.
    async fn small_jobs(&self, tenant: &Tenant, ids: &[JobId], most: usize) -> Result<Vec<JobWithContent>, StoreError>;

    /// The number of the newest event of each of these jobs of a tenant, for those that there are.
    async fn seqs(&self, tenant: &Tenant, ids: &[JobId]) -> Result<HashMap<JobId, u32>, StoreError>;

    /// A tenant's jobs, newest first: those that fit `filter`, after `page.after`, at most `page.limit`.
    async fn jobs(&self, tenant: &Tenant, filter: &Filter, page: Page) -> Result<Vec<Listed>, StoreError>;

    /// The event log of one job of a tenant after `after`, oldest first, at most `limit`.
    async fn events(&self, tenant: &Tenant, id: JobId, after: u32, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// What all jobs of a tenant have logged after the number `after`, in the order of commits, at most `limit`. No
    /// number appears after a higher one, so a reader may go on from the last that it saw.
    async fn feed(&self, tenant: &Tenant, after: i64, limit: usize) -> Result<Vec<Fed>, StoreError>;

    /// The number of the newest entry in a tenant's feed; 0 where there is none.
    async fn feed_end(&self, tenant: &Tenant) -> Result<i64, StoreError>;

    /// How many jobs of its kind go out before this one, which waits for its turn; 0 for the next. `None` beyond
    /// `limit`, and for one that does not wait for its turn now.
    async fn place(&self, job: &Job, limit: u32) -> Result<Option<u32>, StoreError>;

    /// Claims the next jobs of a kind, at most `limit`: higher priority first, then the oldest. Each is out, until
    /// `until`, when this answers.
    async fn claim(&self, kind: &Kind, limit: usize, until: Time, now: Time) -> Result<Vec<Outgoing>, StoreError>;

    /// Tells jobs what happened to them, in the order given. One answer for each.
    ///
    /// An event that is refused does not hold up the others.
    async fn apply(&self, happenings: Vec<Happening>, now: Time) -> Result<Vec<Applied>, StoreError>;

    /// Tells one job of a tenant what its owner wants. `None`: there is no such job.
    async fn ask(&self, tenant: &Tenant, id: JobId, wish: Wish, now: Time) -> Result<Option<Asked>, StoreError>;

    /// Wakes jobs whose time has come: due, expired, at most `limit`.
    async fn wake_due(&self, now: Time, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// Takes back jobs whose lease has ended, at most `limit`. `bereft` are the kinds of which a worker was lost of
    /// late.
    async fn end_leases(&self, bereft: &HashSet<Kind>, now: Time, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// Takes back every job that is out. For a broker that died with the process before: nothing of what it carried
    /// is left.
    async fn void_leases(&self, now: Time) -> Result<usize, StoreError>;

    /// Deletes jobs that need not be kept any longer, with all that belongs to them, their keys too; at most `limit`
    /// jobs. Tells how many.
    async fn forget(&self, retention: &Retention, now: Time, limit: usize) -> Result<usize, StoreError>;

    /// Deletes one job of a tenant, with all that belongs to it, if it is done.
    async fn delete(&self, tenant: &Tenant, id: JobId) -> Result<Deleted, StoreError>;

    /// Keeps what a worker tells of itself and its kinds.
    async fn announce(&self, announce: &Announce, now: Time) -> Result<(), StoreError>;

    /// Notes that a worker is alive. `false` when it is not known: it should announce itself.
    async fn beat(&self, worker: WorkerId, now: Time) -> Result<bool, StoreError>;

    /// Forgets a worker that has left, and those not heard of since `before`.
    async fn dismiss(&self, worker: Option<WorkerId>, before: Time) -> Result<(), StoreError>;

    /// Every kind that was ever announced, by name.
    async fn kinds(&self) -> Result<Vec<KnownKind>, StoreError>;

    /// Every worker that is known, the longest running first.
    async fn workers(&self) -> Result<Vec<KnownWorker>, StoreError>;

    /// How many jobs of each kind are out.
    async fn out(&self) -> Result<HashMap<Kind, usize>, StoreError>;

    /// Numbers for each kind that has jobs which are not done.
    async fn backlog(&self) -> Result<BTreeMap<Kind, Backlog>, StoreError>;

    /// How much there is.
    async fn usage(&self) -> Result<Usage, StoreError>;

    /// Writes and reads back a row: whether the store works now.
    async fn probe(&self, now: Time) -> Result<(), StoreError>;

    /// Ends with the next hint of what other replicas on the same store did. For one caller at a time. Never ends for a
    /// store that has one user.
    async fn hint(&self) -> Hint {
        std::future::pending().await
    }
}

/// What other replicas did, for those who wait: the store is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Something happened to these jobs, and the feeds of these tenants have grown.
    News { jobs: Vec<JobId>, tenants: Vec<Tenant> },
    /// Something happened to more jobs than can be named.
    Any,
}

/// A job to keep.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job as [`crate::lifecycle::accept`] made it, claimed already or not.
    pub accepted: Transition,
    pub input: Bytes,
    pub key: Option<Key>,
}

/// An idempotency key with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The client's text.
    pub name: String,
    /// SHA-256 of kind and body: what else must be the same.
    pub fingerprint: [u8; 32],
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// It is kept.
    New,
    /// The key was used for the same before; this is that job as it is now.
    Repeated(Box<Job>),
    /// The key was used for something else before.
    KeyReused,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JobWithContent {
    pub job: Job,
    pub input: Bytes,
    pub output: Option<Bytes>,
}

/// Which jobs to list. An empty filter lets all through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    pub state: Option<State>,
    pub kind: Option<Kind>,
    pub tag: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The [`Listed::cursor`] of the last job of the page before.
    pub after: Option<i64>,
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Where the next page goes on. Falls from job to job; means nothing else.
    pub cursor: i64,
    pub job: Job,
}

/// An entry of some job's event log, as a tenant's feed has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fed {
    /// Rises from entry to entry within the tenant, over all its jobs.
    pub feed: i64,
    pub job: JobId,
    /// What the job is, to filter by.
    pub kind: Kind,
    pub tags: BTreeMap<String, String>,
    pub entry: Entry,
}

/// A claimed job with what its request needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub job: Job,
    pub input: Bytes,
}

/// Something that happened to some job.
#[derive(Debug, Clone)]
pub struct Happening {
    pub job: JobId,
    pub event: Event,
}

/// What came of a happening.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are changes")]
pub enum Applied {
    Changed(Change),
    Ignored(Ignored),
    /// No such job.
    Unknown,
}

/// What the owner of a job wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It should stop.
    Cancel,
    /// Its next attempt should not wait any longer.
    Retry,
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Changed(Change),
    /// The job stays as it is.
    Refused(Job, Ignored),
}

/// What came of a deletion.
#[derive(Debug, Clone, PartialEq)]
pub enum Deleted {
    /// It is gone; this is how it was.
    Gone(JobWithContent),
    /// It stays.
    NotDone(Job),
    /// No such job.
    Unknown,
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Jobs that are not done.
    pub unfinished: u64,
    /// Bytes on disk that are in use, as far as the store knows.
    pub bytes: u64,
}

/// A job before and after, as far as others must know.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub job: Job,
    /// Whether it was out before.
    pub was_out: bool,
}

/// A kind, and what workers have said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownKind {
    pub name: Kind,
    /// By version; never empty. At most [`CONTRACTS_MAX`]: of more, those that were not announced for longest are
    /// forgotten.
    pub contracts: Vec<KnownContract>,
}

/// What workers say of a kind, with all who say the same.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownContract {
    /// 1, 2, 3, … in the order in which they first came.
    pub version: u32,
    /// With the slots of whoever announced it last.
    pub spec: KindSpec,
    /// For the first time.
    pub announced_at: Time,
    /// For the last time.
    pub seen_at: Time,
}

/// So many contracts of one kind are kept. More are not told apart by people, and a worker that says something else
/// each time must not fill the store.
pub const CONTRACTS_MAX: u32 = 20;

/// A worker as it last announced itself.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownWorker {
    pub id: WorkerId,
    pub host: String,
    pub version: String,
    pub started_at: Time,
    pub seen_at: Time,
    /// Its kinds with their slots.
    pub kinds: BTreeMap<Kind, u16>,
    /// What it says of each, as the version of a contract.
    pub contracts: BTreeMap<Kind, u32>,
    /// What it says of kinds and is not taken.
    pub refused: Vec<Refusal>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Not before their time.
    pub scheduled: u64,
    /// Waiting for their turn.
    pub ready: u64,
    /// Sent out or running.
    pub out: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
    /// Since when the longest waiting of the ready ones has been accepted.
    pub oldest: Option<Time>,
}

/// Why the store did not do it. Nothing was written, unless it took longer than [`DEADLINE`], or a line to the store broke
/// during the commit and was not back soon: of that nobody knows.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Full, locked, out of reach: it may work again later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood.
    #[error("the store holds something unexpected: {0}")]
    Corrupt(String),
}

/// How long a store may take for one thing before it counts as not available.
pub const DEADLINE: Duration = Duration::from_secs(30);

impl From<Wish> for Event {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Cancel => Event::CancelRequested,
            Wish::Retry => Event::RetryRequested,
        }
    }
}

/// Leases that a beat renews.
pub fn renewals(held: &[RunId], lease: RunLease) -> Vec<Happening> {
    let renewal = |run: &RunId| Happening { job: run.job, event: Event::Held { dispatch: run.dispatch, lease } };
    held.iter().map(renewal).collect()
}
