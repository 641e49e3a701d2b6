//! Deliveries: taken, settled, replayed, gone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant, WebhookId};
use buzzer_shared::message::RunResult;
use buzzer_shared::time::Span;
use buzzer_shared::webhook::{Answer, KIND};
use bytes::Bytes;

use super::super::{
    self as conformance, LEASE, NONE, NOW, after, change, draft, failure, feed, finished, keep, log, started, success,
    tell,
};
use super::{
    ALL, attempt, begun, deliveries, endpoint, only, register, response, rules, secret, settle, succeed, take, to,
    told, wanting, webhook,
};
use crate::delivery::{Attempt, Delivery, Disabled, Edit, Health, ROOM, State, StateName, Told, Webhook, Why};
use crate::lifecycle::{Done, Event, Events, Job, JobWebhook, LogType, Phase};
use crate::retention::Retention;
use crate::store::{Addressee, Applied, Choice, Deleted, End, Filter, Page, Rotation, Settlement, Store, Wish};

pub async fn an_endpoint_has_as_many_under_way_as_it_has_room_for(store: Arc<dyn Store>) {
    let (busy, other) =
        (wanting(&[LogType::Accepted]), Webhook { id: WebhookId::new(NOW), ..wanting(&[LogType::Expired]) });
    let busy = register(&*store, busy).await;
    let other = register(&*store, other).await;
    for _ in 0..ROOM + 3 {
        keep(&*store, draft("echo")).await;
    }
    store.begin_test(&Tenant::default(), other, after(1)).await.unwrap().unwrap();
    assert_eq!(store.take_deliveries(0, after(1)).await.unwrap(), [], "nobody could run them");
    assert_eq!(store.take_deliveries(2, after(1)).await.unwrap().len(), 2, "one for each, with few slots");
    assert_eq!(take(&*store, after(1)).await.len(), ROOM - 1);
    assert_eq!(take(&*store, after(1)).await, [], "there is no more room");

    let under_way = |all: &[Delivery]| -> Vec<Delivery> {
        all.iter().filter(|one| matches!(one.state, State::UnderWay { .. })).cloned().collect()
    };
    let out = under_way(&to(&*store, busy).await);
    assert_eq!(out.len(), ROOM);
    let oldest: Vec<_> = to(&*store, busy).await.into_iter().rev().take(ROOM).collect();
    assert_eq!(under_way(&oldest).len(), ROOM, "the oldest went first");
    for delivery in &out[1..] {
        settle(&*store, delivery, response(200), after(1)).await;
    }
    settle(&*store, &out[0], response(500), after(1)).await;
    assert_eq!(take(&*store, after(1)).await.len(), 1, "one that fails has a single one under way");
    assert_eq!(take(&*store, after(1)).await, []);
    let single = under_way(&to(&*store, busy).await);
    settle(&*store, &single[0], response(204), after(1)).await;
    assert_eq!(
        take(&*store, after(1)).await.len(),
        2,
        "it is well again: all that wait, but for the one that is not due"
    );
    assert_eq!(take(&*store, after(6)).await.len(), 1);
}

pub async fn what_is_not_due_or_disabled_is_not_taken(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let (id, _) = begun(&*store).await;
    let enable = async |enabled| {
        let edit = Edit { enabled: Some(enabled), ..Edit::default() };
        store.edit_webhook(&tenant, id, &edit, NOW).await.unwrap().unwrap()
    };
    enable(false).await;
    assert_eq!(take(&*store, NOW).await, []);
    enable(true).await;
    assert_eq!(take(&*store, NOW - Duration::from_millis(1)).await, [], "its time has not come");
    assert_eq!(take(&*store, NOW).await.len(), 1, "what was begun before goes on");
    let busy = Answer::Response { status: 429, body: String::new(), retry_after: Some(Span::from_secs(100)) };
    settle(&*store, &only(&*store, id).await, busy, NOW).await;
    keep(&*store, draft("echo")).await;
    assert_eq!(take(&*store, after(99)).await, [], "it asked to be left alone");
    assert_eq!(take(&*store, after(100)).await.len(), 1);
    let other = register(&*store, wanting(&[LogType::Accepted])).await;
    store.begin_test(&tenant, other, NOW).await.unwrap();
    store.delete_webhook(&tenant, other, NOW).await.unwrap();
    assert_eq!(take(&*store, after(101)).await, [], "it is deleted");
}

