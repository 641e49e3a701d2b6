use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant, WebhookId};
use buzzer_shared::message::RunResult;
use buzzer_shared::time::{Span, Time};
use buzzer_shared::webhook::{Answer, KIND, Secret};
use bytes::Bytes;

use super::{
    LEASE, NONE, NOW, after, change, draft, failure, finished, keep, keep_claimed, log, started, submission, success,
    tell,
};
use crate::delivery::{
    Attempt, Delivery, Disabled, Edit, Health, ROOM, Rules, Schedule, Secrets, State, StateName, Told, Wants, Webhook,
    Why,
};
use crate::lifecycle::{Done, Event, Events, Job, JobWebhook, LogType, Phase};
use crate::retention::Retention;
use crate::store::{
    Addressee, Applied, Choice, Deleted, End, Filter, Page, Rotation, Settlement, Store, Submitted, Wish,
};

/// So many slots that nobody waits for one.
const SLOTS: usize = 1000;
const ALL: Page = Page { after: None, limit: 1000 };

fn shop() -> Tenant {
    "shop".parse().unwrap()
}

fn secret(byte: u8) -> Secret {
    Secret::of([byte; 32])
}

/// An endpoint that wants to know how jobs end.
fn endpoint(url: &str) -> Webhook {
    Webhook {
        id: WebhookId::new(NOW),
        url: url.into(),
        wants: Wants { events: Events::ENDS, kinds: BTreeSet::new(), tags: BTreeMap::new() },
        description: None,
        secrets: Secrets::new(secret(1)),
        health: Health::default(),
        created_at: NOW,
    }
}

fn wanting(types: &[LogType]) -> Webhook {
    let mut webhook = endpoint("https://a.example/hook");
    webhook.wants.events = Events::of(types.iter().copied()).unwrap();
    webhook
}

async fn register(store: &dyn Store, webhook: Webhook) -> WebhookId {
    assert!(store.keep_webhook(&Tenant::default(), &webhook, 1000).await.unwrap());
    webhook.id
}

async fn webhook(store: &dyn Store, id: WebhookId) -> Webhook {
    store.webhook(&Tenant::default(), id).await.unwrap().unwrap()
}

async fn deliveries(store: &dyn Store, to: Addressee) -> Vec<Delivery> {
    let found = store.deliveries(&Tenant::default(), to, &Choice::default(), ALL).await.unwrap();
    found.unwrap().into_iter().map(|(_, delivery)| delivery).collect()
}

async fn to(store: &dyn Store, id: WebhookId) -> Vec<Delivery> {
    deliveries(store, Addressee::Webhook(id)).await
}

