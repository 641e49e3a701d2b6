//! What a process has of the world, as long as it lives: its store and its line to the broker.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use async_trait::async_trait;
use buzzer_api::delivery::{Delivery, Edit, Rules, Secrets, Webhook};
use buzzer_api::lifecycle::{Entry, Job};
use buzzer_api::retention::Retention;
use buzzer_api::store::{
    Addressee, ApiKey, Applied, Asked, Backlog, Change, Choice, Deleted, Ended, Fed, Filter, Happening, Issued,
    JobWithContent, Key, KeyHash, KeyId, Keyring, KnownKind, KnownWorker, Letter, Listed, Outgoing, Page, Rotation,
    Settlement, Store, StoreError, Submission, Submitted, Ticket, TicketHash, Tickets, Usage, Webhooks, Wish,
};
use buzzer_shared::broker::{Broker, BrowseError, Browsed, DeclareError, Line, PublishError, Subscriber, Subscription};
use buzzer_shared::id::{DeliveryId, JobId, Tenant, WebhookId, WorkerId};
use buzzer_shared::kind::Kind;
use buzzer_shared::message::{Announce, Message};
use buzzer_shared::time::Time;
use buzzer_shared::topology::{Declaration, Route};
use buzzer_shared::webhook::Secret;
use tokio::sync::watch;

use super::life::Life;
use crate::hostile::HostileBroker;

/// A store that fails now and then, at times after all is on disk, and that nobody reaches any more from a process which was killed.
#[derive(Debug)]
pub(super) struct MortalStore {
    pub(super) store: Arc<dyn Store>,
    pub(super) life: Life,
}

/// A line to the broker that nobody reaches any more from a process which was killed.
#[derive(Debug)]
pub(super) struct MortalLine {
    pub(super) line: Arc<HostileBroker>,
    pub(super) life: Life,
}

impl MortalStore {
    /// One question to the store: with a step before it, after which nothing may have happened, and one behind it, after
    /// which all may be on disk and nobody was told.
    async fn question<T>(
        &self,
        name: &str,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.life.step(name).await;
        if self.life.stumbles() {
            return Err(StoreError::Unavailable("so the dice have it".into()));
        }
        let answer = here_and_now(question);
        self.life.step(name).await;
        // As where the line to a server breaks during its commit.
        if answer.is_ok() && self.life.stumbles() {
            return Err(StoreError::Unavailable("it has happened, and the answer was lost".into()));
        }
        answer
    }
}

/// The same for each method.
macro_rules! mortal {
    ($store:ident { $(async fn $name:ident(&self $(, $given:ident: $type:ty)*) -> $answer:ty;)* }) => {
        #[async_trait]
        impl $store for MortalStore {
            $(async fn $name(&self $(, $given: $type)*) -> $answer {
                self.question(stringify!($name), self.store.$name($($given),*)).await
            })*
        }
    };
}

mortal! { Keyring {
    async fn keep_api_key(&self, key: &ApiKey) -> Result<(), StoreError>;
    async fn api_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError>;
    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError>;
    async fn revoke_api_key(&self, id: &KeyId, now: Time) -> Result<Option<ApiKey>, StoreError>;
} }

mortal! { Tickets {
    async fn keep_ticket(&self, ticket: &Ticket, most: usize, now: Time) -> Result<Issued, StoreError>;
    async fn ticket(&self, hash: &TicketHash) -> Result<Option<Ticket>, StoreError>;
    async fn forget_tickets(&self, now: Time, limit: usize) -> Result<usize, StoreError>;
} }