pub async fn p2_an_attempt_counts_once(store: Arc<dyn Store>) {
    let (id, _) = begun(&*store).await;
    let run = take(&*store, NOW).await.remove(0);
    let under_way = only(&*store, id).await;
    assert_eq!(under_way.state, State::UnderWay { run: run.id });
    assert_eq!((run.kind.as_str(), run.tenant.is_internal(), run.phase), (KIND, true, Phase::Ready));
    assert_eq!(store.ended_deliveries(9).await.unwrap(), [], "it has not run");

    let outgoing = store.claim(&run.kind, 9, NOW + LEASE, NOW).await.unwrap();
    assert_eq!(outgoing[0].input, Bytes::from(format!("\"{}\"", under_way.id)), "no secret, no body");
    let output = Bytes::from_static(b"{\"duration\":\"5ms\"}");
    change(&*store, run.id, finished(1, RunResult::Succeeded(output.clone())), after(1)).await;
    let ended = store.ended_deliveries(9).await.unwrap();
    assert_eq!((ended.len(), ended[0].id, ended[0].run, ended[0].at), (1, under_way.id, run.id, NOW));
    assert_eq!(ended[0].end, End::Output(output));

    assert_eq!(settle(&*store, &under_way, response(500), after(1)).await, []);
    assert_eq!(settle(&*store, &under_way, response(500), after(2)).await, [], "a replica settles it, too");
    let settled = only(&*store, id).await;
    assert_eq!(settled.attempts, [attempt(response(500), after(1))]);
    assert_eq!((settled.failed, settled.state), (1, State::Waiting { due: after(6) }));
    assert_eq!(store.ended_deliveries(9).await.unwrap(), []);

    assert_eq!(take(&*store, after(6)).await.len(), 1);
    settle(&*store, &under_way, response(200), after(7)).await;
    let State::UnderWay { run: second } = only(&*store, id).await.state else {
        panic!("an old run counts for nothing")
    };
    assert_ne!(second, run.id);
}

pub async fn what_fails_waits_and_the_endpoint_is_disabled_in_the_end(store: Arc<dyn Store>) {
    let day = 86_400;
    let (id, begun) = begun(&*store).await;
    take(&*store, NOW).await;
    let State::UnderWay { run } = only(&*store, id).await.state else { panic!("it is taken") };
    let hung = Attempt { duration: Span::from_secs(15), ..attempt(Answer::Nothing("no answer".into()), NOW) };
    let settlement = Settlement { id: begun.id, run, attempt: hung, chance: 0.0 };
    assert_eq!(store.settle_deliveries(vec![settlement], &rules(), NOW).await.unwrap(), []);
    let failing = Health { failing_since: Some(NOW), slow: true, ..Health::default() };
    assert_eq!(webhook(&*store, id).await.health, failing);
    keep(&*store, draft("echo")).await;
    let then = after(5 * day);
    assert_eq!(take(&*store, then).await.len(), 1);
    let all = to(&*store, id).await;
    let under_way = all.iter().find(|one| matches!(one.state, State::UnderWay { .. })).unwrap();
    let disabled = settle(&*store, under_way, response(503), then).await;
    assert_eq!(disabled, [webhook(&*store, id).await]);
    assert_eq!(disabled[0].health.disabled, Some(Disabled { at: then, why: Why::Failing }));
    keep(&*store, draft("echo")).await;
    assert_eq!(to(&*store, id).await.len(), 2, "nothing is begun any more");
    assert_eq!(take(&*store, then + Duration::from_secs(600)).await, []);

    let gone = register(&*store, wanting(&[LogType::Accepted])).await;
    keep(&*store, draft("echo")).await;
    take(&*store, NOW).await;
    let disabled = settle(&*store, &only(&*store, gone).await, response(410), after(1)).await;
    assert_eq!(disabled[0].health.disabled, Some(Disabled { at: after(1), why: Why::Gone }));
    assert_eq!(only(&*store, gone).await.state, State::Failed { at: after(1) });
    assert_eq!(store.listening().await.unwrap(), HashSet::new());
}

