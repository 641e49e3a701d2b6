use buzzer_api::catalog::SILENCE;
use buzzer_api::store::survey::Content;

use crate::report::Finding;

/// How many workers are alive, and how old their beats are.
pub fn alive(content: &Content) -> Finding {
    let ages: Vec<_> = content.workers.iter().map(|worker| content.now.since(worker.seen_at)).collect();
    let live: Vec<_> = ages.iter().filter(|age| **age < SILENCE).collect();
    match (live.iter().max(), ages.iter().min()) {
        (Some(oldest), _) => {
            Finding::ok(format!("{} alive, the oldest beat is {} s old", live.len(), oldest.as_secs()))
        }
        (None, Some(last)) => Finding::warn(format!(
            "none alive, the last beat is {} s old; start one, or see whether an API runs that hears them",
            last.as_secs()
        )),
        (None, None) => Finding::warn("none has announced itself; start buzzer-worker"),
    }
}

/// Whether something waits for a worker that is not there.
pub fn backlog(content: &Content) -> Finding {
    let live = content.workers.iter().filter(|worker| content.now.since(worker.seen_at) < SILENCE);
    let served: Vec<_> = live.flat_map(|worker| worker.kinds.keys()).collect();
    let waiting = content.backlog.iter().map(|(kind, backlog)| (kind, backlog.ready)).filter(|(_, ready)| *ready > 0);
    let (helped, stranded): (Vec<_>, Vec<_>) = waiting.partition(|(kind, _)| served.contains(kind));
    if stranded.is_empty() {
        let jobs: u64 = helped.iter().map(|(_, ready)| ready).sum();
        return Finding::ok(format!("{jobs} jobs wait for a worker, all of kinds that one runs"));
    }
    let stranded: Vec<_> = stranded.iter().map(|(kind, ready)| format!("{ready} of {kind}")).collect();
    Finding::warn(format!("jobs wait that no live worker runs: {}; start a worker for them", stranded.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use buzzer_api::store::{Backlog, KnownWorker};
    use buzzer_shared::id::WorkerId;
    use buzzer_shared::kind::Kind;
    use buzzer_shared::time::Time;

    use super::*;
    use crate::report::Verdict;

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    fn worker(kind: &str, silent_s: u64) -> KnownWorker {
        KnownWorker {
            id: WorkerId::new(NOW),
            host: "h".into(),
            version: "1".into(),
            started_at: NOW,
            seen_at: NOW - Duration::from_secs(silent_s),
            kinds: BTreeMap::from([(kind.parse().unwrap(), 1)]),
            contracts: BTreeMap::from([(kind.parse().unwrap(), 1)]),
            refused: Vec::new(),
        }
    }

    fn content(workers: Vec<KnownWorker>, waiting: &[(&str, u64)]) -> Content {
        let of = |(kind, ready): &(&str, u64)| {
            (kind.parse::<Kind>().unwrap(), Backlog { ready: *ready, ..Backlog::default() })
        };
        Content { now: NOW, workers, kinds: Vec::new(), backlog: waiting.iter().map(of).collect() }
    }

    #[test]
    fn a_worker_lives_by_its_beats() {
        assert_eq!(alive(&content(vec![], &[])).verdict, Verdict::Warn);
        assert_eq!(alive(&content(vec![worker("echo", 20)], &[])).verdict, Verdict::Warn);
        let two = alive(&content(vec![worker("echo", 3), worker("echo", 20), worker("echo", 1)], &[]));
        assert_eq!(two, Finding::ok("2 alive, the oldest beat is 3 s old"));
    }

    #[test]
    fn jobs_that_nobody_runs_are_a_warning() {
        let fine = backlog(&content(vec![worker("echo", 1)], &[("echo", 2), ("slow", 0)]));
        assert_eq!(fine, Finding::ok("2 jobs wait for a worker, all of kinds that one runs"));
        let stranded = backlog(&content(vec![worker("echo", 1), worker("slow", 20)], &[("echo", 2), ("slow", 3)]));
        assert_eq!(stranded.verdict, Verdict::Warn);
        assert!(stranded.text.contains("3 of slow"), "{}", stranded.text);
    }
}
