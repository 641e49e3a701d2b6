use serde_json::{Value, json};

use super::*;
use crate::nemesis::fault::{BrokerFault, Disk, Fault, Part};

fn ledger(entries: Vec<Entry>) -> Vec<Line> {
    entries.into_iter().zip(0..).map(|(entry, at)| Line { at, entry }).collect()
}

fn asked(n: u64) -> Entry {
    Entry::Asked { n, kind: "echo".into(), input: json!(n) }
}

fn accepted(n: u64, id: &str) -> Entry {
    Entry::Accepted { n, id: id.into() }
}

fn log(events: &[&str]) -> Vec<Logged> {
    events.iter().zip(1..).map(|(event, seq)| Logged { seq, event: (*event).into() }).collect()
}

/// An echo that went as it should.
fn echo(n: u64, id: &str) -> FoundJob {
    FoundJob {
        id: id.into(),
        n: Some(n),
        kind: "echo".into(),
        state: "succeeded".into(),
        done: true,
        attempt: 1,
        seq: 3,
        input: json!(n),
        output: json!(n),
        error: String::new(),
        log: log(&["job.accepted", "job.started", "job.succeeded"]),
    }
}

fn canceled(n: u64, id: &str) -> FoundJob {
    let log = log(&["job.accepted", "job.canceled"]);
    FoundJob { state: "canceled".into(), output: Value::Null, seq: 2, log, ..echo(n, id) }
}

fn verdict(entries: Vec<Entry>, jobs: Vec<FoundJob>) -> Verdict {
    check(&ledger(entries), &System { jobs, ..System::default() }, Bounds::default())
}

/// The only class of what is found, and how many.
fn found(entries: Vec<Entry>, jobs: Vec<FoundJob>) -> (Class, usize) {
    let verdict = verdict(entries, jobs);
    let mut findings = verdict.findings.iter();
    let (class, finding) = findings.next().expect("something is found");
    assert!(findings.next().is_none() && !verdict.is_kept(), "{:?}", verdict.findings);
    (class, finding.count)
}

/// One job that was taken, and became this.
fn of_one(job: FoundJob) -> (Class, usize) {
    found(vec![asked(1), accepted(1, "a")], vec![job])
}

fn kept(entries: Vec<Entry>, jobs: Vec<FoundJob>) -> Verdict {
    let verdict = verdict(entries, jobs);
    assert!(verdict.is_kept(), "{:?}", verdict.findings);
    verdict
}

#[test]
fn what_went_as_it_should_is_counted_and_nothing_found() {
    let entries = vec![asked(1), accepted(1, "a"), asked(2), accepted(2, "b")];
    let verdict = kept(entries, vec![echo(1, "a"), echo(2, "b")]);
    assert_eq!((verdict.asked, verdict.accepted, verdict.unsure, verdict.events), (2, 2, 0, 6));
    assert_eq!(verdict.states, [("succeeded".to_owned(), 2)].into());
}

#[test]
fn a_job_that_the_system_never_had_is_lost() {
    assert_eq!(found(vec![asked(1), accepted(1, "a")], vec![]), (Class::Lost, 1));
}

#[test]
fn a_job_that_still_waits_is_unfinished() {
    let log = log(&["job.accepted"]);
    let waits = FoundJob { state: "queued".into(), done: false, output: Value::Null, seq: 1, log, ..echo(1, "a") };
    assert_eq!(of_one(waits), (Class::Unfinished, 1));
}

#[test]
fn a_job_that_nobody_asked_for_is_unexpected() {
    assert_eq!(found(vec![], vec![echo(9, "z")]), (Class::Unexpected, 1));
    assert_eq!(found(vec![], vec![FoundJob { n: None, ..echo(9, "z") }]), (Class::Unexpected, 1));
    let refused = Entry::Refused { n: 1, status: 503, problem: "/problems/store-full".into(), busy: true };
    assert_eq!(found(vec![asked(1), refused], vec![echo(1, "a")]), (Class::Unexpected, 1));
}

#[test]
fn a_job_whose_client_had_no_answer_is_recovered() {
    let unsure = |n| Entry::Unsure { n, why: "reset".into() };
    let verdict = kept(vec![asked(1), unsure(1), asked(2), unsure(2)], vec![echo(1, "a")]);
    assert_eq!((verdict.unsure, verdict.recovered, verdict.accepted), (2, 1, 0));
}

