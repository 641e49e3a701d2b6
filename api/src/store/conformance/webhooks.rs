//! Webhooks: endpoints, and what is told to them.

mod deliveries;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant, WebhookId};
use buzzer_shared::time::{Span, Time};
use buzzer_shared::webhook::{Answer, Secret};

use super::{LEASE, NOW, after, change, draft, keep, keep_claimed, submission, success};
use crate::delivery::{
    Attempt, Delivery, Disabled, Edit, Health, ROOM, Rules, Schedule, Secrets, State, Told, Wants, Webhook, Why,
};
use crate::lifecycle::{Events, Job, JobWebhook, LogType};
use crate::store::{Addressee, Choice, Page, Rotation, Settlement, Store, Submitted};

pub use deliveries::*;

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
