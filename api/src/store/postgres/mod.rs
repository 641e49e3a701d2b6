//! A store in a PostgreSQL database, which several replicas may share.
//!
//! Submissions and outcomes go through a [`writer`], which does many of them in one transaction; the rest is one short
//! transaction each. Rows are locked first ([`apply`]: in the order of ids; or only those that are free), what becomes of
//! them is decided here, and everything is written at the end ([`writes`]), the number of the tenant's feed last of all.
//! [`hints`] is how replicas tell each other what they did.

mod address;
mod begun;
mod clock;
mod house;
mod names;
mod open;
mod pools;
mod survey;
mod tls;

mod hints;
mod hooks;
mod writer;
mod writes;

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

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::id::{DeliveryId, JobId, Tenant, WebhookId, WorkerId};
use buzzer_shared::kind::Kind;
use buzzer_shared::message::Announce;
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::webhook::Secret;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

pub use address::{NotPostgres, PostgresUrl};
use clock::DatabaseClock;
use error::Failure;
use hints::{Heard, Hints, Messenger};
use hooks::Hooks;
use house::House;
use names::Names;
pub use open::OpenError;
use open::Tables;
use pools::Pools;
pub use survey::survey;
use writer::Writer;

use super::{
    Addressee, ApiKey, Applied, Asked, Backlog, Change, Choice, DEADLINE, Deleted, Ended, Fed, Filter, Happening, Hint,
    Issued, JobWithContent, Key, KeyHash, KeyId, Keyring, KnownKind, KnownWorker, Letter, Listed, Outgoing, Page,
    Rotation, Settlement, Store, StoreError, Submission, Submitted, Ticket, TicketHash, Tickets, Usage, Webhooks, Wish,
};
use crate::delivery::{Delivery, Edit, Rules, Secrets, Webhook};
use crate::lifecycle::{Entry, Job};
use crate::retention::Retention;

/// How soon a server that is away is tried again: at first, and at last.
const AGAIN_SOONEST: Duration = Duration::from_millis(200);
const AGAIN_LATEST: Duration = Duration::from_secs(5);

/// A store in a PostgreSQL database. Needs a tokio runtime.
#[derive(Debug)]
pub struct PostgresStore {
    house: Arc<House>,
    writer: Writer,
    clock: Arc<DatabaseClock>,
    messenger: JoinHandle<()>,
}

impl PostgresStore {
    /// Connects, brings the tables up to date, and begins to listen to the other replicas.
    ///
    /// # Errors
    /// [`OpenError::Away`] where trying again may help; else when somebody must do something first.
    pub async fn open(url: &PostgresUrl) -> Result<Self, OpenError> {
        Self::with(url, Tables::UpToDate).await
    }

    /// The API keys in a database of this version. Its tables are left as they are: replicas of another version may run.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`], and when the tables are of an older version, or missing.
    pub async fn keyring(url: &PostgresUrl) -> Result<impl Keyring + use<>, OpenError> {
        Self::with(url, Tables::AsTheyAre).await
    }

    /// The same, and makes the tables where there are none.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`], and when the tables are of an older version.
    pub async fn keyring_or_new(url: &PostgresUrl) -> Result<impl Keyring + use<>, OpenError> {
        Self::with(url, Tables::NewIfMissing).await
    }

    async fn with(url: &PostgresUrl, tables: Tables) -> Result<Self, OpenError> {
        let target = url.target()?;
        let tls = tls::connector(&target.trust)?;
        let client = open::prepare(&target, &tls, tables).await?;
        let reading = open::read_clock(&client).await.map_err(|error| open::failed(&target, &error))?;
        let clock = Arc::new(DatabaseClock::set_by(reading));
        let house = Arc::new(House {
            pools: Pools::new(&target, &tls)?,
            names: Names::default(),
            hints: Hints::default(),
            hooks: Hooks::default(),
        });
        let writer = Writer::start(&house);
        let own = Uuid::from_u128(fastrand::u128(..));
        let messenger = Messenger { target, tls, hints: house.hints.clone(), clock: Arc::clone(&clock), own };
        Ok(Self { house, writer, clock, messenger: tokio::spawn(messenger.run()) })
    }

