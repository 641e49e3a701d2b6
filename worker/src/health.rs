//! Whether a worker is of use, for whoever restarts it: `/livez`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use buzzer_shared::broker::Line;
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::Kind;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::held::Held;

/// A worker that gets no requests for so long says that it is not well. Shorter troubles pass by themselves: the
/// broker restarts, or the API has not declared a queue yet.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a worker is. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    worker: WorkerId,
    line: watch::Receiver<Line>,
    attached: Vec<(Kind, watch::Receiver<bool>)>,
    held: Held,
    /// Since when not all is well.
    trouble: Mutex<Option<Instant>>,
}

/// What `/livez` answers.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    status: Status,
    worker: WorkerId,
    line: String,
    /// Whether requests of a kind can come.
    kinds: BTreeMap<Kind, bool>,
    /// How many requests the worker holds.
    held: usize,
    /// For how long not all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Not all is well, but it may pass.
    Degraded,
    /// It does not pass.
    Failing,
}

impl Health {
    pub(crate) fn new(
        worker: WorkerId,
        line: watch::Receiver<Line>,
        attached: Vec<(Kind, watch::Receiver<bool>)>,
        held: Held,
    ) -> Self {
        Self(Arc::new(Inner { worker, line, attached, held, trouble: Mutex::new(None) }))
    }

    /// Looks how things are at `now`. To be called now and then, so that it is known since when they are bad.
    pub(crate) fn look(&self, now: Instant) -> Report {
        let line = self.0.line.borrow().clone();
        let kinds: BTreeMap<_, _> =
            self.0.attached.iter().map(|(kind, attached)| (kind.clone(), *attached.borrow())).collect();
        let well = line == Line::Up && kinds.values().all(|attached| *attached);
        let mut trouble = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = if well { None } else { trouble.or(Some(now)) };
        let lasted = trouble.map(|since| now.saturating_duration_since(since));
        Report {
            status: judge(lasted),
            worker: self.0.worker,
            line: describe(&line),
            kinds,
            held: self.0.held.len(),
            trouble_seconds: lasted.map(|lasted| lasted.as_secs()),
        }
    }

    /// Answers `/livez` until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new().route("/livez", get(livez)).with_state(self);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "/livez is answered no longer");
        }
    }
}

async fn livez(State(health): State<Health>) -> (StatusCode, Json<Report>) {
    let report = health.look(Instant::now());
    let status = if report.status == Status::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report))
}

fn judge(trouble: Option<Duration>) -> Status {
    match trouble {
        None => Status::Ok,
        Some(lasted) if lasted < PATIENCE => Status::Degraded,
        Some(_) => Status::Failing,
    }
}

fn describe(line: &Line) -> String {
    match line {
        Line::Up => "up".into(),
        Line::Blocked(reason) => format!("blocked: {reason}"),
        Line::Away(reason) => format!("away: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buzzer_shared::time::Time;

    #[test]
    fn trouble_is_failure_only_when_it_lasts() {
        let (line, seen_line) = watch::channel(Line::Up);
        let (attached, seen_attached) = watch::channel(true);
        let kinds = vec![("echo".parse().unwrap(), seen_attached)];
        let health = Health::new(WorkerId::new(Time::from_millis(1)), seen_line, kinds, Held::default());
        let start = Instant::now();
        assert_eq!(health.look(start).status, Status::Ok);

        line.send(Line::Away("cable cut".into())).unwrap();
        attached.send(false).unwrap();
        assert_eq!(health.look(start + Duration::from_secs(10)).status, Status::Degraded);
        let late = health.look(start + Duration::from_secs(10) + PATIENCE);
        assert_eq!((late.status, late.line.as_str()), (Status::Failing, "away: cable cut"));

        line.send(Line::Up).unwrap();
        attached.send(true).unwrap();
        assert_eq!(health.look(start + 2 * PATIENCE).status, Status::Ok);
        attached.send(false).unwrap();
        assert_eq!(health.look(start + 3 * PATIENCE).trouble_seconds, Some(0));
    }

    #[tokio::test]
    async fn livez_tells_what_is_wrong() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (_line, seen_line) = watch::channel(Line::Blocked("low on disk".into()));
        let (_attached, seen_attached) = watch::channel(false);
        let kinds = vec![("echo".parse().unwrap(), seen_attached)];
        let health = Health::new(WorkerId::new(Time::from_millis(1)), seen_line, kinds, Held::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(health.clone().serve(listener, stop.clone()));
        let ask = async || {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(r#""line":"blocked: low on disk","kinds":{"echo":false}"#), "{answer}");

        *health.0.trouble.lock().unwrap() = Instant::now().checked_sub(PATIENCE);
        let answer = ask().await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("failing"), "{answer}");
        stop.cancel();
        serving.await.unwrap();
    }
}
