//! A store in one file.
//!
//! One thread writes ([`writer`]), three read ([`reader`]); each has its own connection, a [`session`], and none of
//! the async threads ever waits for the disk. The other files are what they do, each in one transaction.

mod open;
mod reader;
mod session;
mod survey;
mod writer;

mod apply;
mod count;
mod deliveries;
mod error;
mod fleet;
mod forget;
mod keyring;
mod list;
mod log;
mod row;
mod submit;
mod tickets;
mod webhooks;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use buzzer_shared::id::{DeliveryId, JobId, Tenant, WebhookId, WorkerId};
use buzzer_shared::kind::Kind;
use buzzer_shared::message::Announce;
use buzzer_shared::time::Time;
use buzzer_shared::webhook::Secret;

use open::Database;
pub use open::OpenError;
use reader::Readers;
pub use survey::survey;
use writer::Writer;

use super::{
    Addressee, ApiKey, Applied, Asked, Backlog, Change, Choice, Deleted, Ended, Fed, Filter, Happening, Issued,
    JobWithContent, Key, KeyHash, KeyId, Keyring, KnownKind, KnownWorker, Letter, Listed, Outgoing, Page, Rotation,
    Settlement, Store, StoreError, Submission, Submitted, Ticket, TicketHash, Tickets, Usage, Webhooks, Wish,
};
use crate::delivery::{Delivery, Edit, Rules, Secrets, Webhook};
use crate::lifecycle::{Entry, Job};
use crate::retention::Retention;

/// Enough that a long list does not hold up a short question.
const READERS: usize = 3;

/// A store in an SQLite file, for one process at a time.
///
/// Dropping it waits until all that was begun is on disk, closes the file and frees it for the next.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    /// Dropped last: its lock must outlive every connection.
    _database: Arc<Database>,
}

impl SqliteStore {
    /// Opens the file at `path`, creates it where there is none, and brings its tables up to date. Blocks while it
    /// does.
    ///
    /// # Errors
    /// Whenever what is written there might not be safe: see [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::on(Database::open(path)?)
    }

    /// The same without threads: whoever has a question waits for the disk itself. For simulations, whose time must not
    /// pass while others work.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub fn open_here(path: &Path) -> Result<Self, OpenError> {
        let database = Arc::new(Database::open(path)?);
        let readers = Readers::here(database.reader()?);
        let writer = Writer::here(Arc::clone(&database), database.writer()?);
        Ok(Self { writer, readers, _database: database })
    }

    /// The API keys in a file that is there, also while another process has it open. Blocks as [`SqliteStore::open`]
    /// does.
    ///
    /// # Errors
    /// The same, when there is no file, and when the other process is of an older version.
    pub fn keyring(path: &Path) -> Result<impl Keyring + use<>, OpenError> {
        Self::on(Database::beside_if_there(path)?)
    }

    /// The same, and creates the file where there is none.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`], and when the other process is of an older version.
    pub fn keyring_or_new(path: &Path) -> Result<impl Keyring + use<>, OpenError> {
        Self::on(Database::beside(path)?)
    }

    fn on(database: Database) -> Result<Self, OpenError> {
        let database = Arc::new(database);
        let readers = (0..READERS).map(|_| database.reader()).collect::<Result<_, _>>()?;
        let no_thread = |source| OpenError::Threads { source };
        Ok(Self {
            writer: Writer::start(Arc::clone(&database), database.writer()?).map_err(no_thread)?,
            readers: Readers::start(readers).map_err(no_thread)?,
            _database: database,
        })
    }
}

#[async_trait]
impl Keyring for SqliteStore {
    async fn keep_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.writer.write(move |session| keyring::keep(session, &key)).await
    }

    async fn api_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
        let hash = *hash;
        self.readers.read(move |session| keyring::by_hash(session, &hash)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.readers.read(keyring::all).await
    }

    async fn revoke_api_key(&self, id: &KeyId, now: Time) -> Result<Option<ApiKey>, StoreError> {
        let id = id.clone();
        self.writer.write(move |session| keyring::revoke(session, &id, now)).await
    }
}

#[async_trait]
impl Tickets for SqliteStore {
    async fn keep_ticket(&self, ticket: &Ticket, most: usize, now: Time) -> Result<Issued, StoreError> {
        let ticket = ticket.clone();
        self.writer.write(move |session| tickets::keep(session, &ticket, most, now)).await
    }

    async fn ticket(&self, hash: &TicketHash) -> Result<Option<Ticket>, StoreError> {
        let hash = *hash;
        self.readers.read(move |session| tickets::by_hash(session, &hash)).await
    }

    async fn forget_tickets(&self, now: Time, limit: usize) -> Result<usize, StoreError> {
        self.writer.write(move |session| tickets::forget(session, now, limit)).await
    }
}

#[async_trait]
impl Webhooks for SqliteStore {
    async fn keep_webhook(&self, tenant: &Tenant, webhook: &Webhook, most: usize) -> Result<bool, StoreError> {
        let (tenant, webhook) = (tenant.clone(), webhook.clone());
        self.writer.write(move |session| webhooks::keep(session, &tenant, &webhook, most)).await
    }

