//! Many jobs over one socket.

use std::collections::HashMap;
use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::inside::{Inside, MAX_BODY};
use buzzer_tests::load::memory_mib;
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::socket::{End, Socket};
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{LIMIT, is_problem, socket, upgrade};

const UNKNOWN: &str = "ffffffff-ffff-7fff-bfff-ffffffffffff";

/// A socket, and what came over it.
struct Talk(Socket);

impl Talk {
    async fn open(client: &Client) -> Self {
        Self(socket(client, "/v1/socket").await)
    }

    async fn say(&mut self, frame: Value) {
        self.0.say(frame.to_string()).await;
    }

    async fn next(&mut self) -> Value {
        self.0.next().await.expect("an open socket")
    }

    /// Says this, and takes its answer; events come between.
    async fn ask(&mut self, frame: Value) -> Value {
        self.say(frame).await;
        loop {
            let next = self.next().await;
            if next["type"] != "event" {
                return next;
            }
        }
    }

    /// The next event, of this job.
    async fn event(&mut self, id: &str) -> Value {
        let next = self.next().await;
        assert_eq!((&next["type"], &next["event"]["job_id"]), (&json!("event"), &json!(id)), "{next}");
        next["event"].clone()
    }

    /// The types of the events of a job to its last one, which follow each other in the order of their numbers.
    async fn story(&mut self, id: &str, after: u64) -> Vec<String> {
        let mut types = Vec::new();
        loop {
            let event = self.event(id).await;
            types.push(event["type"].as_str().unwrap().to_owned());
            assert_eq!(event["seq"], after + types.len() as u64);
            if event["data"]["done"] == true {
                return types;
            }
        }
    }

    /// Nothing came, up to the answer to a word.
    async fn is_quiet(&mut self) {
        self.say(json!({ "type": "unfollow", "request": "quiet?", "job_id": UNKNOWN })).await;
        let next = self.next().await;
        assert_eq!(next, json!({ "type": "answer", "request": "quiet?", "job_id": UNKNOWN }));
    }
}

fn is_refused(answer: &Value, request: &str, status: u16, slug: &str) {
    assert_eq!((&answer["type"], &answer["request"]), (&json!("problem"), &json!(request)), "{answer}");
    let problem = &answer["problem"];
    assert_eq!(
        (&problem["type"], &problem["status"]),
        (&json!(format!("/problems/{slug}")), &json!(status)),
        "{answer}"
    );
    assert!(problem["title"].is_string() && !problem["detail"].as_str().unwrap().is_empty(), "{answer}");
}

#[tokio::test]
async fn jobs_are_handed_in_followed_unfollowed_and_canceled() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let job = json!({ "input": { "a": 1 }, "tags": { "n": "1" } });
    let answer =
        talk.ask(json!({ "type": "submit", "request": "r1", "kind": "echo", "job": job, "follow": true })).await;
    assert_eq!((&answer["type"], &answer["request"]), (&json!("answer"), &json!("r1")), "{answer}");
    let id = answer["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!((&answer["job"]["input"], &answer["job"]["tags"]["n"]), (&json!({ "a": 1 }), &json!("1")));
    assert_eq!(talk.story(&id, 0).await, ["job.accepted", "job.started", "job.succeeded"]);
    talk.is_quiet().await;

    let stored = buzzer.get(&format!("/v1/jobs/{id}")).await.json();
    let answer = talk.ask(json!({ "type": "follow", "job_id": id, "after": 1 })).await;
    assert_eq!(answer, json!({ "type": "answer", "job": stored }), "as GET shows it, and without a request");
    assert_eq!(talk.story(&id, 1).await, ["job.started", "job.succeeded"]);
    let answer = talk.ask(json!({ "type": "follow", "request": "over", "job_id": id, "after": 3 })).await;
    assert_eq!(answer["job"]["done"], true, "nothing will come");
    talk.is_quiet().await;

    let waits = json!({ "input": 2, "delay": "1h" });
    let answer = talk.ask(json!({ "type": "submit", "kind": "echo", "job": waits })).await;
    let id = answer["job"]["id"].as_str().unwrap().to_owned();
    talk.is_quiet().await;
    talk.ask(json!({ "type": "follow", "job_id": id })).await;
    assert_eq!(talk.event(&id).await["type"], "job.accepted");
    let answer = talk.ask(json!({ "type": "unfollow", "request": "r4", "job_id": id })).await;
    assert_eq!(answer, json!({ "type": "answer", "request": "r4", "job_id": id }));
    let answer = talk.ask(json!({ "type": "cancel", "request": "r5", "job_id": id })).await;
    assert_eq!((&answer["request"], &answer["job"]["state"]), (&json!("r5"), &json!("canceled")), "{answer}");
    talk.is_quiet().await;
    let again = talk.ask(json!({ "type": "follow", "job_id": id })).await;
    assert_eq!(again["job"]["state"], "canceled");
    assert_eq!(talk.story(&id, 0).await, ["job.accepted", "job.canceled"]);
    assert_eq!(talk.0.close().await.code(), 1000);
}

