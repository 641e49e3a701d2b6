//! One log behind every transport: a client that is cut off after any event, and goes on in any other way, on any
//! replica, whatever is killed meanwhile, puts together the log as it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::events::EventStream;
use buzzer_tests::inside::Inside;
use buzzer_tests::ledger::Ledger;
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::socket::Socket;
use buzzer_tests::wait::{eventually, within};
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use fastrand::Rng;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::faults::{API, WORKER};

const LIMIT: Duration = Duration::from_secs(120);
/// How soon a replica is tried again that did not answer.
const AGAIN: Duration = Duration::from_millis(50);

/// Somebody who follows one job, and whom chance cuts off.
struct Follower {
    replicas: Vec<Client>,
    chance: Rng,
    path: String,
    /// What came, put together.
    seen: Vec<Value>,
}

impl Follower {
    fn new(replicas: &[Client], id: &str, seed: u64) -> Self {
        let path = format!("/v1/jobs/{id}");
        Self { replicas: replicas.to_vec(), chance: Rng::with_seed(seed), path, seen: Vec::new() }
    }

    /// To the last event.
    async fn follow(mut self) -> Vec<Value> {
        while !self.is_over() {
            let (pieces, client) = (self.chance.usize(1..6), self.chance.choice(&self.replicas).unwrap().clone());
            let came = match self.chance.u8(0..6) {
                0 => self.stream(&client, pieces, true).await,
                1 => self.stream(&client, pieces, false).await,
                2 => self.long_poll(&client, pieces).await,
                3 => self.socket(&client, pieces).await,
                4 => self.socket_of_many(&client, pieces).await,
                _ => self.page(&client, pieces).await,
            };
            if came.is_none() {
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.seen
    }

    fn is_over(&self) -> bool {
        self.seen.last().is_some_and(|last| last["data"]["done"] == true)
    }

    fn last(&self) -> u64 {
        self.seen.last().map_or(0, |last| last["seq"].as_u64().unwrap())
    }

    /// Takes so many events from a stream, and drops it. `None` when nobody answered.
    async fn stream(&mut self, client: &Client, pieces: usize, by_header: bool) -> Option<()> {
        let request = if by_header {
            let request = client.request(Method::GET, &format!("{}/events?after=0", self.path));
            request.header("last-event-id", self.last())
        } else {
            client.request(Method::GET, &format!("{}/events?after={}", self.path, self.last()))
        };
        let mut stream = EventStream::open(request).await.ok()??;
        for _ in 0..pieces {
            // Cut off, or ended with its process: either way it goes on elsewhere.
            let shown = stream.next().await.ok()??;
            assert_eq!(shown.id, shown.event["seq"].to_string());
            self.seen.push(shown.event);
        }
        Some(())
    }

    /// The same from the socket of the job.
    async fn socket(&mut self, client: &Client, pieces: usize) -> Option<()> {
        let mut socket = Socket::open(client, &format!("{}/events?after={}", self.path, self.last())).await.ok()?;
        for _ in 0..pieces {
            self.seen.push(socket.next().await.ok()?);
        }
        Some(())
    }

    /// The same from a socket that might follow others, too.
    async fn socket_of_many(&mut self, client: &Client, pieces: usize) -> Option<()> {
        let mut socket = Socket::open(client, "/v1/socket").await.ok()?;
        let id = self.path.rsplit('/').next().unwrap();
        socket.say(json!({ "type": "follow", "request": "r", "job_id": id, "after": self.last() }).to_string()).await;
        let answer = socket.next().await.ok()?;
        assert_eq!((&answer["type"], &answer["request"]), (&json!("answer"), &json!("r")), "{answer}");
        for _ in 0..pieces {
            if self.is_over() {
                break;
            }
            let frame = socket.next().await.ok()?;
            assert_eq!(frame["type"], "event", "{frame}");
            self.seen.push(frame["event"].clone());
        }
        Some(())
    }

    /// Waits until there is more, and reads it.
    async fn long_poll(&mut self, client: &Client, pieces: usize) -> Option<()> {
        let answer = client.get(&format!("{}?wait=2&after={}", self.path, self.last())).await.ok()?;
        let job = answer.status.is_success().then(|| answer.json())?;
        let before = self.last();
        self.page(client, pieces).await?;
        // What a job says of itself is in its log by then.
        let newer = job["seq"].as_u64().unwrap() > before;
        assert!(!newer || self.last() > before, "{job} has nothing after {before}");
        Some(())
    }

    async fn page(&mut self, client: &Client, pieces: usize) -> Option<()> {
        let path = format!("{}/events?after={}&limit={pieces}", self.path, self.last());
        let answer = client.send(client.request(Method::GET, &path).header("accept", "application/json")).await.ok()?;
        let page = answer.status.is_success().then(|| answer.json())?;
        self.seen.extend(page["items"].as_array().unwrap().iter().cloned());
        Some(())
    }
}

/// The log as it is stored.
async fn log(client: &Client, id: &str) -> Vec<Value> {
    let request = client.request(Method::GET, &format!("/v1/jobs/{id}/events?limit=500"));
    let page = client.send(request.header("accept", "application/json")).await.unwrap().json();
    page["items"].as_array().unwrap().clone()
}

/// Each follower saw the whole log: no gap, no repeat, the same order.
async fn audit(client: &Client, id: &str, pieces: &[Value], seed: u64) {
    assert!(pieces.iter().zip(1..).all(|(event, seq)| event["seq"] == seq), "seed {seed}: {pieces:#?}");
    assert_eq!(pieces, log(client, id).await, "seed {seed}");
}

/// Talks as much as `words` says, some of it in bursts.
async fn talk(ctx: JobContext, words: u32) -> Result<u32, JobError> {
    for word in 0..words {
        match word % 3 {
            0 => ctx.progress(f64::from(word), format!("word {word}")),
            1 => ctx.log(format!("line {word}\nand its second")),
            _ => ctx.output(format!("piece {word} ")),
        }
        if word % 4 == 0 {
            tokio::time::sleep(Duration::from_millis(130)).await;
        }
    }
    if words.is_multiple_of(5) && ctx.attempt() < 2 {
        return Err(JobError::retry_after(Duration::from_millis(50), "once more"));
    }
    Ok(words)
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_whatever_cuts_it_off_the_pieces_are_the_log() {
    let mut buzzer = Inside::without_worker().await;
    buzzer.work(Worker::builder().handler_with("talk", HandlerOptions::new().slots(200), talk)).await;
    let client = buzzer.client();
    let base = fastrand::u64(..);
    let follow = async |seed: u64| {
        let words = Rng::with_seed(seed).u32(0..16);
        let id = client.accepted("talk", &json!(words)).await;
        let pieces = Follower::new(std::slice::from_ref(&client), &id, seed).follow().await;
        audit(&client, &id, &pieces, seed).await;
        pieces.len()
    };
    let all = (0..150).map(|n| follow(base.wrapping_add(n)));
    let lengths = within("every job to be followed", LIMIT, join_all(all)).await;
    assert!(lengths.iter().any(|length| *length > 10), "they had something to tell: {lengths:?}");
}

/// Two replicas; one is killed and comes back, and so does RabbitMQ.
#[tokio::test(flavor = "multi_thread")]
async fn p3_kills_of_an_api_and_of_rabbitmq_leave_no_gap_in_what_clients_see() {
    let node = RabbitNode::start().await;
    let outside = Outside::on(&node);
    let store = PostgresServer::shared().await.database().await;
    let settings = [&[("BUZZER_STORE", store.as_str())], API].concat();
    let (mut one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
    let _worker = outside.worker(WORKER);
    one.knows("demo.progress").await;
    other.knows("demo.progress").await;
    let replicas = [one.client(), other.client()];

    let base = fastrand::u64(..);
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(replicas[n % 2].accepted("demo.progress", &json!({ "steps": 40, "seconds": 12 })).await);
    }
    let follow = ids.iter().zip(base..).map(|(id, seed)| Follower::new(&replicas, id, seed).follow());
    let damage = async {
        // RabbitMQ 3.10 damages quorum queues that are only a second or two old when it is killed.
        reached(&replicas[1], &ids[0], 40.0).await;
        one.process().kill();
        reached(&replicas[1], &ids[0], 50.0).await;
        one.start_again().await;
        node.kill();
        node.start_again().await;
    };
    let (all, ()) = within("every job to be followed", LIMIT, async { tokio::join!(join_all(follow), damage) }).await;
    for ((id, pieces), seed) in ids.iter().zip(&all).zip(base..) {
        audit(&replicas[1], id, pieces, seed).await;
        assert_eq!(pieces.last().unwrap()["type"], "job.succeeded");
        assert!(pieces.len() > 10, "{pieces:?}");
    }
}

/// Ends once the job says that it is so far, or done.
async fn reached(client: &Client, id: &str, percent: f64) {
    eventually("the job to be half done", LIMIT, async || {
        let job = client.job(id).await.ok()?;
        (job["done"] == true || job["progress"]["percent"].as_f64()? >= percent).then_some(())
    })
    .await;
}

/// Follows a tenant's feed from its beginning until it has seen so many events; cut off by chance, on any replica. What it
/// saw, by its cursors.
async fn follow_feed(replicas: &[Client], seed: u64, events: usize) -> Vec<(String, Value)> {
    let mut chance = Rng::with_seed(seed);
    let (mut seen, mut cursor) = (Vec::new(), "f0".to_owned());
    while seen.len() < events {
        let client = chance.choice(replicas).unwrap();
        let request = client.request(Method::GET, &format!("/v1/events?after={cursor}"));
        let Ok(Some(mut stream)) = EventStream::open(request).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        for _ in 0..chance.usize(1..200) {
            if seen.len() == events {
                break;
            }
            let Ok(Some(shown)) = stream.next().await else { break };
            cursor.clone_from(&shown.id);
            seen.push((shown.id, shown.event));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_the_feed_of_two_replicas_skips_nothing_while_both_write() {
    const JOBS: usize = 400;
    let outside = Outside::on(RabbitNode::shared().await);
    let store = PostgresServer::shared().await.database().await;
    let settings = [("BUZZER_STORE", store.as_str())];
    let (one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
    let _worker = outside.worker(WORKER);
    one.knows("echo").await;
    other.knows("echo").await;
    let replicas = [one.client(), other.client()];
    let (mut first, mut second) = (Ledger::default(), Ledger::default());
    let base = fastrand::u64(..);
    let followers = join_all((0..6).map(|n| follow_feed(&replicas, base.wrapping_add(n), 2 * JOBS * 3)));
    let (feeds, (), ()) = within("the feeds", LIMIT, async {
        tokio::join!(
            followers,
            first.submit(&replicas[0], "echo", JOBS, |n| json!(n)),
            second.submit(&replicas[1], "echo", JOBS, |n| json!([n])),
        )
    })
    .await;
    let accepted: BTreeSet<_> = first.0.keys().chain(second.0.keys()).cloned().collect();
    assert_eq!(accepted.len(), 2 * JOBS);
    for feed in &feeds {
        assert_eq!(feed, &feeds[0], "seed {base}: all have seen the same, in the same order");
    }
    let mut logs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, event) in &feeds[0] {
        logs.entry(event["job_id"].as_str().unwrap().into()).or_default().push(event.clone());
    }
    assert_eq!(logs.keys().cloned().collect::<BTreeSet<_>>(), accepted);
    for (id, events) in logs {
        assert_eq!(events, log(&replicas[0], &id).await, "seed {base}");
    }
}

/// A watcher is told of nothing while its server is away, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn buzzer_watch_goes_on_across_a_restart() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("demo.progress").await;
    let client = api.client();
    let id = client.accepted("demo.progress", &json!({ "steps": 30, "seconds": 6 })).await;
    let watching = api.start_command(&["watch", &id, "--json"]);
    reached(&client, &id, 30.0).await;
    api.process().kill();
    api.start_again().await;
    let (status, printed) = within("the watcher", LIMIT, watching).await;
    assert_eq!(status, 0, "{printed}");
    let events: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, log(&client, &id).await);
    let (status, lines) = api.command(&["watch", &id]).await;
    assert_eq!((status, lines.lines().count()), (0, events.len()), "{lines}");
    assert!(lines.lines().last().unwrap().ends_with("job.succeeded  {\"steps\":30}"), "{lines}");
    let (status, rest) = api.command(&["watch", &id, "--after", &events.len().to_string()]).await;
    assert_eq!((status, rest.as_str()), (0, ""), "nothing comes after the end");
}

/// Where all streams are taken, the command asks for news instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_without_a_stream_too() {
    let api = Outside::up(&[("BUZZER_MAX_STREAMS", "1"), ("BUZZER_DEMO", "1")]).await;
    let client = api.client();
    let request = client.request(Method::GET, "/v1/events").header("accept", "text/event-stream");
    let taken = request.send().await.unwrap();
    assert_eq!(taken.status().as_u16(), 200);
    let input = r#"{"steps": 3, "seconds": 1}"#;
    let (status, output) = api.command(&["submit", "demo.progress", "--input", input, "--wait"]).await;
    assert_eq!((status, output.trim_end()), (0, r#"{"steps":3}"#));
    let jobs = client.get("/v1/jobs").await.unwrap().json();
    let id = jobs["items"][0]["id"].as_str().unwrap();
    let (status, printed) = api.command(&["watch", id, "--json"]).await;
    assert_eq!(status, 0, "{printed}");
    let events: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, log(&client, id).await);
    drop(taken);
}
