//! Somebody who is told by webhooks: a real HTTP server that remembers what came, and behaves as a test wants.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use buzzer_shared::time::{Clock, SystemClock, Time};
use futures_util::stream;
use reqwest::StatusCode;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::conformance;
use crate::wait::eventually;

/// Receivers take nothing that was signed more seconds ago.
const TOLERANCE: i64 = 300;

/// A server that takes webhooks. Ends with the test's runtime.
#[derive(Debug, Clone)]
pub struct Sink {
    address: SocketAddr,
    memory: Arc<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    heard: Mutex<Vec<Heard>>,
    /// By path; `200` where nothing is said.
    manners: Mutex<HashMap<String, Manner>>,
}

/// How a path answers.
#[derive(Debug, Clone)]
pub enum Manner {
    Status(u16),
    /// With a `Retry-After` of so many seconds.
    Busy(u16, u64),
    /// `200`, with this body.
    Says(String),
    /// `200`, and a body without end.
    Endless,
    /// `307` to there.
    Redirects(String),
    /// Takes the request and never answers.
    Hangs,
}

/// What came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub at: Instant,
    received: Time,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Heard {
    /// # Panics
    /// When there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("a text")
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn is_as_the_document_has_it(&self) {
        // Who has not asked any API of this process for a document has none to look at it by.
        let Some(document) = conformance::any() else { return };
        let checked = document.check_post(&self.headers, &self.json());
        checked.unwrap_or_else(|deviation| panic!("not as the document has it: {deviation}"));
    }

    /// Whether the specification's own library takes it for genuine now.
    pub fn verifies_with(&self, secret: &str) -> bool {
        Webhook::new(secret).expect("a secret").verify(&self.body, &self.headers).is_ok()
    }

    /// Whether one of its signatures is made with this secret, and it was fresh when it came.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let timestamp: i64 = self.header("webhook-timestamp").parse().expect("a number");
        let signed = Webhook::new(secret).expect("a secret").sign(self.id(), timestamp, &self.body).expect("a text");
        let age = self.received.as_millis() / 1000 - timestamp;
        age.abs() < TOLERANCE && self.header("webhook-signature").split(' ').any(|own| own == signed)
    }
}

impl Sink {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let memory = Arc::new(Memory::default());
        let app = Router::new().fallback(take).with_state(Arc::clone(&memory));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, memory }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on, a path answers so.
    pub fn behaves(&self, path: &str, manner: Manner) {
        lock(&self.memory.manners).insert(path.into(), manner);
    }

    /// All that came to a path so far.
    ///
    /// # Panics
    /// When one of them is a webhook's, and not as the document has it.
    pub fn heard(&self, path: &str) -> Vec<Heard> {
        let heard: Vec<_> = lock(&self.memory.heard).iter().filter(|heard| heard.path == path).cloned().collect();
        heard
            .iter()
            .filter(|heard| heard.headers.contains_key("webhook-id"))
            .for_each(Heard::is_as_the_document_has_it);
        heard
    }

    /// The same, once there are so many.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn hears(&self, path: &str, count: usize, limit: Duration) -> Vec<Heard> {
        eventually(&format!("{count} POSTs to {path}"), limit, async || {
            let heard = self.heard(path);
            (heard.len() >= count).then_some(heard)
        })
        .await
    }

    /// All that came, to whatever path.
    pub fn everything(&self) -> Vec<Heard> {
        lock(&self.memory.heard).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(State(memory): State<Arc<Memory>>, request: Request) -> Response {
    let (at, path, headers) = (Instant::now(), request.uri().path().to_owned(), request.headers().clone());
    let Ok(body) = axum::body::to_bytes(request.into_body(), usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let manner = lock(&memory.manners).get(&path).cloned().unwrap_or(Manner::Status(200));
    lock(&memory.heard).push(Heard { at, received: SystemClock.now(), path, headers, body });
    let status = |status| StatusCode::from_u16(status).expect("a status");
    match manner {
        Manner::Status(code) => status(code).into_response(),
        Manner::Busy(code, seconds) => (status(code), [("retry-after", seconds.to_string())]).into_response(),
        Manner::Says(text) => text.into_response(),
        Manner::Endless => {
            let chunks = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 512])));
            Body::from_stream(chunks).into_response()
        }
        Manner::Redirects(to) => (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response(),
        Manner::Hangs => std::future::pending().await,
    }
}

/// A server that speaks no proper HTTP, and counts who comes.
#[derive(Debug)]
pub struct Rude {
    pub url: String,
    calls: Arc<AtomicUsize>,
}

impl Rude {
    /// Takes the request, and closes the line.
    pub async fn that_closes() -> Self {
        Self::start(false).await
    }

    /// Begins an answer, and goes on with it byte by byte, for ever.
    pub async fn that_drips() -> Self {
        Self::start(true).await
    }

    async fn start(drips: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let mut going = drips && stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.is_ok();
                    while going {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        going = stream.write_all(b"x").await.is_ok();
                    }
                });
            }
        });
        Self { url, calls }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}