pub async fn a_run_that_vanished_ends_its_attempt(store: Arc<dyn Store>) {
    let (id, _) = begun(&*store).await;
    let run = take(&*store, NOW).await.remove(0);
    store.claim(&run.kind, 1, NOW + LEASE, NOW).await.unwrap();
    change(&*store, run.id, failure(1), after(1)).await;
    let End::Problem(Some(problem)) = store.ended_deliveries(9).await.unwrap().remove(0).end else { panic!() };
    assert_eq!(problem, conformance::problem());
    let forgotten = store.forget(&Retention::new(Span::from_secs(1)), after(7200), 9).await.unwrap();
    assert_eq!(forgotten, 1);
    let ended = store.ended_deliveries(9).await.unwrap();
    assert_eq!((&ended[0].end, ended[0].at), (&End::Vanished, NOW));
    settle(&*store, &only(&*store, id).await, Answer::Nothing("gone".into()), after(9)).await;
    assert!(matches!(only(&*store, id).await.state, State::Waiting { .. }));
}

pub async fn deliveries_are_listed_newest_first_by_state_and_job(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let id = register(&*store, wanting(&[LogType::Accepted, LogType::Canceled])).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(keep(&*store, draft("echo")).await.id);
    }
    take(&*store, NOW).await;
    let all = to(&*store, id).await;
    settle(&*store, &all[0], response(200), NOW).await;
    settle(&*store, &all[1], response(410), NOW).await;
    store.edit_webhook(&tenant, id, &Edit { enabled: Some(true), ..Edit::default() }, NOW).await.unwrap();
    settle(&*store, &all[2], response(500), NOW).await;
    store.ask(&tenant, jobs[0], Wish::Cancel, NOW).await.unwrap();

    let list = async |state: Option<StateName>, job: Option<JobId>, page: Page| {
        let to = Addressee::Webhook(id);
        let found = store.deliveries(&tenant, to, &Choice { state, job }, page).await.unwrap().unwrap();
        let job = |delivery: &Delivery| match delivery.of {
            Told::Event { job, seq, .. } => (jobs.iter().position(|one| *one == job).unwrap(), seq),
            Told::Test => panic!("{delivery:?}"),
        };
        let next = found.last().map(|(cursor, _)| *cursor);
        (found.iter().map(|(_, delivery)| job(delivery)).collect::<Vec<_>>(), next)
    };
    let (everything, _) = list(None, None, ALL).await;
    assert_eq!(everything, [(0, 2), (3, 1), (2, 1), (1, 1), (0, 1)]);
    let (first, cursor) = list(None, None, Page { after: None, limit: 2 }).await;
    let (rest, _) = list(None, None, Page { after: cursor, limit: 9 }).await;
    assert_eq!([first, rest].concat(), everything);
    for (state, expected) in [
        (StateName::Delivered, &[(3, 1)][..]),
        (StateName::Failed, &[(2, 1)]),
        (StateName::Pending, &[(0, 2), (1, 1), (0, 1)]),
    ] {
        assert_eq!(list(Some(state), None, ALL).await.0, expected, "{state:?}");
        assert_eq!(list(Some(state), None, Page { after: Some(0), limit: 9 }).await.0, [], "{state:?}");
    }
    assert_eq!(list(None, Some(jobs[0]), ALL).await.0, [(0, 2), (0, 1)]);
    assert_eq!(list(Some(StateName::Failed), Some(jobs[2]), ALL).await.0, [(2, 1)]);
    assert_eq!(list(Some(StateName::Failed), Some(jobs[0]), ALL).await.0, []);
    assert_eq!(list(None, Some(JobId::new(NOW)), ALL).await.0, []);
}

pub async fn a_delivery_can_be_replayed(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let (id, begun) = begun(&*store).await;
    let replay = async |to, id, now| store.replay(&tenant, to, id, now).await.unwrap();
    let own = Addressee::Webhook(id);
    take(&*store, NOW).await;
    let under_way = only(&*store, id).await;
    assert_eq!(replay(own, begun.id, after(1)).await, Some(under_way.clone()), "it is on its way");
    settle(&*store, &under_way, response(200), after(1)).await;
    let again = replay(own, begun.id, after(2)).await.unwrap();
    assert_eq!((again.id, again.state, again.attempts.len()), (begun.id, State::Waiting { due: after(2) }, 1));
    take(&*store, after(2)).await;
    settle(&*store, &only(&*store, id).await, response(410), after(3)).await;
    let again = replay(own, begun.id, after(4)).await.unwrap();
    assert_eq!((again.failed, again.attempts.len()), (0, 2), "from the beginning of its schedule");

    let other = register(&*store, endpoint("https://b.example/")).await;
    for wrong in [Addressee::Webhook(other), Addressee::NamedByJobs, Addressee::Webhook(WebhookId::new(NOW))] {
        assert_eq!(replay(wrong, begun.id, after(4)).await, None, "{wrong:?}");
    }
    let webhook = Some(JobWebhook { url: "https://c.example/".into(), events: Events::ENDS });
    succeed(&*store, Job { webhook, ..draft("echo") }).await;
    let named = deliveries(&*store, Addressee::NamedByJobs).await.remove(0);
    assert_eq!(replay(own, named.id, after(4)).await, None);
    let replayed = replay(Addressee::NamedByJobs, named.id, after(4)).await.unwrap();
    assert_eq!(replayed.state, State::Waiting { due: after(4) });
}