    /// The same, and waits for a server that is away: it may start at the same time, or be started again.
    ///
    /// # Errors
    /// When somebody must do something first.
    pub async fn open_once_there(url: &PostgresUrl) -> Result<Self, OpenError> {
        let mut again = AGAIN_SOONEST;
        loop {
            match Self::open(url).await {
                Err(error @ OpenError::Away { .. }) => {
                    if again == AGAIN_SOONEST {
                        tracing::warn!(%error, "waiting for the store; it is tried again until it is there");
                    }
                    tokio::time::sleep(again.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    again = (again * 2).min(AGAIN_LATEST);
                }
                opened => return opened,
            }
        }
    }

    /// The clock by which everybody must go who uses this store.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::<DatabaseClock>::clone(&self.clock)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.messenger.abort();
    }
}

/// What `step` comes to, if it does so in time.
async fn in_time<T>(step: impl Future<Output = Result<T, Failure>>) -> Result<T, StoreError> {
    Ok(timeout(DEADLINE, step).await.unwrap_or_else(|_| Err(error::too_slow()))?)
}

#[async_trait]
impl Keyring for PostgresStore {
    async fn keep_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        in_time(async { keyring::keep(&self.house.pools.work().await?, key).await }).await
    }

    async fn api_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
        in_time(async { keyring::by_hash(&self.house.pools.read().await?, hash).await }).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        in_time(async { keyring::all(&self.house.pools.read().await?).await }).await
    }

    async fn revoke_api_key(&self, id: &KeyId, now: Time) -> Result<Option<ApiKey>, StoreError> {
        in_time(async { keyring::revoke(&self.house.pools.work().await?, id, now).await }).await
    }
}

#[async_trait]
impl Tickets for PostgresStore {
    async fn keep_ticket(&self, ticket: &Ticket, most: usize, now: Time) -> Result<Issued, StoreError> {
        in_time(tickets::keep(&self.house, ticket, most, now)).await
    }

    async fn ticket(&self, hash: &TicketHash) -> Result<Option<Ticket>, StoreError> {
        in_time(async { tickets::by_hash(&self.house.pools.read().await?, hash).await }).await
    }

    async fn forget_tickets(&self, now: Time, limit: usize) -> Result<usize, StoreError> {
        in_time(async { tickets::forget(&self.house.pools.work().await?, now, limit).await }).await
    }
}

#[async_trait]
impl Webhooks for PostgresStore {
    async fn keep_webhook(&self, tenant: &Tenant, webhook: &Webhook, most: usize) -> Result<bool, StoreError> {
        in_time(webhooks::keep(&self.house, tenant, webhook, most)).await
    }

    async fn webhook(&self, tenant: &Tenant, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        let found = in_time(async { webhooks::by_id(&pools.read().await?, names, tenant, id).await }).await?;
        Ok(found.map(|(_, webhook)| webhook))
    }

