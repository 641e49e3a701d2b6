use std::time::Duration;

use buzzer_shared::id::{DeliveryId, JobId, Tenant};
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use buzzer_shared::webhook::KIND;
use bytes::Bytes;

use crate::lifecycle::{Job, Transition, accept};

/// More than a worker gives an endpoint.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The kind of the jobs that deliver.
pub fn kind() -> Kind {
    KIND.parse().expect("it names a kind")
}

/// The job that makes one attempt at a delivery, and its input: the delivery's id. What is posted takes its place when it
/// goes out. It has one attempt: when there is to be another, it is another job.
pub fn run(delivery: DeliveryId, now: Time) -> (Transition, Bytes) {
    let spec = KindSpec { retry: RetryPolicy::NEVER, timeout: Span::from(TIMEOUT), ..KindSpec::any(kind()) };
    let job = Job::new(JobId::new(now), Tenant::internal(), &spec, now);
    (accept(job), Bytes::from(format!("\"{delivery}\"")))
}
