//! Rung when there may be something to deliver to webhooks. A ring is a hint, the store is the truth: whoever hears none
//! looks once a second.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use buzzer_shared::id::Tenant;
use tokio::sync::Notify;

use crate::lifecycle::{Job, Phase};

/// Cheap to clone, and to pass by: for a job of a tenant without webhooks, it is a look into a table.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The tenants that have webhooks, as far as this replica knows.
    listening: RwLock<HashSet<Tenant>>,
    rung: Notify,
}

impl Bell {
    /// Something happened to a job: rings if somebody may be told of it, or if it was an attempt to tell, which is over.
    pub fn happened(&self, job: &Job) {
        let over = job.tenant.is_internal() && matches!(job.phase, Phase::Done(_));
        if over || job.webhook.is_some() || self.is_listening(&job.tenant) {
            self.ring();
        }
    }

    pub fn ring(&self) {
        self.0.rung.notify_one();
    }

    /// Ends at the next ring; at once if there was one since the last call.
    pub async fn rung(&self) {
        self.0.rung.notified().await;
    }

    /// A tenant has webhooks now.
    pub fn listen(&self, tenant: Tenant) {
        self.0.listening.write().unwrap_or_else(PoisonError::into_inner).insert(tenant);
    }

    /// These tenants have webhooks, and no others.
    pub fn listen_to(&self, tenants: HashSet<Tenant>) {
        *self.0.listening.write().unwrap_or_else(PoisonError::into_inner) = tenants;
    }

    fn is_listening(&self, tenant: &Tenant) -> bool {
        self.0.listening.read().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::JobId;
    use buzzer_shared::kind::KindSpec;
    use buzzer_shared::time::Time;
    use futures_util::FutureExt;

    use super::*;
    use crate::lifecycle::{Done, Events, JobWebhook};

    #[test]
    fn it_rings_for_those_who_are_told() {
        let bell = Bell::default();
        let rings = |job: &Job| {
            bell.happened(job);
            bell.rung().now_or_never().is_some()
        };
        let now = Time::from_millis(1);
        let job = |tenant| Job::new(JobId::new(now), tenant, &KindSpec::any("echo".parse().unwrap()), now);
        let shop: Tenant = "shop".parse().unwrap();
        assert!(!rings(&job(shop.clone())));
        let own = JobWebhook { url: "https://a.example/".into(), events: Events::ENDS };
        assert!(rings(&Job { webhook: Some(own), ..job(shop.clone()) }));
        bell.listen(shop.clone());
        assert!(rings(&job(shop.clone())) && !rings(&job(Tenant::default())));
        bell.listen_to(HashSet::from([Tenant::default()]));
        assert!(!rings(&job(shop)) && rings(&job(Tenant::default())));
        let run = job(Tenant::internal());
        assert!(!rings(&run) && rings(&Job { phase: Phase::Done(Done::Succeeded), ..run }));
    }
}
