use std::time::Duration;

use buzzer_shared::time::Time;
use buzzer_tests::events::EventStream;
use buzzer_tests::inside::{Answer, Inside};
use buzzer_tests::wait::within;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{SOON, is_problem};

const NOBODYS: &str = "019ab4a6-2c00-7000-8000-000000000000";

async fn ask(buzzer: &Inside, order: &Value) -> Answer {
    buzzer.send(buzzer.request(Method::POST, "/v1/tickets").json(order)).await
}

/// The text of a new ticket.
async fn ticket(buzzer: &Inside, order: &Value) -> String {
    let answer = ask(buzzer, order).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_says_what_it_opens_and_until_when_and_is_kept_by_no_cache() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("echo", r#"{"input": 1}"#).await;
    let minutes = |view: &Value, from: i64| {
        let until: Time = serde_json::from_value(view["expires_at"].clone()).unwrap();
        (until.as_millis() - from + 30_000) / 60_000
    };
    let before: Time = serde_json::from_value(job["finished_at"].clone()).unwrap();
    let plain = buzzer.send(buzzer.request(Method::POST, "/v1/tickets")).await;
    assert_eq!((plain.status.as_u16(), plain.header("cache-control")), (201, "no-store"), "without a body");
    let view = plain.json();
    assert!(view["ticket"].as_str().unwrap().starts_with("bt_") && view["job_id"].is_null(), "{view}");
    assert_eq!(minutes(&view, before.as_millis()), 1, "{view}");
    let view = ask(&buzzer, &json!({ "job_id": job["id"], "lifetime": "1h" })).await.json();
    assert_eq!((&view["job_id"], minutes(&view, before.as_millis())), (&job["id"], 60), "{view}");
}

#[tokio::test]
async fn a_ticket_for_what_cannot_be_is_a_problem() {
    let buzzer = Inside::start().await;
    for (order, slug, status) in [
        (json!({ "lifetime": "0s" }), "invalid-request", 422),
        (json!({ "lifetime": "61m" }), "invalid-request", 422),
        (json!({ "lifetime": 60 }), "invalid-request", 422),
        (json!({ "job_id": "soup" }), "invalid-request", 422),
        (json!({ "tenant": "other" }), "invalid-request", 422),
        (json!({ "job_id": NOBODYS }), "unknown-job", 404),
    ] {
        let answer = ask(&buzzer, &order).await;
        is_problem(&answer, status, slug);
    }
    let answer = ask(&buzzer, &json!({ "lifetime": "2h" })).await;
    assert_eq!(answer.json()["errors"][0]["pointer"], "/lifetime", "{}", answer.text);
}

#[tokio::test]
async fn without_keys_a_ticket_opens_the_same() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("echo", r#"{"input": "soup"}"#).await;
    let (this, other) = (job["id"].as_str().unwrap(), buzzer.run("echo", r#"{"input": 2}"#).await);
    let all = ticket(&buzzer, &json!({})).await;
    let one = ticket(&buzzer, &json!({ "job_id": this })).await;
    for ticket in [&all, &one] {
        let view = buzzer.get(&format!("/v1/jobs/{this}?ticket={ticket}")).await;
        assert_eq!((view.status.as_u16(), &view.json()["output"]), (200, &json!("soup")), "{}", view.text);
        let request = buzzer.request(Method::GET, &format!("/v1/jobs/{this}/events?after=1&ticket={ticket}"));
        let shown =
            within("its events", SOON, EventStream::open(request).await.unwrap().unwrap().rest()).await.unwrap();
        assert_eq!(shown.iter().map(|shown| shown.id.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    }
    let feed = buzzer.request(Method::GET, &format!("/v1/events?ticket={all}&after=f0"));
    let mut feed = EventStream::open(feed).await.unwrap().unwrap();
    assert_eq!(within("an event", SOON, feed.next()).await.unwrap().unwrap().event["job_id"], this);

    let others = format!("/v1/jobs/{}", other["id"].as_str().unwrap());
    for path in [others.clone(), format!("{others}/events"), format!("/v1/jobs/{NOBODYS}"), "/v1/events".into()] {
        let answer = buzzer.get(&format!("{path}?ticket={one}")).await;
        is_problem(&answer, 403, "ticket-for-one-job");
        assert!(answer.json()["detail"].as_str().unwrap().contains(this), "{}", answer.text);
    }
}

#[tokio::test]
async fn what_is_no_good_ticket_is_refused_and_not_repeated() {
    let buzzer = Inside::start().await;
    let good = ticket(&buzzer, &json!({})).await;
    let unknown = format!("bt_{}", "A".repeat(43));
    for bad in [&unknown, "bt_x", "soup", &good[..40], &format!("{good}A")] {
        let answer = buzzer.get(&format!("/v1/events?ticket={bad}")).await;
        is_problem(&answer, 401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        assert!(!answer.text.contains(bad), "{}", answer.text);
    }
    let both = buzzer.request(Method::GET, &format!("/v1/events?ticket={good}")).bearer_auth("bz_x");
    is_problem(&buzzer.send(both).await, 400, "bad-query");
    is_problem(&buzzer.get(&format!("/v1/events?ticket={good}&ticket={good}")).await, 400, "bad-query");
    assert_eq!(buzzer.get("/v1/jobs/not-an-id?ticket=").await.status, 400, "an empty one is none");
}

/// Each is a row in the store.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_thousand_tickets_are_good_at_a_time() {
    let buzzer = Inside::start().await;
    let all = join_all((0..1005).map(async |_| ask(&buzzer, &json!({ "lifetime": "50m" })).await)).await;
    let refused: Vec<_> = all.iter().filter(|answer| answer.status != 201).collect();
    assert_eq!(refused.len(), 5);
    for answer in refused {
        is_problem(answer, 429, "too-many-tickets");
        assert_eq!(answer.json()["limit"], 1000);
        let again: u64 = answer.header("retry-after").parse().unwrap();
        assert!((Duration::from_secs(49 * 60).as_secs()..=50 * 60).contains(&again), "{again}");
    }
}

/// A page of the web that lets its own name lead to this machine is refused, whatever it asks for.
#[tokio::test]
async fn without_keys_only_names_of_this_machine_are_answered() {
    let buzzer = Inside::start().await;
    let answer = async |host: &str, method: Method, path: &str| {
        buzzer.send(buzzer.request(method, path).header("host", host)).await
    };
    for host in ["localhost:8080", "127.0.0.1", "[::1]:80", "buzzer.localhost"] {
        assert_eq!(answer(host, Method::GET, "/v1/jobs").await.status, 200, "{host}");
    }
    for path in ["/v1/jobs", "/v1/events", "/openapi.json", "/livez", "/nowhere"] {
        is_problem(&answer("attacker.example:8080", Method::GET, path).await, 403, "host-not-allowed");
    }
    let submission = buzzer.submission("echo", r#"{"input": 1}"#).header("host", "attacker.example");
    is_problem(&buzzer.send(submission).await, 403, "host-not-allowed");
    assert_eq!(buzzer.count().await, 0);
    assert_eq!(answer("localhost", Method::GET, "/problems/host-not-allowed").await.status, 200);
}
