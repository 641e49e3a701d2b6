//! The PostgreSQL store, on a real PostgreSQL.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use buzzer_api::lifecycle::{self, Event, Job, Transition};
use buzzer_api::store::postgres::{OpenError, PostgresStore};
use buzzer_api::store::{Applied, Happening, Hint, Key, Store, StoreError, Submission, Submitted, conformance};
use buzzer_shared::id::{JobId, WorkerId};
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::message::RunResult;
use buzzer_shared::time::Time;
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use bytes::Bytes;
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

const NOW: Time = Time::from_millis(1_795_000_000_000);
const LIMIT: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&url.parse().unwrap()).await.unwrap())
}

async fn refusal(url: &str) -> OpenError {
    PostgresStore::open(&url.parse().unwrap()).await.unwrap_err()
}

/// A job that is claimed already, so that it may end at once.
fn submission(tenant: &str) -> Submission {
    let spec = KindSpec::any("echo".parse().unwrap());
    let draft = Job::new(JobId::new(NOW), tenant.parse().unwrap(), &spec, NOW);
    let Transition { job, mut effects } = lifecycle::accept(draft);
    let claimed = lifecycle::step(&job, &Event::Claimed { until: NOW + LIMIT }, NOW).unwrap();
    effects.extend(claimed.effects);
    Submission { accepted: Transition { job: claimed.job, effects }, input: Bytes::from_static(b"{}"), key: None }
}

fn success(job: JobId) -> Happening {
    let result = RunResult::Succeeded(Bytes::from_static(b"[]"));
    let worker = WorkerId::new(NOW);
    Happening {
        job,
        event: Event::Finished { dispatch: 1, worker, started_at: Some(NOW), late: Vec::new(), result, chance: 0.5 },
    }
}