async fn only(store: &dyn Store, id: WebhookId) -> Delivery {
    let mut all = to(store, id).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// What is told, oldest first.
async fn told(store: &dyn Store, to: Addressee) -> Vec<(JobId, u32, LogType)> {
    let event = |delivery: Delivery| match delivery.of {
        Told::Event { job, seq, r#type } => (job, seq, r#type),
        Told::Test => panic!("a test: {delivery:?}"),
    };
    deliveries(store, to).await.into_iter().rev().map(event).collect()
}

/// A job that is accepted, runs, and succeeds.
async fn succeed(store: &dyn Store, draft: Job) -> JobId {
    let job = keep_claimed(store, draft, NOW + LEASE).await;
    change(store, job.id, success(1), NOW).await;
    job.id
}

/// A delivery of one event to a new endpoint, and the endpoint.
async fn begun(store: &dyn Store) -> (WebhookId, Delivery) {
    let id = register(store, wanting(&[LogType::Accepted])).await;
    keep(store, draft("echo")).await;
    (id, only(store, id).await)
}

async fn take(store: &dyn Store, now: Time) -> Vec<Job> {
    store.take_deliveries(SLOTS, now).await.unwrap()
}

fn rules() -> Rules {
    Rules { schedule: Schedule::default(), patience: Duration::from_secs(5 * 86_400) }
}

fn response(status: u16) -> Answer {
    Answer::Response { status, body: "so \u{0} it is".into(), retry_after: None }
}

fn attempt(answer: Answer, at: Time) -> Attempt {
    Attempt { at, duration: Span::from_millis(12), answer }
}

/// Says what came of the attempt that is under way.
async fn settle(store: &dyn Store, delivery: &Delivery, answer: Answer, now: Time) -> Vec<Webhook> {
    let State::UnderWay { run } = delivery.state else { panic!("{delivery:?}") };
    let settlement = Settlement { id: delivery.id, run, attempt: attempt(answer, now), chance: 0.0 };
    store.settle_deliveries(vec![settlement], &rules(), now).await.unwrap()
}

pub async fn a_webhook_is_kept_changed_and_deleted(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let whole = Webhook {
        wants: Wants {
            events: Events::of([LogType::Started, LogType::Failed]).unwrap(),
            kinds: ["echo", "a.b"].map(|kind| kind.parse().unwrap()).into(),
            tags: BTreeMap::from([("a".into(), "\u{0}".into())]),
        },
        description: Some("the shop's ☂ \u{0}".into()),
        ..endpoint("https://a.example/hook?x=1")
    };
    let plain = endpoint("https://b.example/");
    register(&*store, whole.clone()).await;
    register(&*store, plain.clone()).await;
    assert_eq!(webhook(&*store, whole.id).await, whole);
    assert_eq!(store.webhook(&tenant, WebhookId::new(NOW)).await.unwrap(), None);

    let first = store.webhooks(&tenant, Page { after: None, limit: 1 }).await.unwrap();
    assert_eq!(first[0].1, whole, "the oldest first");
    let rest = store.webhooks(&tenant, Page { after: Some(first[0].0), limit: 5 }).await.unwrap();
    assert!(rest.iter().map(|(_, webhook)| webhook).eq([&plain]));

    let edit = Edit { description: Some(None), enabled: Some(false), ..Edit::default() };
    let edited = store.edit_webhook(&tenant, whole.id, &edit, after(1)).await.unwrap().unwrap();
    let disabled = Some(Disabled { at: after(1), why: Why::Owner });
    let expected = Webhook { description: None, health: Health { disabled, ..Health::default() }, ..whole.clone() };
    assert_eq!((&edited, &webhook(&*store, whole.id).await), (&expected, &expected));

    assert_eq!(store.delete_webhook(&tenant, whole.id, after(2)).await.unwrap(), Some(expected));
    assert_eq!(store.webhook(&tenant, whole.id).await.unwrap(), None);
    assert_eq!(store.delete_webhook(&tenant, whole.id, after(2)).await.unwrap(), None);
    assert_eq!(store.edit_webhook(&tenant, whole.id, &edit, after(2)).await.unwrap(), None);
    assert_eq!(store.webhooks(&tenant, ALL).await.unwrap().len(), 1);
    assert_eq!(webhook(&*store, plain.id).await, plain);
}

pub async fn a_tenant_has_so_many_webhooks_at_most(store: Arc<dyn Store>) {
    let keep = async |tenant: &Tenant| store.keep_webhook(tenant, &endpoint("https://a.example/"), 2).await.unwrap();
    let tenant = Tenant::default();
    assert_eq!([keep(&tenant).await, keep(&tenant).await, keep(&tenant).await], [true, true, false]);
    assert!(keep(&shop()).await, "each has its own");
    let (_, first) = store.webhooks(&tenant, ALL).await.unwrap().remove(0);
    store.delete_webhook(&tenant, first.id, NOW).await.unwrap();
    assert!(keep(&tenant).await, "one is gone");
}

pub async fn p9_tenants_cannot_see_each_others_webhooks(store: Arc<dyn Store>) {
    let (id, delivery) = begun(&*store).await;
    let (shop, to) = (shop(), Addressee::Webhook(id));
    keep(&*store, Job { tenant: shop.clone(), ..draft("echo") }).await;
    assert_eq!(only(&*store, id).await, delivery, "only of its own jobs");
    let rotation = Rotation { secret: secret(2), until: after(9) };
    assert_eq!(store.webhook(&shop, id).await.unwrap(), None);
    assert_eq!(store.webhooks(&shop, ALL).await.unwrap(), []);
    assert_eq!(store.edit_webhook(&shop, id, &Edit::default(), NOW).await.unwrap(), None);
    assert_eq!(store.rotate_secret(&shop, id, &rotation, NOW).await.unwrap(), None);
    assert_eq!(store.delete_webhook(&shop, id, NOW).await.unwrap(), None);
    assert_eq!(store.deliveries(&shop, to, &Choice::default(), ALL).await.unwrap(), None);
    assert_eq!(store.begin_test(&shop, id, NOW).await.unwrap(), None);
    assert_eq!(store.replay(&shop, to, delivery.id, NOW).await.unwrap(), None);
    assert_eq!(store.replay(&shop, Addressee::NamedByJobs, delivery.id, NOW).await.unwrap(), None);
    let Told::Event { job, seq, .. } = delivery.of else { panic!("{delivery:?}") };
    assert_eq!(store.replay_events(&shop, id, &[(job, seq)], false, NOW).await.unwrap(), 0);

    let own = Webhook { id: WebhookId::new(NOW), ..endpoint("https://b.example/") };
    assert!(store.keep_webhook(&shop, &own, 9).await.unwrap());
    assert_eq!(store.replay_events(&shop, own.id, &[(job, seq)], false, NOW).await.unwrap(), 0, "not its job");
    let choice = Choice { job: Some(job), state: None };
    let found = store.deliveries(&shop, Addressee::Webhook(own.id), &choice, ALL).await.unwrap();
    assert_eq!(found, Some(Vec::new()));
    assert_eq!(store.listening().await.unwrap(), HashSet::from([Tenant::default(), shop]));
}

pub async fn a_secret_is_rotated_and_the_former_signs_on(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let id = register(&*store, endpoint("https://a.example/")).await;
    let rotation = Rotation { secret: secret(2), until: after(60) };
    let rotated = store.rotate_secret(&tenant, id, &rotation, NOW).await.unwrap().unwrap();
    assert_eq!(rotated, webhook(&*store, id).await);
    assert_eq!(rotated.secrets.valid(after(59)).collect::<Vec<_>>(), [&secret(2), &secret(1)]);

    let first = store.job_secrets(&tenant, &secret(3)).await.unwrap();
    assert_eq!(first, Secrets::new(secret(3)));
    assert_eq!(store.job_secrets(&tenant, &secret(4)).await.unwrap(), first, "there is one already");
    let rotation = Rotation { secret: secret(5), until: after(60) };
    let second = store.rotate_job_secret(&tenant, &rotation, NOW).await.unwrap();
    assert_eq!(second.valid(after(59)).collect::<Vec<_>>(), [&secret(5), &secret(3)]);
    assert_eq!(store.job_secrets(&tenant, &secret(6)).await.unwrap(), second);
    assert_eq!(store.rotate_job_secret(&shop(), &rotation, NOW).await.unwrap(), Secrets::new(secret(5)));
}

pub async fn an_entry_begins_a_delivery_to_each_webhook_that_wants_it(store: Arc<dyn Store>) {
    let every = register(&*store, wanting(&LogType::ALL)).await;
    let ends = register(&*store, endpoint("https://b.example/")).await;
    let mut picky = endpoint("https://c.example/");
    picky.wants.kinds = ["echo".parse().unwrap()].into();
    picky.wants.tags = BTreeMap::from([("table".into(), "7".into())]);
    let picky = register(&*store, picky).await;

    let tagged = Job { tags: BTreeMap::from([("table".into(), "7".into())]), ..draft("echo") };
    let fits = succeed(&*store, tagged.clone()).await;
    let other_kind = succeed(&*store, Job { kind: "other".parse().unwrap(), id: JobId::new(NOW), ..tagged }).await;
    let untagged = succeed(&*store, draft("echo")).await;

    let expected: Vec<_> = [fits, other_kind, untagged]
        .into_iter()
        .flat_map(|job| [(job, 1, LogType::Accepted), (job, 2, LogType::Started), (job, 3, LogType::Succeeded)])
        .collect();
    let mut all = told(&*store, Addressee::Webhook(every)).await;
    all.sort_by_key(|(job, seq, _)| ([fits, other_kind, untagged].iter().position(|one| one == job), *seq));
    assert_eq!(all, expected);
    let last = |job| (job, 3, LogType::Succeeded);
    assert_eq!(told(&*store, Addressee::Webhook(ends)).await, [last(fits), last(other_kind), last(untagged)]);
    assert_eq!(told(&*store, Addressee::Webhook(picky)).await, [last(fits)]);

    let delivery = only(&*store, picky).await;
    assert_eq!((delivery.state, delivery.created_at), (State::Waiting { due: NOW }, NOW));
    assert_eq!((delivery.url, delivery.failed, delivery.attempts), (None, 0, Vec::new()));
    let ids: BTreeSet<_> = to(&*store, every).await.into_iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids.len(), 9, "each has its own");
}

pub async fn what_a_webhook_wants_counts_from_the_next_entry_on(store: Arc<dyn Store>) {
    let tenant = Tenant::default();
    let id = register(&*store, wanting(&[LogType::Accepted])).await;
    let edit = async |edit: Edit| store.edit_webhook(&tenant, id, &edit, NOW).await.unwrap().unwrap();
    let first = keep(&*store, draft("echo")).await.id;
    edit(Edit { enabled: Some(false), ..Edit::default() }).await;
    keep(&*store, draft("echo")).await;
    edit(Edit { enabled: Some(true), ..Edit::default() }).await;
    let third = keep(&*store, draft("echo")).await.id;
    edit(Edit { kinds: Some(["other".parse().unwrap()].into()), ..Edit::default() }).await;
    keep(&*store, draft("echo")).await;
    let expected = [(first, 1, LogType::Accepted), (third, 1, LogType::Accepted)];
    assert_eq!(told(&*store, Addressee::Webhook(id)).await, expected);
    assert_eq!(store.listening().await.unwrap(), HashSet::from([tenant.clone()]));
    edit(Edit { enabled: Some(false), ..Edit::default() }).await;
    assert_eq!(store.listening().await.unwrap(), HashSet::new());
}

pub async fn who_is_kept_is_told_of_all_that_is_logged_after_it(store: Arc<dyn Store>) {
    const JOBS: usize = 60;
    let tenant = Tenant::default();
    let submitting: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..JOBS {
                    assert_eq!(store.submit(submission(draft("echo"), "1")).await.unwrap(), Submitted::New);
                }
            })
        })
        .collect();
    let mut kept = Vec::new();
    for _ in 0..5 {
        let id = register(&*store, wanting(&[LogType::Accepted])).await;
        kept.push((id, store.feed_end(&tenant).await.unwrap()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for submitting in submitting {
        submitting.await.unwrap();
    }
    let feed = super::feed(&*store, &tenant).await;
    assert_eq!(feed.len(), 4 * JOBS);
    for (id, end) in kept {
        let told: HashSet<JobId> =
            told(&*store, Addressee::Webhook(id)).await.into_iter().map(|(job, _, _)| job).collect();
        let missed = feed.iter().filter(|fed| fed.feed > end && !told.contains(&fed.job)).count();
        assert_eq!(missed, 0, "it was kept before");
    }
}

pub async fn a_job_may_name_a_webhook_of_its_own(store: Arc<dyn Store>) {
    let naming = |url: &str, types: &[LogType]| Job {
        webhook: Some(JobWebhook { url: url.into(), events: Events::of(types.iter().copied()).unwrap() }),
        ..draft("echo")
    };
    let ends = [LogType::Succeeded, LogType::Failed];
    let first = naming("https://a.example/1?key=s", &ends);
    let kept = keep(&*store, first.clone()).await;
    assert_eq!(super::read(&*store, kept.id).await.webhook, first.webhook);
    store.claim(&kept.kind, 1, NOW + LEASE, NOW).await.unwrap();
    change(&*store, kept.id, success(1), NOW).await;
    let second = succeed(&*store, naming("https://a.example/2", &[LogType::Accepted])).await;
    succeed(&*store, draft("echo")).await;

    let expected = [(kept.id, 3, LogType::Succeeded), (second, 1, LogType::Accepted)];
    assert_eq!(told(&*store, Addressee::NamedByJobs).await, expected);
    let urls: Vec<_> =
        deliveries(&*store, Addressee::NamedByJobs).await.into_iter().map(|one| one.url.unwrap()).collect();
    assert_eq!(urls, ["https://a.example/2", "https://a.example/1?key=s"]);
    assert_eq!(store.webhooks(&Tenant::default(), ALL).await.unwrap(), [], "it is no endpoint of the tenant's");

    // Both are at one host: they share its room, and no registered endpoint's.
    for job in 0..ROOM {
        keep(&*store, naming(&format!("https://a.example/more/{job}"), &[LogType::Accepted])).await;
    }
    keep(&*store, naming("https://b.example/", &[LogType::Accepted])).await;
    assert_eq!(take(&*store, NOW).await.len(), ROOM + 1);
}

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
    assert_eq!(problem, super::problem());
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
    let before = (store.usage().await.unwrap().unfinished, super::feed(&*store, &tenant).await.len());
    let run = take(&*store, NOW).await.remove(0);
    assert_eq!(store.usage().await.unwrap().unfinished, before.0, "tenants are not charged for it");
    store.claim(&run.kind, 1, NOW + LEASE, NOW).await.unwrap();
    assert!(matches!(tell(&*store, run.id, started(1, 1), NOW).await, Applied::Changed(_)));
    change(&*store, run.id, success(1), NOW).await;
    assert_eq!(super::feed(&*store, &tenant).await.len(), before.1);
    assert_eq!(super::feed(&*store, &Tenant::internal()).await, [], "it has no log");
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