    async fn webhook(&self, tenant: &Tenant, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| Ok(webhooks::by_id(session, &tenant, id)?.map(|(_, webhook)| webhook))).await
    }

    async fn webhooks(&self, tenant: &Tenant, page: Page) -> Result<Vec<(i64, Webhook)>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| webhooks::list(session, &tenant, page)).await
    }

    async fn edit_webhook(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        edit: &Edit,
        now: Time,
    ) -> Result<Option<Webhook>, StoreError> {
        let (tenant, edit) = (tenant.clone(), edit.clone());
        self.writer.write(move |session| webhooks::change(session, &tenant, id, |webhook| edit.of(webhook, now))).await
    }

    async fn rotate_secret(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        rotation: &Rotation,
        now: Time,
    ) -> Result<Option<Webhook>, StoreError> {
        let (tenant, rotation) = (tenant.clone(), rotation.clone());
        self.writer
            .write(move |session| webhooks::change(session, &tenant, id, |webhook| rotation.of(webhook, now)))
            .await
    }

    async fn delete_webhook(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Webhook>, StoreError> {
        let tenant = tenant.clone();
        self.writer.write(move |session| webhooks::delete(session, &tenant, id, now)).await
    }

    async fn job_secrets(&self, tenant: &Tenant, fresh: &Secret) -> Result<Secrets, StoreError> {
        let (tenant, fresh) = (tenant.clone(), fresh.clone());
        self.writer.write(move |session| webhooks::job_secrets(session, &tenant, &fresh)).await
    }

    async fn rotate_job_secret(&self, tenant: &Tenant, rotation: &Rotation, now: Time) -> Result<Secrets, StoreError> {
        let (tenant, rotation) = (tenant.clone(), rotation.clone());
        self.writer.write(move |session| webhooks::rotate_job_secret(session, &tenant, &rotation, now)).await
    }

    async fn deliveries(
        &self,
        tenant: &Tenant,
        to: Addressee,
        choice: &Choice,
        page: Page,
    ) -> Result<Option<Vec<(i64, Delivery)>>, StoreError> {
        let (tenant, choice) = (tenant.clone(), *choice);
        self.readers.read(move |session| deliveries::list(session, &tenant, to, &choice, page)).await
    }

    async fn begin_test(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Delivery>, StoreError> {
        let tenant = tenant.clone();
        self.writer.write(move |session| deliveries::begin_test(session, &tenant, id, now)).await
    }

    async fn replay(
        &self,
        tenant: &Tenant,
        to: Addressee,
        id: DeliveryId,
        now: Time,
    ) -> Result<Option<Delivery>, StoreError> {
        let tenant = tenant.clone();
        self.writer.write(move |session| deliveries::replay(session, &tenant, to, id, now)).await
    }

    async fn replay_events(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        events: &[(JobId, u32)],
        undelivered: bool,
        now: Time,
    ) -> Result<usize, StoreError> {
        let (tenant, events) = (tenant.clone(), events.to_vec());
        self.writer
            .write(move |session| deliveries::replay_events(session, &tenant, id, &events, undelivered, now))
            .await
    }

    async fn listening(&self) -> Result<HashSet<Tenant>, StoreError> {
        self.readers.read(webhooks::listening).await
    }

    async fn take_deliveries(&self, slots: usize, now: Time) -> Result<Vec<Job>, StoreError> {
        // Most often nobody has a turn: that need not wait behind the submissions.
        if self.readers.read(move |session| deliveries::turn(session, slots, now)).await?.is_empty() {
            return Ok(Vec::new());
        }
        self.writer.write(move |session| deliveries::take(session, slots, now)).await
    }

    async fn ended_deliveries(&self, limit: usize) -> Result<Vec<Ended>, StoreError> {
        self.readers.read(move |session| deliveries::ended(session, limit)).await
    }

    async fn settle_deliveries(
        &self,
        attempts: Vec<Settlement>,
        rules: &Rules,
        now: Time,
    ) -> Result<Vec<Webhook>, StoreError> {
        let rules = rules.clone();
        self.writer.write(move |session| deliveries::settle_all(session, &attempts, &rules, now)).await
    }

    async fn letter(&self, id: DeliveryId, run: JobId) -> Result<Option<Letter>, StoreError> {
        self.readers.read(move |session| deliveries::letter(session, id, run)).await
    }

    async fn forget_deliveries(&self, before: Time, limit: usize) -> Result<usize, StoreError> {
        self.writer.write(move |session| deliveries::forget(session, before, limit)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.writer.write(move |session| submit::submit(session, &submission)).await
    }

    async fn keyed(&self, tenant: &Tenant, key: &Key) -> Result<Option<Submitted>, StoreError> {
        let (tenant, key) = (tenant.clone(), key.clone());
        self.readers.read(move |session| submit::keyed(session, &tenant, &key)).await
    }

    async fn job(&self, tenant: &Tenant, id: JobId) -> Result<Option<Job>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| Ok(row::of_tenant(session, &tenant, id)?.map(|stored| stored.job))).await
    }

    async fn job_with_content(&self, tenant: &Tenant, id: JobId) -> Result<Option<JobWithContent>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| list::with_content(session, &tenant, id)).await
    }

    async fn small_jobs(&self, tenant: &Tenant, ids: &[JobId], most: usize) -> Result<Vec<JobWithContent>, StoreError> {
        let (tenant, ids) = (tenant.clone(), ids.to_vec());
        self.readers.read(move |session| list::small(session, &tenant, &ids, most)).await
    }

    async fn seqs(&self, tenant: &Tenant, ids: &[JobId]) -> Result<HashMap<JobId, u32>, StoreError> {
        let (tenant, ids) = (tenant.clone(), ids.to_vec());
        self.readers.read(move |session| log::seqs(session, &tenant, &ids)).await
    }

    async fn jobs(&self, tenant: &Tenant, filter: &Filter, page: Page) -> Result<Vec<Listed>, StoreError> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.readers.read(move |session| list::jobs(session, &tenant, &filter, page)).await
    }

    async fn events(&self, tenant: &Tenant, id: JobId, after: u32, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| log::of_job(session, &tenant, id, after, limit)).await
    }

    async fn feed(&self, tenant: &Tenant, after: i64, limit: usize) -> Result<Vec<Fed>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| log::of_tenant(session, &tenant, after, limit)).await
    }

    async fn feed_end(&self, tenant: &Tenant) -> Result<i64, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |session| log::end(session, &tenant)).await
    }

    async fn place(&self, job: &Job, limit: u32) -> Result<Option<u32>, StoreError> {
        let (tenant, id) = (job.tenant.clone(), job.id);
        self.readers.read(move |session| count::place(session, &tenant, id, limit)).await
    }

    async fn claim(&self, kind: &Kind, limit: usize, until: Time, now: Time) -> Result<Vec<Outgoing>, StoreError> {
        let kind = kind.clone();
        self.writer.write(move |session| apply::claim(session, &kind, limit, until, now)).await
    }

    async fn apply(&self, happenings: Vec<Happening>, now: Time) -> Result<Vec<Applied>, StoreError> {
        self.writer.write(move |session| apply::apply(session, &happenings, now)).await
    }

    async fn ask(&self, tenant: &Tenant, id: JobId, wish: Wish, now: Time) -> Result<Option<Asked>, StoreError> {
        let tenant = tenant.clone();
        self.writer.write(move |session| apply::ask(session, &tenant, id, wish, now)).await
    }

    async fn wake_due(&self, now: Time, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.writer.write(move |session| apply::wake_due(session, now, limit)).await
    }

    async fn end_leases(&self, bereft: &HashSet<Kind>, now: Time, limit: usize) -> Result<Vec<Change>, StoreError> {
        let bereft = bereft.clone();
        self.writer.write(move |session| apply::end_leases(session, &bereft, now, limit)).await
    }

    async fn void_leases(&self, now: Time) -> Result<usize, StoreError> {
        self.writer.write(move |session| apply::void_leases(session, now)).await
    }

    async fn forget(&self, retention: &Retention, now: Time, limit: usize) -> Result<usize, StoreError> {
        let retention = retention.clone();
        self.writer.write(move |session| forget::forget(session, &retention, now, limit)).await
    }

    async fn delete(&self, tenant: &Tenant, id: JobId) -> Result<Deleted, StoreError> {
        let tenant = tenant.clone();
        self.writer.write(move |session| forget::delete(session, &tenant, id)).await
    }

    async fn announce(&self, announce: &Announce, now: Time) -> Result<(), StoreError> {
        let announce = announce.clone();
        self.writer.write(move |session| fleet::announce(session, &announce, now)).await
    }

    async fn beat(&self, worker: WorkerId, now: Time) -> Result<bool, StoreError> {
        self.writer.write(move |session| fleet::beat(session, worker, now)).await
    }

    async fn dismiss(&self, worker: Option<WorkerId>, before: Time) -> Result<(), StoreError> {
        self.writer.write(move |session| fleet::dismiss(session, worker, before)).await
    }

    async fn kinds(&self) -> Result<Vec<KnownKind>, StoreError> {
        self.readers.read(fleet::kinds).await
    }

    async fn workers(&self) -> Result<Vec<KnownWorker>, StoreError> {
        self.readers.read(fleet::workers).await
    }

    async fn out(&self) -> Result<HashMap<Kind, usize>, StoreError> {
        self.readers.read(count::out).await
    }

    async fn backlog(&self) -> Result<BTreeMap<Kind, Backlog>, StoreError> {
        self.readers.read(count::backlog).await
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        self.readers.read(count::usage).await
    }

    async fn probe(&self, now: Time) -> Result<(), StoreError> {
        self.writer.write(move |session| count::probe(session, now)).await
    }
}