#[test]
fn two_jobs_of_one_submission_are_duplicated() {
    let unsure = Entry::Unsure { n: 1, why: "reset".into() };
    assert_eq!(found(vec![asked(1), unsure], vec![echo(1, "a"), echo(1, "b")]), (Class::Duplicated, 1));
}

#[test]
fn a_key_answers_with_one_job_and_refuses_another_body() {
    let verdict = verdict(vec![asked(1), accepted(1, "a"), accepted(1, "b")], vec![echo(1, "a"), echo(1, "b")]);
    assert_eq!((verdict.findings.count(Class::Key), verdict.findings.count(Class::Duplicated)), (1, 1));
    let contradicted = |status| Entry::Contradicted { n: 1, status, id: None };
    kept(vec![asked(1), accepted(1, "a"), contradicted(422)], vec![echo(1, "a")]);
    assert_eq!(found(vec![asked(1), accepted(1, "a"), contradicted(202)], vec![echo(1, "a")]), (Class::Key, 1));
}

#[test]
fn two_ends_are_duplicated() {
    let log = log(&["job.accepted", "job.started", "job.succeeded", "job.succeeded"]);
    assert_eq!(of_one(FoundJob { seq: 4, log, ..echo(1, "a") }), (Class::Duplicated, 1));
}

#[test]
fn an_end_that_does_not_fit_is_wrong() {
    assert_eq!(of_one(FoundJob { output: json!("forged"), ..echo(1, "a") }), (Class::Wrong, 1));
    assert_eq!(of_one(FoundJob { input: json!("another"), ..echo(1, "a") }), (Class::Wrong, 1));
    let log = log(&["job.accepted", "job.started", "job.failed"]);
    let failed = FoundJob { state: "failed".into(), error: "/problems/lost".into(), log, ..echo(1, "a") };
    assert_eq!(of_one(failed), (Class::Wrong, 1));
}

#[test]
fn a_right_submission_that_is_refused_is_wrong() {
    let refused = Entry::Refused { n: 1, status: 500, problem: "/problems/internal".into(), busy: false };
    assert_eq!(found(vec![asked(1), refused], vec![]), (Class::Wrong, 1));
}

#[test]
fn an_attempt_that_the_job_did_not_fail_by_itself_is_found() {
    assert_eq!(of_one(FoundJob { attempt: 2, ..echo(1, "a") }), (Class::Attempt, 1));
    let flaky = |attempt: u32| FoundJob {
        kind: "demo.flaky".into(),
        input: json!({"fail_times": 2}),
        output: json!({"attempt": 3}),
        attempt,
        ..echo(1, "a")
    };
    let asked = Entry::Asked { n: 1, kind: "demo.flaky".into(), input: json!({"fail_times": 2}) };
    kept(vec![asked.clone(), accepted(1, "a")], vec![flaky(3)]);
    assert_eq!(found(vec![asked, accepted(1, "a")], vec![flaky(4)]), (Class::Attempt, 1));
}

#[test]
fn an_end_that_was_told_and_is_another_now_has_changed() {
    let told = |state: &str, seq| Entry::Told { id: "a".into(), state: state.into(), seq, output: json!(1) };
    let taken = |told| vec![asked(1), accepted(1, "a"), told];
    kept(taken(told("succeeded", 3)), vec![echo(1, "a")]);
    assert_eq!(found(taken(told("failed", 3)), vec![echo(1, "a")]), (Class::Changed, 1));
    assert_eq!(found(taken(told("succeeded", 2)), vec![echo(1, "a")]), (Class::Changed, 1));
}

#[test]
fn a_log_with_a_gap_or_without_an_end_is_found() {
    let mut gap = echo(1, "a");
    gap.log[2].seq = 4;
    assert_eq!(of_one(gap), (Class::Log, 1));
    let log = log(&["job.accepted", "job.started"]);
    assert_eq!(of_one(FoundJob { seq: 2, log, ..echo(1, "a") }), (Class::Log, 1));
}