    async fn webhooks(&self, tenant: &Tenant, page: Page) -> Result<Vec<(i64, Webhook)>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { webhooks::list(&pools.read().await?, names, tenant, page).await }).await
    }

    async fn edit_webhook(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        edit: &Edit,
        now: Time,
    ) -> Result<Option<Webhook>, StoreError> {
        in_time(webhooks::change(&self.house, tenant, id, |webhook| edit.of(webhook, now))).await
    }

    async fn rotate_secret(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        rotation: &Rotation,
        now: Time,
    ) -> Result<Option<Webhook>, StoreError> {
        in_time(webhooks::change(&self.house, tenant, id, |webhook| rotation.of(webhook, now))).await
    }

    async fn delete_webhook(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Webhook>, StoreError> {
        in_time(webhooks::delete(&self.house, tenant, id, now)).await
    }

    async fn job_secrets(&self, tenant: &Tenant, fresh: &Secret) -> Result<Secrets, StoreError> {
        in_time(webhooks::job_secrets(&self.house, tenant, fresh)).await
    }

    async fn rotate_job_secret(&self, tenant: &Tenant, rotation: &Rotation, now: Time) -> Result<Secrets, StoreError> {
        in_time(webhooks::rotate_job_secret(&self.house, tenant, rotation, now)).await
    }

    async fn deliveries(
        &self,
        tenant: &Tenant,
        to: Addressee,
        choice: &Choice,
        page: Page,
    ) -> Result<Option<Vec<(i64, Delivery)>>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { deliveries::list(&pools.read().await?, names, tenant, to, choice, page).await }).await
    }

    async fn begin_test(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Delivery>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { deliveries::begin_test(&pools.work().await?, names, tenant, id, now).await }).await
    }

    async fn replay(
        &self,
        tenant: &Tenant,
        to: Addressee,
        id: DeliveryId,
        now: Time,
    ) -> Result<Option<Delivery>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { deliveries::replay(&pools.work().await?, names, tenant, to, id, now).await }).await
    }

    async fn replay_events(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        events: &[(JobId, u32)],
        undelivered: bool,
        now: Time,
    ) -> Result<usize, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async {
            deliveries::replay_events(&pools.work().await?, names, tenant, id, events, undelivered, now).await
        })
        .await
    }

    async fn listening(&self) -> Result<HashSet<Tenant>, StoreError> {
        in_time(async { webhooks::listening(&self.house.pools.read().await?).await }).await
    }

    async fn take_deliveries(&self, slots: usize, now: Time) -> Result<Vec<Job>, StoreError> {
        in_time(deliveries::take(&self.house, slots, now)).await
    }

    async fn ended_deliveries(&self, limit: usize) -> Result<Vec<Ended>, StoreError> {
        in_time(async { deliveries::ended(&self.house.pools.read().await?, limit).await }).await
    }

    async fn settle_deliveries(
        &self,
        attempts: Vec<Settlement>,
        rules: &Rules,
        now: Time,
    ) -> Result<Vec<Webhook>, StoreError> {
        in_time(deliveries::settle_all(&self.house, &attempts, rules, now)).await
    }

    async fn letter(&self, id: DeliveryId, run: JobId) -> Result<Option<Letter>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { deliveries::letter(&pools.read().await?, names, id, run).await }).await
    }

    async fn forget_deliveries(&self, before: Time, limit: usize) -> Result<usize, StoreError> {
        in_time(deliveries::forget(&self.house, before, limit)).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.writer.submit(submission).await
    }

    async fn keyed(&self, tenant: &Tenant, key: &Key) -> Result<Option<Submitted>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { submit::keyed(&pools.read().await?, names, tenant, key).await }).await
    }

    async fn job(&self, tenant: &Tenant, id: JobId) -> Result<Option<Job>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        let found = in_time(async { row::of_tenant(&pools.read().await?, names, tenant, id).await }).await?;
        Ok(found.map(|stored| stored.job))
    }

    async fn job_with_content(&self, tenant: &Tenant, id: JobId) -> Result<Option<JobWithContent>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { list::with_content(&pools.read().await?, names, tenant, id).await }).await
    }

    async fn small_jobs(&self, tenant: &Tenant, ids: &[JobId], most: usize) -> Result<Vec<JobWithContent>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { list::small(&pools.read().await?, names, tenant, ids, most).await }).await
    }

    async fn seqs(&self, tenant: &Tenant, ids: &[JobId]) -> Result<HashMap<JobId, u32>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { log::seqs(&pools.read().await?, names, tenant, ids).await }).await
    }

    async fn jobs(&self, tenant: &Tenant, filter: &Filter, page: Page) -> Result<Vec<Listed>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { list::jobs(&pools.read().await?, names, tenant, filter, page).await }).await
    }

    async fn events(&self, tenant: &Tenant, id: JobId, after: u32, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { log::of_job(&pools.read().await?, names, tenant, id, after, limit).await }).await
    }

    async fn feed(&self, tenant: &Tenant, after: i64, limit: usize) -> Result<Vec<Fed>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { log::of_tenant(&pools.read().await?, names, tenant, after, limit).await }).await
    }

    async fn feed_end(&self, tenant: &Tenant) -> Result<i64, StoreError> {
        in_time(async { log::end(&self.house.pools.read().await?, tenant).await }).await
    }

    async fn place(&self, job: &Job, limit: u32) -> Result<Option<u32>, StoreError> {
        let House { pools, names, .. } = &*self.house;
        in_time(async { count::place(&pools.read().await?, names, &job.tenant, job.id, limit).await }).await
    }

    async fn claim(&self, kind: &Kind, limit: usize, until: Time, now: Time) -> Result<Vec<Outgoing>, StoreError> {
        in_time(apply::claim(&self.house, kind, limit, until, now)).await
    }

    async fn apply(&self, happenings: Vec<Happening>, now: Time) -> Result<Vec<Applied>, StoreError> {
        self.writer.apply(happenings, now).await
    }

    async fn ask(&self, tenant: &Tenant, id: JobId, wish: Wish, now: Time) -> Result<Option<Asked>, StoreError> {
        in_time(apply::ask(&self.house, tenant, id, wish, now)).await
    }

    async fn wake_due(&self, now: Time, limit: usize) -> Result<Vec<Change>, StoreError> {
        in_time(apply::wake_due(&self.house, now, limit)).await
    }

    async fn end_leases(&self, bereft: &HashSet<Kind>, now: Time, limit: usize) -> Result<Vec<Change>, StoreError> {
        in_time(apply::end_leases(&self.house, bereft, now, limit)).await
    }

    async fn void_leases(&self, now: Time) -> Result<usize, StoreError> {
        in_time(apply::void_leases(&self.house, now)).await
    }

    async fn forget(&self, retention: &Retention, now: Time, limit: usize) -> Result<usize, StoreError> {
        in_time(forget::forget(&self.house, retention, now, limit)).await
    }

    async fn delete(&self, tenant: &Tenant, id: JobId) -> Result<Deleted, StoreError> {
        in_time(forget::delete(&self.house, tenant, id)).await
    }

    async fn announce(&self, announce: &Announce, now: Time) -> Result<(), StoreError> {
        in_time(fleet::announce(&self.house, announce, now)).await
    }

    async fn beat(&self, worker: WorkerId, now: Time) -> Result<bool, StoreError> {
        in_time(async { fleet::beat(&self.house.pools.work().await?, worker, now).await }).await
    }

    async fn dismiss(&self, worker: Option<WorkerId>, before: Time) -> Result<(), StoreError> {
        in_time(async { fleet::dismiss(&self.house.pools.work().await?, worker, before).await }).await
    }

    async fn kinds(&self) -> Result<Vec<KnownKind>, StoreError> {
        in_time(async { fleet::kinds(&self.house.pools.read().await?).await }).await
    }

    async fn workers(&self) -> Result<Vec<KnownWorker>, StoreError> {
        in_time(async { fleet::workers(&self.house.pools.read().await?).await }).await
    }

    async fn out(&self) -> Result<HashMap<Kind, usize>, StoreError> {
        in_time(async { count::out(&self.house.pools.read().await?, &self.house.names).await }).await
    }

    async fn backlog(&self) -> Result<BTreeMap<Kind, Backlog>, StoreError> {
        in_time(async { count::backlog(&self.house.pools.read().await?, &self.house.names).await }).await
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        in_time(async { count::usage(&self.house.pools.read().await?).await }).await
    }

    async fn probe(&self, now: Time) -> Result<(), StoreError> {
        in_time(async { count::probe(&self.house.pools.work().await?, now).await }).await
    }

    async fn hint(&self) -> Hint {
        match self.house.hints.next().await {
            Heard::Anything => Hint::Any,
            Heard::Of { jobs, tenants } => match self.house.names_of(tenants).await {
                Ok(tenants) => Hint::News { jobs, tenants },
                // Who they are cannot be asked now: then all look.
                Err(_) => Hint::Any,
            },
        }
    }
}
