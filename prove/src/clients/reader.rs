//! Those who read events, and come back wherever they were cut off.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use sse_stream::SseByteStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::door::Door;
use crate::ledger::{Entry, Ledger};

/// Who hears nothing for so long looks whether another API tells more.
const QUIET: Duration = Duration::from_secs(4);
/// How soon who was cut off comes back.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest that a reader stays without a break.
const STAYS: u64 = 8_000;

/// What is wanted of an event.
#[derive(Debug, Deserialize)]
struct Event {
    job_id: String,
    seq: u64,
    r#type: String,
}

/// How one visit ended.
#[derive(Debug, PartialEq, Eq)]
enum Visit {
    /// Cut off, refused, or quiet for too long.
    Over,
    /// There will be nothing more.
    Ended,
}

/// Reads the whole feed from its beginning, with many breaks, until `enough` says how many events there are and it has
/// seen them, or nothing new came for `patience` then.
pub async fn read_feed(
    reader: usize,
    (door, ledger): (Arc<Door>, Arc<Ledger>),
    mut enough: watch::Receiver<Option<usize>>,
    patience: Duration,
) {
    ledger.write(Entry::Reads { reader });
    let mut last = "f0".to_owned();
    let (mut seen, mut news) = (0, Instant::now());
    let path = door.own("/v1/events");
    loop {
        let known = *enough.borrow_and_update();
        if known.is_some_and(|all| seen >= all || news.elapsed() > patience) {
            return;
        }
        let before = seen;
        let stay = Duration::from_millis(fastrand::u64(STAYS / 8..STAYS));
        let api = door.any();
        let visit = visit(&door, (api, &path), &mut last, |id, event| {
            let feed = id.strip_prefix('f').and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
            let Event { job_id: job, seq, r#type: event } = event;
            ledger.write(Entry::Fed { reader, feed, job, seq, event });
            seen += 1;
        });
        // Whoever learns that it is enough need not stay.
        tokio::select! {
            _ = timeout(stay, visit) => {}
            changed = enough.changed() => if changed.is_err() { return },
        }
        if seen > before {
            news = Instant::now();
        }
        sleep(AGAIN).await;
    }
}

/// Follows one job to its end, across everything.
pub async fn follow(door: &Door, ledger: &Ledger, id: &str, until: Instant) {
    let path = format!("/v1/jobs/{id}/events");
    let mut last = "0".to_owned();
    while Instant::now() < until {
        let note = |_: &str, event: Event| {
            let Event { job_id: job, seq, r#type: event } = event;
            ledger.write(Entry::Streamed { job, seq, event });
        };
        if visit(door, (door.any(), &path), &mut last, note).await == Visit::Ended {
            ledger.write(Entry::Followed { job: id.into() });
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Reads until the stream is cut, quiet, or at its end. `last` is where it goes on the next time.
async fn visit(door: &Door, (api, path): (usize, &str), last: &mut String, mut note: impl FnMut(&str, Event)) -> Visit {
    let Ok(Ok(response)) = timeout(QUIET, door.stream(api, path, Some(last)).send()).await else { return Visit::Over };
    match response.status().as_u16() {
        200 => {}
        204 => return Visit::Ended,
        _ => return Visit::Over,
    }
    let mut blocks = SseByteStream::new(response.bytes_stream().boxed());
    while let Ok(Some(Ok(block))) = timeout(QUIET, blocks.next()).await {
        if let (Some(id), Some(data)) = (&block.id, &block.data) {
            // What cannot be read would be missing in the ledger, and found there.
            if let Ok(event) = serde_json::from_str(data) {
                note(id, event);
            }
        }
        if let Some(id) = block.id {
            *last = id;
        }
    }
    Visit::Over
}