#[test]
fn a_cancel_that_was_answered_holds() {
    let asked_and_answered = |status, state: &str| {
        let answered = Entry::CancelAnswered { id: "a".into(), status, state: state.into() };
        vec![asked(1), accepted(1, "a"), Entry::CancelAsked { id: "a".into() }, answered]
    };
    kept(asked_and_answered(200, "canceled"), vec![canceled(1, "a")]);
    kept(asked_and_answered(202, "running"), vec![canceled(1, "a")]);
    kept(asked_and_answered(202, "running"), vec![echo(1, "a")]);
    kept(asked_and_answered(409, "succeeded"), vec![echo(1, "a")]);
    for (status, state) in [(200, "canceled"), (409, "failed"), (404, "")] {
        assert_eq!(found(asked_and_answered(status, state), vec![echo(1, "a")]), (Class::Cancel, 1), "{status}");
    }
    assert_eq!(found(vec![asked(1), accepted(1, "a")], vec![canceled(1, "a")]), (Class::Cancel, 1));
}

fn fed(feed: u64, seq: u64, event: &str) -> Entry {
    Entry::Fed { reader: 0, feed, job: "a".into(), seq, event: event.into() }
}

/// One echo, and what a reader was shown of it.
fn shown(events: Vec<Entry>) -> Vec<Entry> {
    [vec![asked(1), accepted(1, "a")], events].concat()
}

#[test]
fn a_reader_that_sees_all_once_is_well() {
    let all = vec![fed(1, 1, "job.accepted"), fed(2, 2, "job.started"), fed(4, 3, "job.succeeded")];
    kept(shown(all), vec![echo(1, "a")]);
}

#[test]
fn a_reader_that_misses_repeats_or_sees_another_event_is_told() {
    let [first, second, third] = [fed(1, 1, "job.accepted"), fed(2, 2, "job.started"), fed(3, 3, "job.succeeded")];
    for events in [
        vec![first.clone(), second.clone()],
        vec![first.clone(), third.clone()],
        vec![first.clone(), first.clone(), second.clone(), third.clone()],
        vec![first.clone(), second.clone(), fed(3, 3, "job.failed")],
        vec![second, first, third],
    ] {
        assert_eq!(found(shown(events.clone()), vec![echo(1, "a")]).0, Class::Feed, "{events:?}");
    }
}

#[test]
fn who_follows_one_job_sees_each_event_once() {
    let streamed = |seq, event: &str| Entry::Streamed { job: "a".into(), seq, event: event.into() };
    let (first, second) = (streamed(1, "job.accepted"), streamed(2, "job.started"));
    kept(shown(vec![first.clone(), second.clone()]), vec![echo(1, "a")]);
    assert_eq!(found(shown(vec![second.clone()]), vec![echo(1, "a")]), (Class::Feed, 1));
    assert_eq!(found(shown(vec![first.clone(), second.clone(), second.clone()]), vec![echo(1, "a")]), (Class::Feed, 1));
    let over = Entry::Followed { job: "a".into() };
    let third = streamed(3, "job.succeeded");
    kept(shown(vec![first.clone(), second.clone(), third, over.clone()]), vec![echo(1, "a")]);
    assert_eq!(found(shown(vec![first, second, over.clone()]), vec![echo(1, "a")]), (Class::Feed, 1));
    assert_eq!(found(shown(vec![over]), vec![echo(1, "a")]), (Class::Feed, 1));
}

#[test]
fn a_reader_that_is_shown_nothing_is_found() {
    assert_eq!(found(shown(vec![Entry::Reads { reader: 0 }]), vec![echo(1, "a")]), (Class::Feed, 1));
}

#[test]
fn a_recovery_is_counted_and_a_late_one_found() {
    let struck = Entry::Struck { strike: 0, faults: vec![Fault::Kill(Part::Api(0))] };
    let recovered = |ms| vec![struck.clone(), Entry::Recovered { strike: 0, ms }];
    let verdict = kept(recovered(4_900), vec![]);
    let recovery = verdict.recoveries.values().next().expect("a recovery");
    assert_eq!((recovery.count, recovery.longest_ms), (1, 4_900));
    assert_eq!(found(recovered(5_100), vec![]), (Class::Late, 1));
    assert_eq!(found(vec![struck.clone(), Entry::Unrecovered { strike: 0, ms: 1 }], vec![]), (Class::Late, 1));
    let patient = Bounds { slack: 2.0, ..Bounds::default() };
    assert!(check(&ledger(recovered(5_100)), &System::default(), patient).is_kept());
}

