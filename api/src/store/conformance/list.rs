use std::collections::BTreeMap;
use std::sync::Arc;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::State;
use buzzer_shared::message::{Retry, RunResult};

use super::{LEASE, NOW};
use super::{after, change, draft, failure, finished, keep, keep_claimed, problem, started, success};
use crate::lifecycle::Job;
use crate::store::{Filter, Listed, Page, Store};

async fn list(store: &dyn Store, filter: &Filter, after: Option<i64>, limit: usize) -> Vec<Listed> {
    store.jobs(&Tenant::default(), filter, Page { after, limit }).await.unwrap()
}

pub async fn lists_are_newest_first_and_stable_while_jobs_arrive(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.insert(0, keep(&*store, draft("echo")).await.id);
    }
    let kind = Some("echo".parse().unwrap());
    for filter in [
        Filter::default(),
        Filter { kind: kind.clone(), ..Filter::default() },
        Filter { state: Some(State::Queued), ..Filter::default() },
        Filter { state: Some(State::Queued), kind, ..Filter::default() },
    ] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        let whole: Vec<JobId> = list(&*store, &filter, None, 1000).await.iter().map(|listed| listed.job.id).collect();
        assert!(whole.ends_with(&ids));
        loop {
            let page = list(&*store, &filter, cursor, 3).await;
            let Some(last) = page.last() else { break };
            cursor = Some(last.cursor);
            paged.extend(page.iter().map(|listed| listed.job.id));
            keep(&*store, draft("echo")).await;
        }
        assert_eq!(paged, whole, "neither twice nor left out: {filter:?}");
    }
}

pub async fn lists_are_filtered_by_state_kind_and_tag(store: Arc<dyn Store>) {
    for round in 0..2 {
        for kind in ["echo", "other"] {
            for colour in ["red", "blue"] {
                let tags = BTreeMap::from([("colour".into(), colour.into()), ("round".into(), round.to_string())]);
                one_in_every_state(&*store, &Job { tags, ..draft(kind) }).await;
            }
        }
    }
    let all = list(&*store, &Filter::default(), None, 1000).await;
    assert_eq!(all.len(), 2 * 2 * 2 * 8);
    let states = State::ALL.into_iter().map(Some).chain([None]);
    for state in states {
        for kind in [None, Some("echo"), Some("unknown")] {
            for tag in [None, Some(("colour", "red")), Some(("colour", "green")), Some(("round", "1"))] {
                let filter = Filter {
                    state,
                    kind: kind.map(|kind| kind.parse().unwrap()),
                    tag: tag.map(|(name, value)| (name.into(), value.into())),
                };
                let expected: Vec<&Listed> = all.iter().filter(|listed| fits(&listed.job, &filter)).collect();
                let found = list(&*store, &filter, None, 1000).await;
                assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
                if let [_, second, third, ..] = expected[..] {
                    let page = list(&*store, &filter, Some(second.cursor), 1).await;
                    assert_eq!(page.iter().collect::<Vec<_>>(), [third], "{filter:?}");
                }
            }
        }
    }
}

fn fits(job: &Job, filter: &Filter) -> bool {
    filter.state.is_none_or(|state| job.phase.state() == state)
        && filter.kind.as_ref().is_none_or(|kind| job.kind == *kind)
        && filter.tag.as_ref().is_none_or(|(name, value)| job.tags.get(name) == Some(value))
}

/// Eight jobs: queued both ways, and one in each other state that there is.
async fn one_in_every_state(store: &dyn Store, like: &Job) {
    let draft = || Job { id: JobId::new(NOW), ..like.clone() };
    keep(store, Job { run_at: after(60), ..draft() }).await;
    keep(store, Job { expires_at: Some(after(1)), ..draft() }).await;
    store.wake_due(after(1), 10).await.unwrap();
    keep(store, draft()).await;
    keep_claimed(store, draft(), NOW + LEASE).await;
    let never = finished(1, RunResult::Failed { problem: problem(), retry: Retry::Never });
    for event in [started(1, 1), failure(1), success(1), never] {
        let id = keep_claimed(store, draft(), NOW + LEASE).await.id;
        change(store, id, event, after(1)).await;
    }
}
