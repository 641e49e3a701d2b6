//! The HTTP contract: what a client sends, and what it has in return.

mod bounds;
mod cancel;
mod contracts;
mod delete;
mod events;
mod feed;
mod get;
mod key;
mod kinds;
mod list;
mod problem;
mod retry;
mod run;
mod submit;
mod ticket;
mod turn;
mod wait;

use std::time::Duration;

use buzzer_tests::inside::{Answer, Inside};
use buzzer_tests::wait::eventually;
use reqwest::Method;

/// For what takes a moment, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn address(buzzer: &Inside) -> String {
    let request = buzzer.request(Method::GET, "/").build().unwrap();
    format!("127.0.0.1:{}", request.url().port().unwrap())
}

/// Ends once the job is in this state.
async fn is_in(buzzer: &Inside, this: &str, state: &str) {
    let look = async || (buzzer.get(this).await.json()["state"] == state).then_some(());
    eventually(&format!("{this} to be {state}"), SOON, look).await;
}

fn is_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!(answer.status.as_u16(), status, "{slug}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && !problem["detail"].as_str().unwrap().is_empty(), "{problem}");
}