pub async fn events_can_be_replayed_with_those_that_were_missed(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let missed = succeed(&*store, draft("echo")).await;
    let id = register(&*store, endpoint("https://a.example/")).await;
    let [delivered, failed, waiting] = [
        succeed(&*store, draft("echo")).await,
        succeed(&*store, draft("echo")).await,
        succeed(&*store, draft("echo")).await,
    ];
    take(&*store, NOW).await;
    let all = to(&*store, id).await;
    settle(&*store, &all[2], response(200), NOW).await;
    settle(&*store, &all[1], response(410), NOW).await;
    store.edit_webhook(&tenant, id, &Edit { enabled: Some(true), ..Edit::default() }, NOW).await.unwrap();

    let last = |job: JobId| (job, 3);
    let events = [last(missed), last(delivered), last(failed), last(waiting), (missed, 99), last(JobId::new(NOW))];
    let replay = async |undelivered| store.replay_events(&tenant, id, &events, undelivered, after(5)).await.unwrap();
    assert_eq!(replay(true).await, 2, "the missed one and the failed one");
    assert_eq!(replay(false).await, 3, "the delivered one, too; one is under way");
    let all = to(&*store, id).await;
    assert_eq!(all.len(), 4, "each once: {all:?}");
    let due = all.iter().filter(|one| one.state == State::Waiting { due: after(5) }).count();
    assert_eq!(due, 3);
    assert_eq!(replay(false).await, 3, "again");
    assert_eq!(to(&*store, id).await.len(), 4);
    let told: HashSet<_> = told(&*store, Addressee::Webhook(id)).await.into_iter().collect();
    let expected = [missed, delivered, failed, waiting].map(|job| (job, 3, LogType::Succeeded));
    assert!(expected.iter().all(|one| told.contains(one)) && told.len() == 4);
}

pub async fn a_letter_has_what_is_posted_as_long_as_it_is_to_be(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let (id, begun) = begun(&*store).await;
    assert!(store.letter(begun.id, JobId::new(NOW)).await.unwrap().is_none(), "it is not under way");
    let run = take(&*store, NOW).await.remove(0).id;
    let edit = Edit { url: Some("https://moved.example/".into()), ..Edit::default() };
    store.edit_webhook(&tenant, id, &edit, NOW).await.unwrap();
    let rotation = Rotation { secret: secret(2), until: after(60) };
    let rotated = store.rotate_secret(&tenant, id, &rotation, NOW).await.unwrap().unwrap();
    let letter = store.letter(begun.id, run).await.unwrap().unwrap();
    assert_eq!((letter.id, &letter.tenant, letter.told, letter.created_at), (begun.id, &tenant, begun.of, NOW));
    assert_eq!(
        (letter.url.as_str(), letter.secrets),
        ("https://moved.example/", Some(rotated.secrets)),
        "as they are now"
    );
    assert!(store.letter(begun.id, JobId::new(NOW)).await.unwrap().is_none(), "another run");
    store.delete_webhook(&tenant, id, NOW).await.unwrap();
    assert!(store.letter(begun.id, run).await.unwrap().is_none(), "it is deleted");

    let webhook =
        Some(JobWebhook { url: "https://c.example/x".into(), events: Events::of([LogType::Accepted]).unwrap() });
    keep(&*store, Job { webhook, ..draft("echo") }).await;
    let run = take(&*store, NOW).await.remove(0).id;
    let named = deliveries(&*store, Addressee::NamedByJobs).await.remove(0);
    let letter = store.letter(named.id, run).await.unwrap().unwrap();
    assert_eq!((letter.url.as_str(), letter.secrets), ("https://c.example/x", None));
    let secrets = store.job_secrets(&tenant, &secret(7)).await.unwrap();
    assert_eq!(store.letter(named.id, run).await.unwrap().unwrap().secrets, Some(secrets));

    let other = register(&*store, endpoint("https://d.example/")).await;
    let test = store.begin_test(&tenant, other, after(1)).await.unwrap().unwrap();
    assert_eq!((test.of, test.state), (Told::Test, State::Waiting { due: after(1) }));
    let run = take(&*store, after(1)).await.remove(0).id;
    assert_eq!(store.letter(test.id, run).await.unwrap().unwrap().told, Told::Test);
}

