//! What every store must do. A new store calls [`exercise`] in its tests, and that is all.
//!
//! Each case is a sentence that must hold, and gets a store with nothing in it.

#![expect(clippy::unwrap_used, reason = "a suite of tests: to panic is how it speaks")]

mod fleet;
mod keep;
mod keyring;
mod life;
mod list;
mod queue;
mod tickets;
mod webhooks;

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant, WorkerId};
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::message::{Retry, RunResult};
use buzzer_shared::problem::Problem;
use buzzer_shared::time::{Span, Time};
use bytes::Bytes;
use uuid::Uuid;

use crate::lifecycle::{Entry, Event, Job, LogType, RunLease, Transition, accept, step};
use crate::store::{Applied, Change, Fed, Happening, Key, Store, Submission, Submitted};

pub use fleet::*;
pub use keep::*;
pub use keyring::*;
pub use life::*;
pub use list::*;
pub use queue::*;
pub use tickets::*;
pub use webhooks::*;

/// Runs every case, each with a fresh store from `open`. Says which one runs, so that a failure has a name.
pub async fn exercise(open: impl AsyncFn() -> Arc<dyn Store>) {
    macro_rules! each {
        ($($case:ident)*) => { $( eprintln!("{}", stringify!($case)); Box::pin($case(open().await)).await; )* };
    }
    each! {
        what_is_submitted_is_read_back_to_the_byte
        a_large_input_is_kept_whole
        small_jobs_are_read_together
        the_same_key_answers_with_the_same_job
        a_key_used_for_something_else_is_refused
        a_key_can_be_asked_for
        a_key_belongs_to_its_tenant
        one_key_at_once_sixty_four_times_makes_one_job
        an_id_that_is_taken_is_refused_alone
        tenants_cannot_see_each_others_jobs

        a_whole_life_is_written_down
        a_job_that_fails_is_tried_again_until_it_may_not
        late_repeated_and_forged_outcomes_change_nothing
        several_happenings_of_one_job_see_each_other
        an_unknown_job_does_not_hold_up_the_others
        a_progress_is_kept_with_the_job
        what_is_told_is_kept_up_to_a_bound
        what_was_told_last_comes_with_the_outcome
        what_is_known_about_a_run_is_kept_with_the_job
        p5_a_cancel_is_kept_and_answered_by_what_became_of_the_job
        a_wish_is_answered_for_the_owner_alone
        a_retry_brings_the_next_attempt_forward
        the_log_has_no_gaps_whoever_writes_at_once
        the_feed_rises_in_the_order_of_commits
        a_log_goes_on_from_any_number
        many_jobs_are_asked_at_once_how_far_they_are

        claims_take_higher_priority_first_then_the_oldest
        no_job_is_claimed_twice
        a_job_may_come_claimed
        a_claim_of_an_unknown_kind_is_empty
        an_expired_job_does_not_go_out
        a_lease_that_ends_brings_the_job_back
        a_lease_that_is_renewed_does_not_end
        what_is_due_wakes
        what_should_have_started_expires
        void_leases_bring_back_everything_that_is_out
        who_was_out_when_a_worker_was_lost_is_noted
        a_place_is_how_many_go_before
        the_backlog_counts_what_is_not_done

        lists_are_newest_first_and_stable_while_jobs_arrive
        lists_are_filtered_by_state_kind_and_tag
        forgetting_removes_a_job_with_all_its_rows
        forgetting_spares_what_is_young_unfinished_or_keyed
        each_kind_is_kept_as_long_as_it_should_be
        only_what_is_done_is_deleted
        usage_counts_what_is_not_done_and_grows

        a_webhook_is_kept_changed_and_deleted
        a_tenant_has_so_many_webhooks_at_most
        p9_tenants_cannot_see_each_others_webhooks
        a_secret_is_rotated_and_the_former_signs_on
        an_entry_begins_a_delivery_to_each_webhook_that_wants_it
        what_a_webhook_wants_counts_from_the_next_entry_on
        who_is_kept_is_told_of_all_that_is_logged_after_it
        a_job_may_name_a_webhook_of_its_own
        an_endpoint_has_as_many_under_way_as_it_has_room_for
        what_is_not_due_or_disabled_is_not_taken
        p2_an_attempt_counts_once
        what_fails_waits_and_the_endpoint_is_disabled_in_the_end
        a_run_that_vanished_ends_its_attempt
        deliveries_are_listed_newest_first_by_state_and_job
        a_delivery_can_be_replayed
        events_can_be_replayed_with_those_that_were_missed
        a_letter_has_what_is_posted_as_long_as_it_is_to_be
        deliveries_go_with_their_job_and_with_their_webhook
        jobs_of_deliveries_are_nobodys

        an_api_key_is_found_by_its_hash_and_revoked_by_its_id
        the_same_api_key_is_not_kept_twice
        a_tenant_may_have_an_api_key_before_its_first_job

        a_ticket_is_found_by_its_hash_until_it_is_forgotten
        a_key_has_so_many_good_tickets_at_most
        tickets_made_at_once_are_no_more_than_there_may_be
        only_tickets_that_have_expired_are_forgotten_and_a_few_at_a_time

        a_worker_is_known_from_its_announcement_to_its_leaving
        a_kind_is_known_for_ever_as_it_was_announced
        who_says_something_else_of_a_kind_makes_a_version_of_it
        what_is_not_taken_of_a_worker_is_known
        a_probe_finds_the_store_working
    }
}

