//! The webhooks of tenants and what is on its way to them, as a store keeps them.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use buzzer_shared::id::{DeliveryId, JobId, Tenant, WebhookId};
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Time;
use buzzer_shared::webhook::Secret;
use bytes::Bytes;

use super::{Page, StoreError};
use crate::delivery::{Attempt, Delivery, Edit, Rules, Secrets, StateName, Told, Webhook};
use crate::lifecycle::Job;

/// Where webhooks and deliveries are. Deliveries begin elsewhere: with the entry of a log that raises them, in its
/// transaction.
#[async_trait]
pub trait Webhooks: fmt::Debug + Send + Sync {
    /// Keeps a new webhook of a tenant, unless it has `most` already. Whether it is kept.
    async fn keep_webhook(&self, tenant: &Tenant, webhook: &Webhook, most: usize) -> Result<bool, StoreError>;

    /// One webhook of a tenant.
    async fn webhook(&self, tenant: &Tenant, id: WebhookId) -> Result<Option<Webhook>, StoreError>;

    /// A tenant's webhooks, the oldest first: after `page.after`, at most `page.limit`. Each with its cursor.
    async fn webhooks(&self, tenant: &Tenant, page: Page) -> Result<Vec<(i64, Webhook)>, StoreError>;

    /// Changes one webhook of a tenant, and tells how it is then. From the next entry of a log on, that counts.
    async fn edit_webhook(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        edit: &Edit,
        now: Time,
    ) -> Result<Option<Webhook>, StoreError>;

    /// Gives a webhook another secret. The one before signs until `rotation.until`.
    async fn rotate_secret(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        rotation: &Rotation,
        now: Time,
    ) -> Result<Option<Webhook>, StoreError>;

    /// Deletes one webhook of a tenant, with all that is on its way to it; tells how it was. Its deliveries are gone at
    /// once, and their rows by and by.
    async fn delete_webhook(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Webhook>, StoreError>;

    /// The secrets by which what a tenant's jobs ask for themselves is signed. Where there are none yet, `fresh` is kept.
    async fn job_secrets(&self, tenant: &Tenant, fresh: &Secret) -> Result<Secrets, StoreError>;

    /// Gives a tenant another such secret.
    async fn rotate_job_secret(&self, tenant: &Tenant, rotation: &Rotation, now: Time) -> Result<Secrets, StoreError>;

    /// What is, or was, on its way, newest first: after `page.after`, at most `page.limit`. Each with its cursor. `None`:
    /// the tenant has no such webhook.
    async fn deliveries(
        &self,
        tenant: &Tenant,
        to: Addressee,
        choice: &Choice,
        page: Page,
    ) -> Result<Option<Vec<(i64, Delivery)>>, StoreError>;

    /// Begins a delivery of a test. `None`: the tenant has no such webhook.
    async fn begin_test(&self, tenant: &Tenant, id: WebhookId, now: Time) -> Result<Option<Delivery>, StoreError>;

    /// Begins a delivery anew, whatever came of it; one that is under way goes on. Tells how it is then.
    async fn replay(
        &self,
        tenant: &Tenant,
        to: Addressee,
        id: DeliveryId,
        now: Time,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Begins deliveries of these events to one webhook of a tenant, or begins those anew that were begun before; where
    /// `undelivered`, without those that were delivered. Events of jobs that are gone are left out. How many are on their
    /// way now.
    async fn replay_events(
        &self,
        tenant: &Tenant,
        id: WebhookId,
        events: &[(JobId, u32)],
        undelivered: bool,
        now: Time,
    ) -> Result<usize, StoreError>;

    /// The tenants that have webhooks which are enabled.
    async fn listening(&self) -> Result<HashSet<Tenant>, StoreError>;

    /// Makes jobs of deliveries that are due: as many as have their turn while the workers have so many `slots`. The jobs
    /// wait for theirs when this answers.
    async fn take_deliveries(&self, slots: usize, now: Time) -> Result<Vec<Job>, StoreError>;

    /// Deliveries whose job has ended, at most `limit`.
    async fn ended_deliveries(&self, limit: usize) -> Result<Vec<Ended>, StoreError>;

    /// Takes note of what came of attempts. Tells which webhooks it disabled.
    async fn settle_deliveries(
        &self,
        attempts: Vec<Settlement>,
        rules: &Rules,
        now: Time,
    ) -> Result<Vec<Webhook>, StoreError>;

    /// What the job `run` is to post. `None`: nothing any more.
    async fn letter(&self, id: DeliveryId, run: JobId) -> Result<Option<Letter>, StoreError>;

    /// Deletes rows that nobody sees any more, and tests begun before `before`; at most `limit`. Tells how many.
    async fn forget_deliveries(&self, before: Time, limit: usize) -> Result<usize, StoreError>;
}

/// Whom deliveries go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// A webhook that the tenant has registered.
    Webhook(WebhookId),
    /// Whom its jobs have named themselves.
    NamedByJobs,
}

/// Which deliveries to list. An empty choice lets all through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    pub state: Option<StateName>,
    pub job: Option<JobId>,
}

/// A secret that takes over.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub secret: Secret,
    /// How long the one before still signs.
    pub until: Time,
}

impl Rotation {
    /// The webhook with the new secret.
    pub(super) fn of(&self, webhook: Webhook, now: Time) -> Webhook {
        let secrets = webhook.secrets.rotated(self.secret.clone(), self.until, now);
        Webhook { secrets, ..webhook }
    }
}

/// A delivery whose job has ended, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub id: DeliveryId,
    pub run: JobId,
    /// When the run began; when the delivery did, where it never ran.
    pub at: Time,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The worker's word for what came of it.
    Output(Bytes),
    Problem(Option<Problem>),
    /// The job is not there any more.
    Vanished,
}

/// What came of one attempt.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub id: DeliveryId,
    pub run: JobId,
    pub attempt: Attempt,
    /// Uniform in 0..1, for the wait before another one.
    pub chance: f64,
}

/// What an attempt is written from.
#[derive(Debug, Clone)]
pub struct Letter {
    pub id: DeliveryId,
    pub tenant: Tenant,
    pub url: String,
    pub told: Told,
    pub created_at: Time,
    /// `None` where the tenant has none yet for what its jobs name.
    pub secrets: Option<Secrets>,
}
