//! Tickets, by which a browser looks on: what they open, for how long, and for whom.

use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::events::EventStream;
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::socket::Socket;
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// An API that asks for keys and logs all that it can, and a worker, whose kinds it knows.
async fn guarded() -> (Api, Service) {
    let outside = Outside::on(RabbitNode::shared().await);
    let (api, worker) = (outside.api(&[("BUZZER_AUTH", "keys"), ("BUZZER_LOG", "trace")]).await, outside.worker(&[]));
    api.knows("echo").await;
    (api, worker)
}

async fn owner(api: &Api, tenant: &str) -> Client {
    api.client().with_key(&api.key(&["--tenant", tenant]).await)
}

/// The text of a new ticket.
async fn ticket(owner: &Client, order: &Value) -> String {
    let answer = owner.send(owner.request(Method::POST, "/v1/tickets").json(order)).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

async fn status(client: &Client, path: &str) -> u16 {
    client.request(Method::GET, path).send().await.unwrap().status().as_u16()
}

async fn stream(client: &Client, path: &str) -> EventStream {
    EventStream::open(client.request(Method::GET, path)).await.unwrap().unwrap()
}

/// A job that waits for an hour.
async fn waiting(owner: &Client) -> String {
    let order = json!({ "input": 1, "delay": "1h" });
    let answer = owner.send(owner.request(Method::POST, "/v1/jobs/echo").json(&order)).await.unwrap();
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn cancel(owner: &Client, id: &str) {
    let answer = owner.send(owner.request(Method::POST, &format!("/v1/jobs/{id}/cancel"))).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn revoke(api: &Api, tenant: &str) {
    let (_, list) = api.command(&["keys", "list"]).await;
    let line = list.lines().find(|line| line.contains(tenant)).unwrap();
    assert_eq!(api.command(&["keys", "revoke", line.split(' ').next().unwrap()]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_what_the_document_says_and_nothing_else() {
    let (api, _worker) = guarded().await;
    let shop = api.client().with_key(&api.key(&["--tenant", "shop", "--scope", "operator"]).await);
    let job = shop.accepted("echo", &json!("soup")).await;
    shop.done(&job, LIMIT).await;
    let (ticket, page) = (ticket(&shop, &json!({ "lifetime": "10m" })).await, api.client());
    let document = page.get("/openapi.json").await.unwrap().json();
    let mut open = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/") {
            continue;
        }
        let address = path.replace("{job}", &job).replace("{kind}", "echo").replace("{id}", "0");
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            let request = page.request(method.to_uppercase().parse().unwrap(), &format!("{address}?ticket={ticket}"));
            // Not read to its end: a stream has none.
            let answer = request.send().await.unwrap();
            if operation["security"].as_array().unwrap().contains(&json!({ "ticket": [] })) {
                let let_in = if path == "/v1/socket" { 426 } else { 200 };
                assert_eq!(answer.status(), let_in, "{what}");
                open.push(what);
            } else {
                assert_eq!(
                    (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
                    (401, &"Bearer".parse().unwrap()),
                    "{what}"
                );
                let problem: Value = answer.json().await.unwrap();
                assert_eq!(problem["type"], "/problems/unauthorized", "{what}");
                assert!(problem["detail"].as_str().unwrap().starts_with("A ticket opens"), "{what}: {problem}");
            }
        }
    }
    assert_eq!(open, ["get /v1/events", "get /v1/jobs/{job}", "get /v1/jobs/{job}/events", "get /v1/socket"]);
    assert_eq!(shop.job(&job).await.unwrap()["output"], "soup", "nobody has deleted it");
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_ticket_shows_its_tenants_jobs_alone_and_is_written_down_nowhere() {
    let (mut api, _worker) = guarded().await;
    let (shop, bank) = (owner(&api, "shop").await, owner(&api, "bank").await);
    let (own, foreign) = (shop.accepted("echo", &json!("soup")).await, bank.accepted("echo", &json!(2)).await);
    shop.done(&own, LIMIT).await;
    bank.done(&foreign, LIMIT).await;
    let (ticket, page) = (ticket(&shop, &json!({ "lifetime": "10m" })).await, api.client());

    assert_eq!(status(&page, &format!("/v1/jobs/{own}?wait=1&ticket={ticket}")).await, 200);
    for path in ["", "/events"] {
        assert_eq!(status(&page, &format!("/v1/jobs/{foreign}{path}?ticket={ticket}")).await, 404, "{path}");
    }
    let order = json!({ "job_id": foreign });
    let answer = shop.send(shop.request(Method::POST, "/v1/tickets").json(&order)).await.unwrap();
    assert_eq!(answer.status, 404, "{}", answer.text);
    let mut feed = stream(&page, &format!("/v1/events?after=f0&ticket={ticket}")).await;
    for _ in 0..3 {
        assert_eq!(within("an event", LIMIT, feed.next()).await.unwrap().unwrap().event["job_id"], own);
    }
    // Nor is it, where what it asks for is wrong.
    for wrong in ["/v1/jobs/soup", "/v1/soup", "/v1/events"] {
        assert!(status(&page, &format!("{wrong}?soup=1&ticket={ticket}")).await >= 400, "{wrong}");
    }

    let secret = ticket.strip_prefix("bt_").unwrap();
    let log = api.process().log();
    assert!(log.contains("listening") && !log.contains(secret), "the log has it");
    let file = api.store().strip_prefix("sqlite:").unwrap().to_owned();
    // What moves from one file to the other meanwhile is in neither.
    eventually("what is stored to be found", LIMIT, async || {
        let stored = [std::fs::read(&file).ok()?, std::fs::read(format!("{file}-wal")).ok()?].concat();
        assert!(!stored.windows(secret.len()).any(|part| part == secret.as_bytes()), "the store has it");
        stored.windows(4).any(|part| part == b"soup").then_some(())
    })
    .await;
}

/// What has been let in may take longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_may_be_used_again_until_it_expires_and_a_stream_goes_on() {
    let (api, _worker) = guarded().await;
    let (shop, page) = (owner(&api, "shop").await, api.client());
    let job = waiting(&shop).await;
    let ticket = ticket(&shop, &json!({ "job_id": job, "lifetime": "8s" })).await;
    let path = format!("/v1/jobs/{job}/events?ticket={ticket}");
    drop(stream(&page, &path).await);
    let mut events = stream(&page, &path).await;
    assert_eq!(within("an event", LIMIT, events.next()).await.unwrap().unwrap().r#type, "job.accepted");

    eventually("the ticket to expire", LIMIT, async || (status(&page, &path).await == 401).then_some(())).await;
    let answer = page.get(&path).await.unwrap().json();
    assert_eq!(answer["type"], "/problems/unauthorized");
    assert!(answer["detail"].as_str().unwrap().contains("expired"), "{answer}");
    cancel(&shop, &job).await;
    assert_eq!(within("its end", LIMIT, events.next()).await.unwrap().unwrap().r#type, "job.canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_of_no_use_once_its_key_is_revoked_and_its_streams_end() {
    let (api, _worker) = guarded().await;
    let (shop, page) = (owner(&api, "shop").await, api.client());
    let job = waiting(&shop).await;
    let ticket = ticket(&shop, &json!({ "lifetime": "1h" })).await;
    let paths = [format!("/v1/events?ticket={ticket}"), format!("/v1/jobs/{job}/events?ticket={ticket}")];
    let mut streams = [stream(&page, &paths[0]).await, stream(&page, &paths[1]).await];
    let mut socket = Socket::open(&page, &format!("/v1/socket?ticket={ticket}")).await.unwrap();
    revoke(&api, "shop").await;
    for path in &paths {
        eventually("the ticket to be of no use", LIMIT, async || (status(&page, path).await == 401).then_some(()))
            .await;
    }
    for events in &mut streams {
        within("the end of a stream", LIMIT, async { while events.next().await.unwrap().is_some() {} }).await;
    }
    assert_eq!(within("the end of a socket", LIMIT, socket.next()).await.unwrap_err().code(), 1008);
}

/// Over a socket, whoever has a ticket looks on, and does nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_follows_jobs_over_a_socket_and_hands_none_in() {
    let (api, _worker) = guarded().await;
    let (shop, page) = (owner(&api, "shop").await, api.client());
    let (job, other) = (waiting(&shop).await, waiting(&shop).await);
    for (order, sees_other) in [(json!({}), true), (json!({ "job_id": job }), false)] {
        let ticket = ticket(&shop, &order).await;
        let mut socket = Socket::open(&page, &format!("/v1/socket?ticket={ticket}")).await.unwrap();
        let mut ask = async |command: Value| {
            socket.say(command.to_string()).await;
            socket.next().await.unwrap()
        };
        let order = json!({ "input": 1 });
        for command in
            [json!({ "type": "submit", "kind": "echo", "job": order }), json!({ "type": "cancel", "job_id": job })]
        {
            let refused = ask(command.clone()).await["problem"].take();
            assert_eq!((&refused["type"], &refused["status"]), (&json!("/problems/unauthorized"), &json!(401)));
            assert!(refused["detail"].as_str().unwrap().starts_with("A ticket opens"), "{command}: {refused}");
        }
        let answer = ask(json!({ "type": "follow", "job_id": other })).await;
        assert_eq!(answer["job"]["id"] == json!(other), sees_other, "{answer}");
        assert_eq!(answer["problem"]["type"] == "/problems/ticket-for-one-job", !sees_other, "{answer}");
        if sees_other {
            assert_eq!(socket.next().await.unwrap()["event"]["job_id"], json!(other));
            socket.say(json!({ "type": "unfollow", "job_id": other }).to_string()).await;
            assert_eq!(socket.next().await.unwrap(), json!({ "type": "answer", "job_id": other }));
        }
        socket.say(json!({ "type": "follow", "job_id": job, "after": 1 }).to_string()).await;
        assert_eq!(socket.next().await.unwrap()["job"]["state"], "scheduled", "nobody has canceled it");
        socket.close().await;
    }
    let listed = shop.get("/v1/jobs").await.unwrap().json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_on_every_replica_at_once() {
    let store = PostgresServer::shared().await.database().await;
    let outside = Outside::on(RabbitNode::shared().await);
    let settings = [("BUZZER_STORE", store.as_str()), ("BUZZER_AUTH", "keys")];
    let (one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
    let _worker = outside.worker(&[]);
    one.knows("echo").await;
    let shop = owner(&one, "shop").await;
    let job = waiting(&shop).await;
    let ticket = ticket(&shop, &json!({ "job_id": job, "lifetime": "10m" })).await;
    let mut events = stream(&other.client(), &format!("/v1/jobs/{job}/events?ticket={ticket}")).await;
    cancel(&shop, &job).await;
    let mut types = Vec::new();
    while let Some(shown) = within("an event", LIMIT, events.next()).await.unwrap() {
        types.push(shown.r#type);
    }
    assert_eq!(types, ["job.accepted", "job.canceled"]);
    assert_eq!(status(&other.client(), &format!("/v1/events?ticket={ticket}")).await, 403);
}

/// With keys, any name of the API is a good one.
#[tokio::test(flavor = "multi_thread")]
async fn with_keys_the_api_is_answered_under_any_name() {
    let (api, _worker) = guarded().await;
    let shop = owner(&api, "shop").await;
    let answer = shop.request(Method::GET, "/v1/jobs").header("host", "buzzer.example").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