#[test]
fn a_process_that_died_and_one_that_grew_are_told() {
    let died = Entry::Died { part: Part::Worker(0), how: "ended by itself".into() };
    assert_eq!(found(vec![died], vec![]), (Class::Died, 1));
    let held = |mib: u64| vec![Entry::Memory { api: 0, bytes: 1 << 20 }, Entry::Memory { api: 1, bytes: mib << 20 }];
    assert_eq!(kept(held(512), vec![]).memory, Some(512 << 20));
    assert_eq!(found(held(513), vec![]), (Class::Memory, 1));
    assert_eq!(kept(vec![], vec![]).memory, None);
}

#[test]
fn runs_that_were_begun_again_are_counted_and_no_fault() {
    let log = log(&["job.accepted", "job.started", "job.started", "job.succeeded"]);
    let verdict = kept(vec![asked(1), accepted(1, "a")], vec![FoundJob { seq: 4, log, ..echo(1, "a") }]);
    assert_eq!(verdict.runs_again, 1);
}

#[test]
fn a_job_that_is_listed_twice_is_told() {
    let findings = verdict(vec![asked(1), accepted(1, "a")], vec![echo(1, "a"), echo(1, "a")]).findings;
    assert_eq!(findings.count(Class::ListedTwice), 1);
}

fn planted(mark: &str, is_confirmed: bool) -> Entry {
    Entry::Planted { mark: mark.into(), is_confirmed }
}

fn parked(mark: Option<&str>) -> FoundParked {
    let (from, reason) = ("b.replies.v1".into(), "its type is wrong".into());
    FoundParked { id: "0123".into(), from, reason, job: String::new(), mark: mark.map(Into::into) }
}

fn of_parked(entries: Vec<Entry>, parked: Vec<FoundParked>) -> Verdict {
    check(&ledger(entries), &System { parked, ..System::default() }, Bounds::default())
}

/// The only class of what is found, and how many.
fn found_parked(entries: Vec<Entry>, parked: Vec<FoundParked>) -> (Class, usize) {
    let verdict = of_parked(entries, parked);
    let findings: Vec<_> = verdict.findings.iter().map(|(class, finding)| (class, finding.count)).collect();
    assert!(findings.len() == 1 && !verdict.is_kept(), "{:?}", verdict.findings);
    findings[0]
}

#[test]
fn what_nobody_can_use_is_parked_and_counted() {
    let entries = vec![planted("a", true), planted("a", true), planted("b", false), planted("c", true)];
    // One that RabbitMQ did not confirm may be there or not; one may be parked twice.
    let all = [Some("a"), Some("a"), Some("c"), Some("c")].map(parked).to_vec();
    let verdict = of_parked(entries.clone(), all.clone());
    assert!(verdict.is_kept(), "{:?}", verdict.findings);
    assert_eq!((verdict.planted, verdict.parked), (3, 4));
    assert!(is_parked(&ledger(entries.clone()), &all));
    assert!(of_parked(entries, [&all[..], &[parked(Some("b"))]].concat()).is_kept());
}

#[test]
fn what_nobody_can_use_and_is_not_parked_has_vanished() {
    let entries = vec![planted("a", true), planted("a", true), planted("b", true)];
    let one = vec![parked(Some("a"))];
    assert!(!is_parked(&ledger(entries.clone()), &one));
    assert_eq!(found_parked(entries, one), (Class::Vanished, 2));
}

#[test]
fn what_was_in_a_queue_that_was_emptied_may_be_gone() {
    let emptied =
        |fault| vec![planted("a", true), Entry::Struck { strike: 0, faults: vec![fault] }, planted("b", true)];
    for fault in [BrokerFault::Purge, BrokerFault::Delete, BrokerFault::DeleteAndKill, BrokerFault::DeclareOtherwise] {
        let entries = emptied(Fault::Broker(fault));
        assert!(of_parked(entries.clone(), vec![parked(Some("b"))]).is_kept(), "{fault}");
        assert_eq!(found_parked(entries, vec![parked(Some("a"))]), (Class::Vanished, 1), "{fault}");
    }
    assert!(of_parked(emptied(Fault::DiskFull(Disk::Broker)), vec![parked(Some("b"))]).is_kept());
    let killed = emptied(Fault::Kill(Part::Broker));
    assert_eq!(found_parked(killed, vec![parked(Some("b"))]), (Class::Vanished, 1));
}