pub async fn deliveries_go_with_their_job_and_with_their_webhook(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let id = register(&*store, endpoint("https://a.example/")).await;
    let webhook = Some(JobWebhook { url: "https://c.example/".into(), events: Events::ENDS });
    let (deleted, forgotten) =
        (succeed(&*store, draft("echo")).await, succeed(&*store, Job { webhook, ..draft("echo") }).await);
    store.begin_test(&tenant, id, NOW).await.unwrap();
    assert_eq!(to(&*store, id).await.len(), 3);
    assert!(matches!(store.delete(&tenant, deleted).await.unwrap(), Deleted::Gone(_)));
    assert_eq!(to(&*store, id).await.len(), 2);
    assert_eq!(store.forget(&Retention::new(Span::from_secs(1)), after(60), 9).await.unwrap(), 1);
    assert!(store.job(&tenant, forgotten).await.unwrap().is_none());
    assert_eq!(only(&*store, id).await.of, Told::Test);
    assert_eq!(deliveries(&*store, Addressee::NamedByJobs).await, []);

    assert_eq!(store.forget_deliveries(NOW, 9).await.unwrap(), 0, "it is not that old");
    assert_eq!(store.forget_deliveries(after(60), 9).await.unwrap(), 1);
    assert_eq!(to(&*store, id).await, []);
    for _ in 0..5 {
        succeed(&*store, draft("echo")).await;
    }
    store.delete_webhook(&tenant, id, after(60)).await.unwrap();
    assert_eq!(
        [store.forget_deliveries(NOW, 3).await.unwrap(), store.forget_deliveries(NOW, 3).await.unwrap()],
        [3, 2]
    );
    assert_eq!(store.forget_deliveries(NOW, 3).await.unwrap(), 0);
    let anew = register(&*store, endpoint("https://a.example/")).await;
    succeed(&*store, draft("echo")).await;
    assert_eq!(to(&*store, anew).await.len(), 1);
}

pub async fn jobs_of_deliveries_are_nobodys(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let (_, _) = begun(&*store).await;
    let before = (store.usage().await.unwrap().unfinished, feed(&*store, &tenant).await.len());
    let run = take(&*store, NOW).await.remove(0);
    assert_eq!(store.usage().await.unwrap().unfinished, before.0, "tenants are not charged for it");
    store.claim(&run.kind, 1, NOW + LEASE, NOW).await.unwrap();
    assert!(matches!(tell(&*store, run.id, started(1, 1), NOW).await, Applied::Changed(_)));
    change(&*store, run.id, success(1), NOW).await;
    assert_eq!(feed(&*store, &tenant).await.len(), before.1);
    assert_eq!(feed(&*store, &Tenant::internal()).await, [], "it has no log");
    assert_eq!(log(&*store, run.id).await, []);
    assert_eq!(store.job(&tenant, run.id).await.unwrap(), None);
    assert_eq!(store.ask(&tenant, run.id, Wish::Cancel, NOW).await.unwrap(), None);
    let of_kind = Filter { kind: Some(run.kind.clone()), ..Filter::default() };
    assert_eq!(store.jobs(&tenant, &of_kind, ALL).await.unwrap(), []);
    let whole = store.job(&Tenant::internal(), run.id).await.unwrap().unwrap();
    assert_eq!(whole.phase, Phase::Done(Done::Succeeded));
    let ended = store.end_leases(&NONE, after(3600), 9).await.unwrap();
    assert_eq!(ended, [], "nothing is left over");
    assert!(matches!(tell(&*store, run.id, Event::Claimed { until: NOW }, NOW).await, Applied::Ignored(_)));
}
