//! What goes over a WebSocket, who may open one, and how it ends.

mod events;
mod example;
mod many;

use std::time::Duration;

use buzzer_tests::client::{Answer, Client};
use buzzer_tests::socket::Socket;
use reqwest::{Method, RequestBuilder};

const LIMIT: Duration = Duration::from_secs(60);
/// As many bytes as a key has, in base64: those of the RFC.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

async fn socket(client: &Client, path: &str) -> Socket {
    Socket::open(client, path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A request for a socket as a client without a library for that makes it.
fn upgrade(client: &Client, path: &str) -> RequestBuilder {
    let request = client.request(Method::GET, path).header("connection", "keep-alive, Upgrade");
    request.header("upgrade", "WebSocket").header("sec-websocket-version", "13").header("sec-websocket-key", KEY)
}

fn is_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!((answer.status.as_u16(), &answer.json()["type"]), (status, &format!("/problems/{slug}").into()));
}