#[test]
fn what_is_parked_and_nobody_planted_is_told() {
    assert_eq!(found_parked(vec![], vec![parked(None)]), (Class::Parked, 1));
    assert_eq!(found_parked(vec![planted("a", false)], vec![parked(Some("z"))]), (Class::Parked, 1));
}

#[test]
fn what_is_parked_without_a_reason_is_told() {
    let without = FoundParked { reason: String::new(), ..parked(Some("a")) };
    assert_eq!(found_parked(vec![planted("a", true)], vec![without]), (Class::Parked, 1));
    let from_nowhere = FoundParked { from: String::new(), ..parked(Some("a")) };
    assert_eq!(found_parked(vec![planted("a", true)], vec![from_nowhere]), (Class::Parked, 1));
}

/// Where others use it, too, they may send what they like; a job of ours is our concern.
#[test]
fn what_others_have_parked_is_theirs() {
    let of_job = |job: &str| FoundParked { job: job.into(), ..parked(None) };
    let shared = |parked| {
        let jobs = vec![echo(1, "a")];
        let system = System { jobs, parked, unseen: 2, is_shared: true, ..System::default() };
        check(&ledger(vec![asked(1), accepted(1, "a")]), &system, Bounds::default())
    };
    let of_others = shared(vec![of_job("z"), of_job("")]);
    assert!(of_others.is_kept(), "{:?}", of_others.findings);
    assert_eq!((of_others.parked, of_others.parked_unseen), (2, 2));
    assert_eq!(shared(vec![of_job("a")]).findings.count(Class::Parked), 1);
}

/// A ledger and a system with a flaw of this class.
fn flaw(class: Class) -> (Vec<Entry>, System) {
    let of = |entries: Vec<Entry>, jobs| (entries, System { jobs, ..System::default() });
    let taken = |more: Vec<Entry>| [vec![asked(1), accepted(1, "a")], more].concat();
    let one = |job| of(taken(vec![]), vec![job]);
    match class {
        Class::Lost => of(taken(vec![]), vec![]),
        Class::Unfinished => {
            let log = log(&["job.accepted"]);
            one(FoundJob { state: "queued".into(), done: false, output: Value::Null, seq: 1, log, ..echo(1, "a") })
        }
        Class::Unexpected => of(vec![], vec![echo(1, "a")]),
        Class::Duplicated => {
            let unsure = Entry::Unsure { n: 1, why: "reset".into() };
            of(vec![asked(1), unsure], vec![echo(1, "a"), echo(1, "b")])
        }
        Class::Wrong => one(FoundJob { output: json!("another"), ..echo(1, "a") }),
        Class::Changed => {
            let told = Entry::Told { id: "a".into(), state: "succeeded".into(), seq: 2, output: json!(1) };
            of(taken(vec![told]), vec![echo(1, "a")])
        }
        Class::Attempt => one(FoundJob { attempt: 2, ..echo(1, "a") }),
        Class::Log => one(FoundJob { seq: 4, ..echo(1, "a") }),
        Class::Feed => of(taken(vec![Entry::Reads { reader: 0 }]), vec![echo(1, "a")]),
        Class::Key => of(taken(vec![Entry::Contradicted { n: 1, status: 202, id: None }]), vec![echo(1, "a")]),
        Class::Cancel => one(canceled(1, "a")),
        Class::ListedTwice => {
            let unsure = Entry::Unsure { n: 1, why: "reset".into() };
            of(vec![asked(1), unsure], vec![echo(1, "a"), echo(1, "a")])
        }
        Class::Vanished => of(vec![planted("a", true)], vec![]),
        Class::Parked => (vec![], System { parked: vec![parked(None)], ..System::default() }),
        Class::Late => of(vec![Entry::Unrecovered { strike: 0, ms: 1 }], vec![]),
        Class::Died => of(vec![Entry::Died { part: Part::Api(0), how: "ended by itself".into() }], vec![]),
        Class::Memory => of(vec![Entry::Memory { api: 0, bytes: 1 << 30 }], vec![]),
    }
}

#[test]
fn each_class_has_a_flaw_that_is_found_as_that_and_nothing_else() {
    for class in Class::ALL {
        let (entries, system) = flaw(class);
        let verdict = check(&ledger(entries), &system, Bounds::default());
        let found: Vec<_> = verdict.findings.iter().map(|(class, _)| class).collect();
        assert_eq!(found, [class], "{:?}", verdict.findings);
        assert!(!verdict.is_kept());
    }
}
