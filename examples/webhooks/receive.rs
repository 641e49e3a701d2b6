//! Takes Buzzer's webhooks, and believes those that are signed.
//!
//! ```text
//! BUZZER_WEBHOOK_SECRET=whsec_... cargo run -p buzzer-tests --bin receive
//! ```
//! In a program of your own: `cargo add axum standardwebhooks serde_json`, and tokio.

use std::env;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use standardwebhooks::Webhook;

#[tokio::main]
async fn main() -> Result<()> {
    let secret = env::var("BUZZER_WEBHOOK_SECRET").context("BUZZER_WEBHOOK_SECRET is not set")?;
    let webhook = Arc::new(Webhook::new(&secret).context("BUZZER_WEBHOOK_SECRET is no secret of a webhook")?);
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse::<u16>())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().fallback(post(receive)).with_state(webhook)).await?;
    Ok(())
}

/// `body` has the very bytes that came: read as JSON and written again, they would have another signature.
async fn receive(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if let Err(refusal) = webhook.verify(&body, &headers) {
        println!("refused: {refusal}");
        return StatusCode::BAD_REQUEST;
    }
    let Ok(event) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    // The same delivery may come again, under the same id: whoever must not act twice remembers it.
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    println!("{} {} {id}", text(&event["type"]), text(&event["data"]["job_id"]));
    StatusCode::NO_CONTENT
}