const NOW: Time = Time::from_millis(1_795_000_000_000);
const LEASE: Duration = Duration::from_secs(30);

/// No kind has lost a worker.
static NONE: LazyLock<HashSet<Kind>> = LazyLock::new(HashSet::new);

/// A lease that ends at `until`, whoever would notice.
fn lease(until: Time) -> RunLease {
    RunLease { until, early_until: until }
}

/// A moment so many seconds after [`NOW`].
fn after(seconds: u64) -> Time {
    NOW + Duration::from_secs(seconds)
}

/// A job as it is before it is accepted.
fn draft(kind: &str) -> Job {
    let spec = KindSpec { timeout: Span::from_millis(60_500), ..KindSpec::any(kind.parse().unwrap()) };
    Job::new(JobId::new(NOW), Tenant::default(), &spec, NOW)
}

fn submission(draft: Job, input: impl Into<Bytes>) -> Submission {
    Submission { accepted: accept(draft), input: input.into(), key: None }
}

fn with_key(draft: Job, name: &str, fingerprint: u8) -> Submission {
    let key = Key { name: name.into(), fingerprint: [fingerprint; 32] };
    Submission { key: Some(key), ..submission(draft, "{}") }
}

/// Keeps a job and tells it as it was accepted.
async fn keep(store: &dyn Store, draft: Job) -> Job {
    let submission = submission(draft, "{}");
    let job = submission.accepted.job.clone();
    assert_eq!(store.submit(submission).await.unwrap(), Submitted::New);
    job
}

/// Keeps a job that is claimed already, as the fast path does.
async fn keep_claimed(store: &dyn Store, draft: Job, until: Time) -> Job {
    let Transition { job, mut effects } = accept(draft);
    let claimed = step(&job, &Event::Claimed { until }, NOW).unwrap();
    effects.extend(claimed.effects);
    let job = claimed.job;
    let accepted = Transition { job: job.clone(), effects };
    let submitted = store.submit(Submission { accepted, input: Bytes::from_static(b"{}"), key: None }).await;
    assert_eq!(submitted.unwrap(), Submitted::New);
    job
}

fn worker() -> WorkerId {
    WorkerId::from(Uuid::from_u128(7))
}

fn problem() -> Problem {
    Problem::new("mine", "Mine", "because \u{0}").with("n", 1)
}

fn started(dispatch: u32, n: u32) -> Event {
    Event::Started { dispatch, n, worker: worker(), at: NOW, lease: lease(NOW + LEASE) }
}

fn finished(dispatch: u32, result: RunResult) -> Event {
    Event::Finished { dispatch, worker: worker(), started_at: Some(NOW), late: Vec::new(), result, chance: 0.5 }
}

fn success(dispatch: u32) -> Event {
    finished(dispatch, RunResult::Succeeded(Bytes::from_static(b" {\"a\": 1.50} ")))
}

fn failure(dispatch: u32) -> Event {
    finished(dispatch, RunResult::Failed { problem: problem(), retry: Retry::Policy })
}

/// Tells one job one thing.
async fn tell(store: &dyn Store, job: JobId, event: Event, now: Time) -> Applied {
    let mut applied = store.apply(vec![Happening { job, event }], now).await.unwrap();
    assert_eq!(applied.len(), 1);
    applied.remove(0)
}

/// Tells one job one thing that must count.
async fn change(store: &dyn Store, job: JobId, event: Event, now: Time) -> Change {
    match tell(store, job, event, now).await {
        Applied::Changed(change) => change,
        other => panic!("{other:?}"),
    }
}

async fn read(store: &dyn Store, id: JobId) -> Job {
    store.job(&Tenant::default(), id).await.unwrap().unwrap()
}

async fn log(store: &dyn Store, id: JobId) -> Vec<Entry> {
    store.events(&Tenant::default(), id, 0, 1000).await.unwrap()
}

async fn types(store: &dyn Store, id: JobId) -> Vec<LogType> {
    log(store, id).await.into_iter().map(|entry| entry.r#type).collect()
}

async fn feed(store: &dyn Store, tenant: &Tenant) -> Vec<Fed> {
    store.feed(tenant, 0, 100_000).await.unwrap()
}