#[tokio::test]
async fn a_run_is_canceled_over_the_socket_that_follows_it() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let job = json!({ "input": { "seconds": 60 } });
    let answer = talk.ask(json!({ "type": "submit", "kind": "demo.sleep", "job": job, "follow": true })).await;
    let id = answer["job"]["id"].as_str().unwrap().to_owned();
    for expected in ["job.accepted", "job.started"] {
        assert_eq!(talk.event(&id).await["type"], expected);
    }
    let answer = talk.ask(json!({ "type": "cancel", "job_id": id })).await;
    assert!(answer["job"]["cancel_requested_at"].is_string(), "{answer}");
    assert_eq!(talk.event(&id).await["type"], "job.canceled");
}

#[tokio::test]
async fn what_is_refused_over_http_is_refused_here_and_the_socket_goes_on() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let done = buzzer.run("echo", r#"{"input": 1}"#).await["id"].clone();
    let submit = |kind: &str, job: Value| json!({ "type": "submit", "request": "r", "kind": kind, "job": job });
    for (frame, status, slug) in [
        (submit("ecco", json!({ "input": 1 })), 404, "unknown-kind"),
        (submit("webhook.deliver", json!({ "input": 1 })), 403, "reserved-kind"),
        (submit("echo", json!({})), 422, "invalid-request"),
        (submit("echo", json!({ "input": 1, "prio": 1 })), 422, "invalid-request"),
        (submit("echo", json!([1])), 422, "invalid-request"),
        (submit("demo.sleep", json!({ "input": { "seconds": "one" } })), 422, "invalid-input"),
        (json!({ "type": "follow", "request": "r", "job_id": UNKNOWN }), 404, "unknown-job"),
        (json!({ "type": "cancel", "request": "r", "job_id": UNKNOWN }), 404, "unknown-job"),
        (
            json!({ "type": "cancel", "request": "r", "job_id": "019ab4a6-2c00-7000-8000-000000000000" }),
            410,
            "job-gone",
        ),
        (json!({ "type": "cancel", "request": "r", "job_id": done }), 409, "too-late"),
        (json!({ "type": "follow", "request": "r", "job_id": done, "after": 4 }), 400, "bad-cursor"),
        (json!({ "type": "follow", "request": "r", "job_id": done, "since": 4 }), 422, "invalid-request"),
        (json!({ "type": "follow", "request": "r", "job_id": "x" }), 422, "invalid-request"),
    ] {
        is_refused(&talk.ask(frame).await, "r", status, slug);
    }
    let answer =
        talk.ask(json!({ "type": "submit", "request": "r", "kind": "echo", "job": { "input": 1, "prio": 1 } })).await;
    assert!(answer["problem"]["detail"].as_str().unwrap().contains("prio"), "{answer}");
    for (text, status, slug) in [
        ("{", 400, "broken-json"),
        ("", 400, "broken-json"),
        ("[]", 422, "invalid-request"),
        (r#"{"type": "fly"}"#, 422, "invalid-request"),
        ("{}", 422, "invalid-request"),
    ] {
        talk.0.say(text).await;
        let answer = talk.next().await;
        assert_eq!(answer.get("request"), None, "{text:?}: {answer}");
        assert_eq!(answer["problem"]["type"], format!("/problems/{slug}"), "{text:?}: {answer}");
        assert_eq!(answer["problem"]["status"], status, "{text:?}: {answer}");
    }
    for frame in [json!({ "type": "fly", "request": "r" }), json!({ "request": "r" })] {
        is_refused(&talk.ask(frame).await, "r", 422, "invalid-request");
    }
    assert_eq!(buzzer.count().await, 1, "nothing was stored");
    talk.is_quiet().await;
}

#[tokio::test]
async fn a_message_that_may_not_be_closes_the_socket_with_its_code() {
    let buzzer = Inside::start().await;
    let room = MAX_BODY + 4 * 1024;
    for (message, code) in [
        (Message::binary(r#"{"type": "fly"}"#), 1003),
        (Message::text("x".repeat(room + 1)), 1009),
        (Message::text("x".repeat(1 << 24)), 1009),
    ] {
        let mut socket = socket(&buzzer.client(), "/v1/socket").await;
        socket.say(message).await;
        let (said, end) = socket.rest().await;
        let End::Closed { code: told, reason } = &end else { panic!("{end:?}") };
        assert_eq!((said, *told), (vec![], code), "{end:?}");
        assert!(code != 1009 || reason.contains(&room.to_string()), "{reason}");
    }
    // As large as it may be, and a job that is a little too large.
    let mut talk = Talk::open(&buzzer.client()).await;
    let submit = |length: usize| {
        let job = format!(r#"{{"input":"{}"}}"#, "x".repeat(length - 12));
        let frame = format!(r#"{{"type":"submit","kind":"echo","job":{job}"#);
        format!("{frame}{:1$}}}", "", room - frame.len() - 1)
    };
    talk.0.say(submit(MAX_BODY)).await;
    assert_eq!(talk.next().await["job"]["kind"], "echo");
    talk.0.say(submit(MAX_BODY + 1)).await;
    let refused = talk.next().await;
    assert_eq!((&refused["problem"]["status"], &refused["problem"]["limit"]), (&json!(413), &json!(MAX_BODY)));
    // In pieces that are small.
    let mut socket = socket(&buzzer.client(), "/v1/socket").await;
    socket.pieces("x", room + 1).await;
    assert_eq!(socket.rest().await.1.code(), 1009);
}

#[tokio::test]
async fn who_may_not_open_a_socket_is_told_so() {
    let buzzer = Inside::with(|config| config.max_streams = 1).await;
    let client = buzzer.client();
    is_problem(&client.get("/v1/socket").await.unwrap(), 426, "upgrade-required");
    let page = upgrade(&client, "/v1/socket").header("origin", "https://evil.example");
    is_problem(&client.send(page).await.unwrap(), 403, "origin-not-allowed");
    is_problem(&client.send(upgrade(&client, "/v1/socket?job=1")).await.unwrap(), 400, "bad-query");
    let open = socket(&client, "/v1/socket").await;
    is_problem(&client.send(upgrade(&client, "/v1/socket")).await.unwrap(), 503, "too-many-streams");
    drop(open);
    eventually("its place to be free", LIMIT, async || Socket::open(&client, "/v1/socket").await.ok()).await;
    let mut page = Socket::open_from(&client, "/v1/socket", Some(client.base())).await.unwrap();
    page.say(json!({ "type": "unfollow", "job_id": UNKNOWN }).to_string()).await;
    assert_eq!(page.next().await.unwrap()["type"], "answer");
}

/// What takes long and what is done at once.
#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_order_of_the_commands() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let done = buzzer.run("echo", r#"{"input": 1}"#).await["id"].clone();
    const COMMANDS: usize = 500;
    for n in 0..COMMANDS {
        let request = n.to_string();
        let frame = match n % 5 {
            0 | 1 => {
                json!({ "type": "submit", "request": request, "kind": "echo", "job": { "input": n, "delay": "1h" } })
            }
            2 => json!({ "type": "cancel", "request": request, "job_id": UNKNOWN }),
            3 => json!({ "type": "unfollow", "request": request, "job_id": done }),
            _ => json!({ "type": "follow", "request": request, "job_id": done, "after": 3 }),
        };
        talk.0.feed(frame.to_string()).await;
    }
    talk.0.flush().await;
    for n in 0..COMMANDS {
        let answer = talk.next().await;
        assert_eq!(answer["request"], n.to_string(), "{answer}");
        assert_eq!(answer["type"], if n % 5 == 2 { "problem" } else { "answer" }, "{answer}");
        if n % 5 < 2 {
            assert_eq!(answer["job"]["input"], n);
        }
    }
}

#[tokio::test]
async fn p4_a_key_stands_for_the_same_job_by_post_and_by_socket() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let body = r#"{"input":  {"n": 1.0},   "priority":5}"#;
    let by_post = async |key: &str, body: &str| {
        buzzer.send(buzzer.submission("echo", body).header("idempotency-key", key)).await.json()
    };
    let frame = |key: &str, body: &str| {
        format!(r#"{{"type": "submit", "kind": "echo", "idempotency_key": "{key}", "follow": true, "job": {body}}}"#)
    };
    let first = by_post("a", body).await["id"].clone();
    talk.0.say(frame("a", body)).await;
    let again = talk.next().await;
    assert_eq!(again["job"]["id"], first, "{again}");
    let id = first.as_str().unwrap();
    talk.story(id, 0).await;
    talk.0.say(frame("a", body)).await;
    let done = talk.next().await;
    assert_eq!((&done["job"]["id"], &done["job"]["output"]), (&first, &json!({ "n": 1.0 })), "as it is now");
    talk.story(id, 0).await;

    talk.0.say(frame("b", body)).await;
    let new = talk.next().await["job"]["id"].clone();
    assert_ne!(new, first);
    assert_eq!(by_post("b", body).await["id"], new);
    talk.story(new.as_str().unwrap(), 0).await;
    talk.0.say(frame("b", r#"{"input": {"n": 1}, "priority": 5}"#)).await;
    assert_eq!(talk.next().await["problem"]["type"], "/problems/key-reused");
    assert_eq!(buzzer.count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_so_many_jobs_are_followed_and_no_more() {
    const MOST: usize = 1000;
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let submit = |follow: bool| json!({ "type": "submit", "request": "r", "kind": "echo", "job": { "input": 1, "delay": "1h" }, "follow": follow });
    for _ in 0..MOST + 1 {
        talk.0.feed(submit(true).to_string()).await;
    }
    talk.0.flush().await;
    let (mut ids, mut refusals, mut events) = (Vec::new(), Vec::new(), 0);
    while ids.len() + refusals.len() < MOST + 1 || events < MOST {
        let next = talk.next().await;
        match next["type"].as_str().unwrap() {
            "answer" => ids.push(next["job"]["id"].as_str().unwrap().to_owned()),
            "event" => events += 1,
            _ => refusals.push(next),
        }
    }
    assert_eq!((ids.len(), refusals.len()), (MOST, 1));
    is_refused(&refusals[0], "r", 409, "too-many-followed");
    assert_eq!(refusals[0]["problem"]["limit"], MOST);
    let other = talk.ask(submit(false)).await["job"]["id"].as_str().unwrap().to_owned();
    let follow = |id: &str| json!({ "type": "follow", "request": "r", "job_id": id, "after": 1 });
    is_refused(&talk.ask(follow(&other)).await, "r", 409, "too-many-followed");
    assert_eq!(talk.ask(follow(&ids[7])).await["type"], "answer", "it is one of them");
    // In one go: the first makes room for the second, and there is none for the third.
    talk.0.feed(json!({ "type": "unfollow", "job_id": ids[0] }).to_string()).await;
    talk.0.feed(submit(true).to_string()).await;
    talk.0.feed(submit(true).to_string()).await;
    talk.0.flush().await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let next = talk.next().await;
        if next["type"] != "event" {
            answers.push(next["type"].clone());
        }
    }
    assert_eq!(answers, ["answer", "answer", "problem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_who_comes_back_after_a_stop_of_the_api_misses_nothing() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let mut seen: HashMap<String, Vec<Value>> = HashMap::new();
    let take = |seen: &mut HashMap<String, Vec<Value>>, next: Value| {
        let event = next["event"].clone();
        seen.get_mut(event["job_id"].as_str().unwrap()).unwrap().push(event);
    };
    for n in 0..5 {
        let job = json!({ "input": n, "delay": format!("{}ms", 300 * n + 1) });
        talk.say(json!({ "type": "submit", "kind": "echo", "job": job, "follow": true })).await;
        // Events of those before may come first.
        let answer = loop {
            match talk.next().await {
                next if next["type"] == "event" => take(&mut seen, next),
                next => break next,
            }
        };
        seen.insert(answer["job"]["id"].as_str().unwrap().into(), Vec::new());
    }
    let (mut buzzer, end) = within("a clean stop", LIMIT, async {
        tokio::join!(buzzer.restart(), async {
            loop {
                match talk.0.next().await {
                    Ok(next) if next["type"] == "event" => take(&mut seen, next),
                    Ok(_) => {}
                    Err(end) => return end,
                }
            }
        })
    })
    .await;
    assert!(matches!(&end, End::Closed { code: 1001, reason } if reason.contains("go on")), "{end:?}");
    buzzer.work(buzzer_worker::stock_worker(&buzzer_worker::StockConfig::default())).await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let ids: Vec<_> = seen.keys().cloned().collect();
    for id in &ids {
        let after = seen[id].last().map_or(0, |last| last["seq"].as_u64().unwrap());
        talk.0.feed(json!({ "type": "follow", "job_id": id, "after": after }).to_string()).await;
    }
    talk.0.flush().await;
    let is_over = |events: &Vec<Value>| events.last().is_some_and(|last| last["data"]["done"] == true);
    while !seen.values().all(is_over) {
        let next = talk.next().await;
        if next["type"] == "event" {
            take(&mut seen, next);
        }
    }
    for (id, events) in &seen {
        let request =
            buzzer.request(Method::GET, &format!("/v1/jobs/{id}/events")).header("accept", "application/json");
        assert_eq!(&buzzer.send(request).await.json()["items"], &json!(events), "{id}");
    }
}

#[tokio::test]
async fn a_job_that_is_deleted_under_its_follower_is_told() {
    let buzzer = Inside::start().await;
    let mut talk = Talk::open(&buzzer.client()).await;
    let job = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    let id = job["id"].as_str().unwrap();
    talk.ask(json!({ "type": "follow", "job_id": id })).await;
    assert_eq!(talk.event(id).await["type"], "job.accepted");
    // It ends, and is gone before anybody could look.
    let path = format!("/v1/jobs/{id}");
    let cancel = buzzer.request(Method::POST, &format!("{path}/cancel"));
    let (canceled, deleted) = (buzzer.send(cancel).await, buzzer.send(buzzer.request(Method::DELETE, &path)).await);
    assert_eq!((canceled.status.as_u16(), deleted.status.as_u16()), (200, 200));
    let last = talk.next().await;
    match last["type"].as_str().unwrap() {
        // It was quick enough.
        "event" => assert_eq!(last["event"]["type"], "job.canceled"),
        _ => assert_eq!(last["problem"]["type"], "/problems/unknown-job", "{last}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_over_a_socket_a_tenant_has_its_own_jobs_alone() {
    let outside = Outside::on(RabbitNode::shared().await);
    let (api, _worker) = (outside.api(&[("BUZZER_AUTH", "keys")]).await, outside.worker(&[]));
    api.knows("echo").await;
    let shop = api.client().with_key(&api.key(&["--tenant", "shop"]).await);
    let bank = api.client().with_key(&api.key(&["--tenant", "bank"]).await);
    is_problem(&api.client().send(upgrade(&api.client(), "/v1/socket")).await.unwrap(), 401, "unauthorized");
    let (mut shop_talk, mut bank_talk) = (Talk::open(&shop).await, Talk::open(&bank).await);
    let waits = json!({ "type": "submit", "kind": "echo", "job": { "input": 1, "delay": "1h" }, "follow": true });
    let id = shop_talk.ask(waits.clone()).await["job"]["id"].as_str().unwrap().to_owned();
    for verb in ["follow", "cancel"] {
        let answer = bank_talk.ask(json!({ "type": verb, "request": "r", "job_id": id })).await;
        is_refused(&answer, "r", 404, "unknown-job");
    }
    assert_eq!(shop_talk.event(&id).await["type"], "job.accepted");
    bank_talk.is_quiet().await;

    let (_, list) = api.command(&["keys", "list"]).await;
    let key = list.lines().find(|line| line.contains("shop")).unwrap().split(' ').next().unwrap();
    assert_eq!(api.command(&["keys", "revoke", key]).await.0, 0);
    let end = within("the end of the socket", LIMIT, shop_talk.0.next()).await.unwrap_err();
    assert!(matches!(end, End::Closed { code: 1008, .. }), "{end:?}");
    bank_talk.is_quiet().await;
}

/// Between two looks at the key, a command looks, too.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_revoked_key_hands_nothing_in_on_a_socket_that_is_open() {
    let outside = Outside::on(RabbitNode::shared().await);
    let (api, _worker) = (outside.api(&[("BUZZER_AUTH", "keys")]).await, outside.worker(&[]));
    api.knows("echo").await;
    let client = api.client().with_key(&api.key(&[]).await);
    let mut talk = Talk::open(&client).await;
    let (_, list) = api.command(&["keys", "list"]).await;
    let key = list.lines().last().unwrap().split(' ').next().unwrap();
    assert_eq!(api.command(&["keys", "revoke", key]).await.0, 0);
    eventually("the key to be of no use", LIMIT, async || {
        (client.get("/v1/jobs").await.ok()?.status.as_u16() == 401).then_some(())
    })
    .await;
    talk.say(json!({ "type": "submit", "kind": "echo", "job": { "input": 1 } })).await;
    assert_eq!(talk.0.next().await.unwrap_err().code(), 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_followed_on_another_api_than_they_were_handed_in_at() {
    const JOBS: usize = 20;
    let outside = Outside::on(RabbitNode::shared().await);
    let store = PostgresServer::shared().await.database().await;
    let settings = [("BUZZER_STORE", store.as_str())];
    let (one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
    let _worker = outside.worker(&[]);
    one.knows("demo.progress").await;
    other.knows("demo.progress").await;
    let (mut here, mut there) = (Talk::open(&one.client()).await, Talk::open(&other.client()).await);
    let mut next = HashMap::new();
    for _ in 0..JOBS {
        let job = json!({ "input": { "steps": 5, "seconds": 2 } });
        let id = here.ask(json!({ "type": "submit", "kind": "demo.progress", "job": job })).await["job"]["id"].clone();
        there.say(json!({ "type": "follow", "job_id": id })).await;
        next.insert(id.as_str().unwrap().to_owned(), 1);
    }
    let mut done = 0;
    let began = std::time::Instant::now();
    while done < JOBS {
        let frame = there.next().await;
        if frame["type"] == "event" {
            let event = &frame["event"];
            let seq = next.get_mut(event["job_id"].as_str().unwrap()).unwrap();
            assert_eq!(event["seq"], *seq, "{event}");
            *seq += 1;
            done += usize::from(event["data"]["done"] == true);
        }
    }
    // Words were heard: nobody waited for the look that is made in case one is lost.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

/// Its answers have their turn before it stops.
#[tokio::test(flavor = "multi_thread")]
async fn p11_commands_that_were_read_are_answered_before_the_end() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[]).await;
    let worker = outside.worker(&[]);
    api.knows("echo").await;
    let mut talk = Talk::open(&api.client()).await;
    let client = api.client();
    for n in 0..200 {
        let job = json!({ "input": n, "delay": "1h" });
        talk.0.feed(json!({ "type": "submit", "kind": "echo", "job": job }).to_string()).await;
    }
    talk.0.flush().await;
    talk.next().await;
    let (status, (answers, end)) = tokio::join!(api.process().terminate(), talk.0.rest());
    assert!(status.success() && end.code() == 1001, "{status} {end:?}");
    drop(worker);
    api.start_again().await;
    // The first was taken before.
    let stored = client.get("/v1/jobs?limit=500").await.unwrap().json()["items"].as_array().unwrap().len();
    assert_eq!(answers.len() + 1, stored, "each job that is stored was answered for");
}

/// It follows far more than it takes.
#[tokio::test(flavor = "multi_thread")]
async fn p8_who_reads_nothing_holds_little_and_is_cut_off() {
    const JOBS: usize = 150;
    let mut api = Outside::up(&[("BUZZER_MAX_STREAMS", "1")]).await;
    let client = api.client();
    let input = json!("x".repeat(500_000));
    let mut ids = Vec::new();
    for _ in 0..JOBS {
        let id = client.accepted("echo", &input).await;
        client.done(&id, LIMIT).await;
        ids.push(id);
    }
    let mut talk = Talk::open(&client).await;
    let before = memory_mib(api.process().id()).unwrap();
    // Answers of a megabyte each, and an event as large after each.
    for id in &ids {
        talk.0.feed(json!({ "type": "follow", "job_id": id }).to_string()).await;
    }
    talk.0.flush().await;
    let mut most = before;
    eventually("its place to be free", Duration::from_secs(90), async || {
        most = most.max(memory_mib(api.process().id()).unwrap());
        Socket::open(&client, "/v1/socket").await.ok()
    })
    .await;
    assert!(most - before < 40.0, "{before} MiB, and {most} MiB at most");
    // Nobody else noticed.
    client.done(&client.accepted("echo", &json!(1)).await, LIMIT).await;
}