async fn keep(store: &dyn Store, tenant: &str) -> JobId {
    let submission = submission(tenant);
    let id = submission.accepted.job.id;
    assert_eq!(store.submit(submission).await.unwrap(), Submitted::New);
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_does_what_every_store_must() {
    let server = PostgresServer::shared().await;
    conformance::exercise(async || open(&server.database().await).await as Arc<dyn Store>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_make_the_tables_once() {
    let url = PostgresServer::shared().await.database().await;
    let stores = futures_util::future::join_all((0..6).map(|_| open(&url))).await;
    let id = keep(&*stores[0], "t").await;
    for store in stores {
        assert!(store.job(&"t".parse().unwrap(), id).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_one_key_through_two_replicas_at_once_makes_one_job() {
    let url = PostgresServer::shared().await.database().await;
    let stores = [open(&url).await, open(&url).await];
    for round in 0..20 {
        let submit = |n: usize| {
            let store = Arc::clone(&stores[n % 2]);
            let key = Key { name: format!("key {round}"), fingerprint: [1; 32] };
            let submission = Submission { key: Some(key), ..submission("t") };
            tokio::spawn(async move {
                let id = submission.accepted.job.id;
                match store.submit(submission).await.unwrap() {
                    Submitted::New => (true, id),
                    Submitted::Repeated(job) => (false, job.id),
                    Submitted::KeyReused => panic!("it is the same"),
                }
            })
        };
        let (mut new, mut ids) = (0, HashSet::new());
        for answer in (0..64).map(submit).collect::<Vec<_>>() {
            let (is_new, id) = answer.await.unwrap();
            new += usize::from(is_new);
            ids.insert(id);
        }
        assert_eq!((new, ids.len()), (1, 1), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_claimed_by_two_replicas() {
    let url = PostgresServer::shared().await.database().await;
    let stores = [open(&url).await, open(&url).await];
    let kind: Kind = "echo".parse().unwrap();
    for n in 0..300 {
        let mut submission = submission("t");
        submission.accepted = lifecycle::accept(Job { seq: 0, dispatch: 0, awaited: false, ..submission.accepted.job });
        stores[n % 2].submit(submission).await.unwrap();
    }
    let claim = |n: usize| {
        let (store, kind) = (Arc::clone(&stores[n % 2]), kind.clone());
        tokio::spawn(async move { store.claim(&kind, 7, NOW + LIMIT, NOW).await.unwrap() })
    };
    let mut claimed = HashSet::new();
    for answer in (0..100).map(claim).collect::<Vec<_>>() {
        for outgoing in answer.await.unwrap() {
            assert!(claimed.insert(outgoing.job.id), "claimed twice");
        }
    }
    assert_eq!(claimed.len(), 300);
}

/// Batches that meet have jobs in common, in every order, of several tenants: none may wait for the other for ever, and
/// whoever reads a feed never sees a number before a lower one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p3_no_number_of_a_feed_is_seen_before_a_lower_one() {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 12;
    const JOBS: usize = 10;
    let url = PostgresServer::shared().await.database().await;
    let stores = [open(&url).await, open(&url).await];
    let reader = open(&url).await;
    let write = |n: usize| {
        let store = Arc::clone(&stores[n % 2]);
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let mut ids = Vec::new();
                for job in 0..JOBS {
                    ids.push(keep(&*store, ["one", "other"][job % 2]).await);
                }
                let forwards: Vec<_> = ids.iter().map(|id| success(*id)).collect();
                let backwards: Vec<_> = ids.iter().rev().map(|id| success(*id)).collect();
                let (one, other) = tokio::join!(store.apply(forwards, NOW), store.apply(backwards, NOW));
                let changed = [one.unwrap(), other.unwrap()].concat();
                let changed = changed.iter().filter(|applied| matches!(applied, Applied::Changed(_))).count();
                assert_eq!(changed, JOBS, "each has ended once");
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    // Three entries for each job, half of the jobs for each tenant.
    let expected = i64::try_from(WRITERS * ROUNDS * JOBS / 2 * 3).unwrap();
    let mut last: HashMap<&str, i64> = HashMap::from([("one", 0), ("other", 0)]);
    within("every entry to be seen", LIMIT, async {
        while last.values().any(|last| *last < expected) {
            for (tenant, last) in &mut last {
                for fed in reader.feed(&tenant.parse().unwrap(), *last, 100).await.unwrap() {
                    assert_eq!(fed.feed, *last + 1, "a number was passed by, or is missing");
                    *last = fed.feed;
                }
            }
        }
    })
    .await;
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_to_the_other_replicas_and_only_to_them() {
    let url = PostgresServer::shared().await.database().await;
    let (one, other) = (open(&url).await, open(&url).await);
    // What is done before the other listens is not told to it: it has asked for nothing yet.
    let mut done = Vec::new();
    let changes = async {
        loop {
            let id = keep(&*one, "t").await;
            done.push(id);
            one.apply(vec![success(id)], NOW).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // A job that is new is told by its tenant alone: nobody can wait for it yet.
    let first_of_a_job = async {
        loop {
            match other.hint().await {
                Hint::News { jobs, tenants } if jobs.is_empty() => assert_eq!(tenants, ["t".parse().unwrap()]),
                Hint::News { jobs, .. } => return jobs,
                Hint::Any => panic!("nothing can be too much yet"),
            }
        }
    };
    let told = tokio::select! {
        told = within("a hint", LIMIT, first_of_a_job) => told,
        () = changes => unreachable!("it goes on for ever"),
    };
    assert!(!told.is_empty() && told.iter().all(|id| done.contains(id)), "{told:?} of {done:?}");
    assert!(futures_util::FutureExt::now_or_never(one.hint()).is_none(), "it knows what it did itself");
}

/// The replica dies after its commit, before it has spoken of it: here, somebody writes who never speaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_which_nobody_spoke_is_found() {
    let server = PostgresServer::shared().await;
    let url = server.database().await;
    let (store, database) = (open(&url).await, url.rsplit('/').next().unwrap().split('?').next().unwrap());
    let id = keep(&*store, "t").await;
    // Until it has looked, it does not know from where on to look.
    let client = server.client(database).await;
    let silent = "WITH raised AS (UPDATE tenants SET feed = feed + 1 RETURNING id, feed) \
                  INSERT INTO events (tenant, feed, job, seq, at, attempt, type) \
                  SELECT raised.id, raised.feed, jobs.n, 1000 + raised.feed, 0, 1, 2 FROM raised, jobs";
    let speak = async {
        loop {
            client.batch_execute(silent).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let hint = tokio::select! {
        hint = within("a hint", LIMIT, store.hint()) => hint,
        () = speak => unreachable!("it goes on for ever"),
    };
    assert_eq!(hint, Hint::News { jobs: vec![id], tenants: vec!["t".parse().unwrap()] });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_cannot_be_read_does_not_hold_up_the_others() {
    let server = PostgresServer::shared().await;
    let url = server.database().await;
    let (store, database) = (open(&url).await, url.rsplit('/').next().unwrap().split('?').next().unwrap());
    let ids = [keep(&*store, "t").await, keep(&*store, "t").await, keep(&*store, "t").await];
    let client = server.client(database).await;
    client.execute("UPDATE jobs SET priority = 77 WHERE id = $1", &[ids[1].as_uuid()]).await.unwrap();
    let applied = store.apply(ids.iter().map(|id| success(*id)).collect(), NOW).await.unwrap();
    assert!(matches!(applied[..], [Applied::Changed(_), Applied::Unknown, Applied::Changed(_)]), "{applied:?}");
    let ended = store.end_leases(&HashSet::new(), NOW + LIMIT, 10).await.unwrap();
    assert_eq!(ended.len(), 0);
    let read = store.job(&"t".parse().unwrap(), ids[1]).await;
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
}

/// Everything fails while it is down, at once and with the right word; and works again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn p1_it_heals_by_itself_after_every_kind_of_restart() {
    let server = PostgresServer::start().await;
    let store = open(&server.database().await).await;
    let mut kept = Vec::new();
    for kill in [false, true] {
        kept.push(keep(&*store, "t").await);
        if kill {
            server.kill();
        } else {
            server.stop().await;
        }
        eventually("a submission to fail", LIMIT, async || {
            match within("an answer", Duration::from_secs(10), store.submit(submission("t"))).await {
                Err(StoreError::Unavailable(_)) => Some(()),
                Err(error) => panic!("{error}"),
                Ok(_) => None,
            }
        })
        .await;
        assert!(matches!(store.probe(NOW).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(store.usage().await, Err(StoreError::Unavailable(_))));
        server.start_again().await;
        eventually("a submission to be kept", LIMIT, async || store.submit(submission("t")).await.ok()).await;
        store.probe(NOW).await.unwrap();
    }
    for id in kept {
        assert!(store.job(&"t".parse().unwrap(), id).await.unwrap().is_some(), "{id} was lost");
    }
    // The line to the other replicas, too.
    let other = open(&server.url("postgres")).await;
    drop(other);
    let id = keep(&*store, "t").await;
    store.apply(vec![success(id)], NOW).await.unwrap();
}

/// A list that takes long must not hold up what is written, nor one replica's locks the others' for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_does_not_hold_up_the_rest() {
    let server = PostgresServer::shared().await;
    let url = server.database().await;
    let (store, database) = (open(&url).await, url.rsplit('/').next().unwrap().split('?').next().unwrap());
    let held = keep(&*store, "t").await;
    let mut client = server.client(database).await;
    let holding = client.transaction().await.unwrap();
    holding.execute("SELECT n FROM jobs FOR UPDATE", &[]).await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.apply(vec![success(held)], NOW).await }
    });
    let passes = async {
        let id = keep(&*store, "t").await;
        store.apply(vec![success(id)], NOW).await.unwrap();
        assert_eq!(store.end_leases(&HashSet::new(), NOW + LIMIT, 10).await.unwrap().len(), 0, "passed by");
        store.probe(NOW).await.unwrap();
    };
    within("the others", LIMIT, passes).await;
    holding.rollback().await.unwrap();
    let applied = match waiting.await.unwrap() {
        // Held for too long, it says so, and is tried again by whoever asked.
        Err(StoreError::Unavailable(_)) => store.apply(vec![success(held)], NOW).await.unwrap(),
        other => other.unwrap(),
    };
    assert!(matches!(applied[..], [Applied::Changed(_)]));
}

/// They need no key: whoever asks often must not keep those waiting who have one.
#[tokio::test(flavor = "multi_thread")]
async fn p8_many_who_ask_whether_it_is_ready_hold_up_nobody() {
    let server = PostgresServer::shared().await;
    let url = server.database().await;
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let outside = Outside::on(RabbitNode::shared().await);
    let (api, _worker) = (outside.api(&[("BUZZER_STORE", &url)]).await, outside.worker(&[]));
    api.knows("echo").await;
    let client = api.client();
    eventually("it to be ready", LIMIT, async || (client.get("/readyz").await.ok()?.status == 200).then_some(())).await;
    let later = client.send(client.request(Method::POST, "/v1/jobs/echo").json(&json!({ "input": 1, "delay": "1h" })));
    let later = later.await.unwrap().json()["id"].as_str().unwrap().to_owned();

    let mut holder = server.client(database).await;
    let holding = holder.transaction().await.unwrap();
    holding.execute("SELECT at FROM probes FOR UPDATE", &[]).await.unwrap();
    // The last answer is not good any more: these wait for the row, as they would for a disk.
    eventually("the first to wait", LIMIT, async || {
        timeout(Duration::from_secs(2), client.get("/readyz")).await.is_err().then_some(())
    })
    .await;
    // More than the connections there are: none may stay behind with the question of somebody who has hung up.
    for _ in 0..8 {
        timeout(Duration::from_millis(100), client.get("/readyz")).await.expect_err("the row is held");
    }
    let asking: Vec<_> = (0..64)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/readyz").await })
        })
        .collect();
    let cancel = client.send(client.request(Method::POST, &format!("/v1/jobs/{later}/cancel")));
    let canceled = within("the cancel", Duration::from_secs(5), cancel).await.unwrap();
    assert_eq!(canceled.status, 200, "{}", canceled.text);
    holding.rollback().await.unwrap();
    for asked in asking {
        within("an answer", LIMIT, asked).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_an_api_stops_in_time_although_its_database_hangs() {
    let server = PostgresServer::start().await;
    let url = server.database().await;
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[("BUZZER_STORE", &url), ("BUZZER_DRAIN", "1s")]).await;
    server.pause();
    let stuck = tokio::spawn({
        let client = api.client();
        async move { client.get("/v1/jobs").await }
    });
    let stopped = within("the API to stop", Duration::from_secs(20), api.process().terminate()).await;
    server.resume();
    assert!(stopped.success(), "{stopped}");
    let _ = stuck.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_clock_is_the_databases() {
    let server = PostgresServer::shared().await;
    let url = server.database().await;
    let store = open(&url).await;
    let client = server.client("postgres").await;
    let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let before: i64 = client.query_one(clock, &[]).await.unwrap().get(0);
    let now = store.clock().now().as_millis();
    let after: i64 = client.query_one(clock, &[]).await.unwrap().get(0);
    assert!((before - 100..=after + 100).contains(&now), "{now} is not between {before} and {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_fit_is_refused_with_what_to_do() {
    let server = PostgresServer::start().await;
    let url = server.database().await;
    let wrong = url.replacen("buzzer:", "buzzer:not", 1);
    assert!(matches!(refusal(&wrong).await, OpenError::Password { .. }));
    assert!(matches!(refusal(&server.url("missing")).await, OpenError::NoDatabase { .. }));
    assert!(matches!(refusal(&url.replace("disable", "require")).await, OpenError::Tls { .. }));
    let secret = url.split(['@', ':']).nth(2).unwrap();
    assert!(!refusal(&wrong).await.to_string().contains(secret));

    drop(open(&url).await);
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let future = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                  SELECT 9999, 'future', applied_on, checksum FROM refinery_schema_history LIMIT 1";
    server.client(database).await.batch_execute(future).await.unwrap();
    assert!(matches!(refusal(&url).await, OpenError::Newer { found: 9999, .. }));

    server.client("postgres").await.batch_execute("ALTER SYSTEM SET fsync = off").await.unwrap();
    server.client("postgres").await.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let refused = async || match PostgresStore::open(&server.database().await.parse().unwrap()).await {
        Err(OpenError::Unsafe { .. }) => Some(()),
        _ => None,
    };
    eventually("the setting to be seen", LIMIT, refused).await;

    server.stop().await;
    assert!(matches!(refusal(&url).await, OpenError::Away { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_says_in_one_line_what_is_wrong_and_waits_for_what_may_come() {
    let server = PostgresServer::start().await;
    let outside = Outside::on(RabbitNode::shared().await);
    let url = server.database().await;
    let wrong = url.replacen("buzzer:", "buzzer:not", 1);
    let (status, said) = outside.api_that_fails(&[("BUZZER_STORE", &wrong)]).await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("user and password in BUZZER_STORE"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("buzzer-api:")).count(), 1, "{said}");

    server.stop().await;
    let settings = [("BUZZER_STORE", url.as_str())];
    let (mut api, ()) = tokio::join!(outside.api(&settings), async {
        // It has begun to wait by then, or finds it there at once: both are fine.
        tokio::task::yield_now().await;
        server.start_again().await;
    });
    assert!(!api.process().log().contains(url.split(['@', ':']).nth(2).unwrap()), "a password in the log");
}