mortal! { Webhooks {
    async fn keep_webhook(&self, tenant: &Tenant, webhook: &Webhook, most: usize) -> Result<bool, StoreError>;
    async fn webhook(&self, tenant: &Tenant, id: WebhookId) -> Result<Option<Webhook>, StoreError>;
    async fn webhooks(&self, tenant: &Tenant, page: Page) -> Result<Vec<(i64, Webhook)>, StoreError>;
    async fn edit_webhook(&self, tenant: &Tenant, id: WebhookId, edit: &Edit, now: Time) -> Result<Option<Webhook>, StoreError>;
    async fn rotate_secret(&self, tenant: &Tenant, id: WebhookId, rotation: &Rotation, now: Time) -> Result<Option<Webhook>, StoreError>;
    async fn delete_webhook(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Webhook>, StoreError>;
    async fn job_secrets(&self, tenant: &Tenant, fresh: &Secret) -> Result<Secrets, StoreError>;
    async fn rotate_job_secret(&self, tenant: &Tenant, rotation: &Rotation, now: Time) -> Result<Secrets, StoreError>;
    async fn deliveries(&self, tenant: &Tenant, to: Addressee, choice: &Choice, page: Page) -> Result<Option<Vec<(i64, Delivery)>>, StoreError>;
    async fn begin_test(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Delivery>, StoreError>;
    async fn replay(&self, tenant: &Tenant, to: Addressee, id: DeliveryId, now: Time) -> Result<Option<Delivery>, StoreError>;
    async fn replay_events(&self, tenant: &Tenant, id: WebhookId, events: &[(JobId, u32)], undelivered: bool, now: Time) -> Result<usize, StoreError>;
    async fn listening(&self) -> Result<HashSet<Tenant>, StoreError>;
    async fn take_deliveries(&self, slots: usize, now: Time) -> Result<Vec<Job>, StoreError>;
    async fn ended_deliveries(&self, limit: usize) -> Result<Vec<Ended>, StoreError>;
    async fn settle_deliveries(&self, attempts: Vec<Settlement>, rules: &Rules, now: Time) -> Result<Vec<Webhook>, StoreError>;
    async fn letter(&self, id: DeliveryId, run: JobId) -> Result<Option<Letter>, StoreError>;
    async fn forget_deliveries(&self, before: Time, limit: usize) -> Result<usize, StoreError>;
} }

mortal! { Store {
    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError>;
    async fn keyed(&self, tenant: &Tenant, key: &Key) -> Result<Option<Submitted>, StoreError>;
    async fn job(&self, tenant: &Tenant, id: JobId) -> Result<Option<Job>, StoreError>;
    async fn job_with_content(&self, tenant: &Tenant, id: JobId) -> Result<Option<JobWithContent>, StoreError>;
    async fn small_jobs(&self, tenant: &Tenant, ids: &[JobId], most: usize) -> Result<Vec<JobWithContent>, StoreError>;
    async fn seqs(&self, tenant: &Tenant, ids: &[JobId]) -> Result<HashMap<JobId, u32>, StoreError>;
    async fn jobs(&self, tenant: &Tenant, filter: &Filter, page: Page) -> Result<Vec<Listed>, StoreError>;
    async fn events(&self, tenant: &Tenant, id: JobId, after: u32, limit: usize) -> Result<Vec<Entry>, StoreError>;
    async fn feed(&self, tenant: &Tenant, after: i64, limit: usize) -> Result<Vec<Fed>, StoreError>;
    async fn feed_end(&self, tenant: &Tenant) -> Result<i64, StoreError>;
    async fn place(&self, job: &Job, limit: u32) -> Result<Option<u32>, StoreError>;
    async fn claim(&self, kind: &Kind, limit: usize, until: Time, now: Time) -> Result<Vec<Outgoing>, StoreError>;
    async fn apply(&self, happenings: Vec<Happening>, now: Time) -> Result<Vec<Applied>, StoreError>;
    async fn ask(&self, tenant: &Tenant, id: JobId, wish: Wish, now: Time) -> Result<Option<Asked>, StoreError>;
    async fn wake_due(&self, now: Time, limit: usize) -> Result<Vec<Change>, StoreError>;
    async fn end_leases(&self, bereft: &HashSet<Kind>, now: Time, limit: usize) -> Result<Vec<Change>, StoreError>;
    async fn void_leases(&self, now: Time) -> Result<usize, StoreError>;
    async fn forget(&self, retention: &Retention, now: Time, limit: usize) -> Result<usize, StoreError>;
    async fn delete(&self, tenant: &Tenant, id: JobId) -> Result<Deleted, StoreError>;
    async fn announce(&self, announce: &Announce, now: Time) -> Result<(), StoreError>;
    async fn beat(&self, worker: WorkerId, now: Time) -> Result<bool, StoreError>;
    async fn dismiss(&self, worker: Option<WorkerId>, before: Time) -> Result<(), StoreError>;
    async fn kinds(&self) -> Result<Vec<KnownKind>, StoreError>;
    async fn workers(&self) -> Result<Vec<KnownWorker>, StoreError>;
    async fn out(&self) -> Result<HashMap<Kind, usize>, StoreError>;
    async fn backlog(&self) -> Result<BTreeMap<Kind, Backlog>, StoreError>;
    async fn usage(&self) -> Result<Usage, StoreError>;
    async fn probe(&self, now: Time) -> Result<(), StoreError>;
} }

#[async_trait]
impl Broker for MortalLine {
    async fn declare(&self, declarations: Vec<Declaration>) -> Result<(), DeclareError> {
        self.life.step("declare").await;
        self.line.declare(declarations).await
    }

    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        self.life.step("publish").await;
        let kept = self.line.publish(route, message).await;
        self.life.step("publish").await;
        kept
    }

    fn subscribe(&self, subscription: Subscription) -> Subscriber {
        self.line.subscribe(subscription)
    }

    async fn browse(&self, queue: Arc<str>, limit: u16) -> Result<Browsed, BrowseError> {
        self.line.browse(queue, limit).await
    }

    fn user(&self) -> Option<&str> {
        self.line.user()
    }

    fn line(&self) -> watch::Receiver<Line> {
        self.line.line()
    }

    async fn close(&self) {
        self.line.close().await;
    }
}

/// Waits for the store on this very thread. The threads of the store have no part in the simulated time, which would
/// otherwise pass while they work.
pub(super) fn here_and_now<T>(question: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    // Whoever has used up its share of the runtime would otherwise be told to wait for its next turn, here for ever.
    let mut question = pin!(tokio::task::unconstrained(question));
    loop {
        match question.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}
