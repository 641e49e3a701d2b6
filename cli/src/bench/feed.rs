use std::pin::pin;
use std::time::Duration;

use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
use tokio::sync::Notify;

use super::connection;
use super::target::{Target, busy_for};
use crate::client::{ClientError, root_cause};

/// How soon a feed that was cut is asked for again.
const COME_BACK: Duration = Duration::from_secs(1);

/// The jobs of a kind that come to one end, as they come to it.
#[derive(Debug)]
pub struct Feed<'a> {
    target: &'a Target,
    kind: &'a Kind,
    state: State,
    /// From where it goes on when it is cut.
    last: Option<String>,
}

/// What is wanted of an event.
#[derive(Debug, Deserialize)]
struct Event {
    job_id: JobId,
}

impl<'a> Feed<'a> {
    pub fn new(target: &'a Target, kind: &'a Kind, state: State) -> Self {
        Self { target, kind, state, last: None }
    }

    /// Tells of each job, until the server refuses. `opened` is told once: every job handed in from then on is told of.
    /// A feed that is cut goes on where it was.
    pub async fn follow(mut self, opened: &Notify, mut tell: impl FnMut(JobId)) -> ClientError {
        loop {
            match self.read(opened, &mut tell).await {
                // A server that was never there is not waited for.
                Err(error) if self.last.is_none() || !error.is_passing() => return error,
                _ => tokio::time::sleep(COME_BACK).await,
            }
        }
    }

    /// Reads until the feed is cut, or the server is busy.
    async fn read(&mut self, opened: &Notify, tell: &mut impl FnMut(JobId)) -> Result<(), ClientError> {
        let target = self.target;
        let request = target.feed(self.kind, self.state, self.last.as_deref())?;
        let cut = |error: hyper::Error| target.unreachable(root_cause(&error));
        let (mut sender, line) = connection::open(target).await?;
        let mut reading = pin!(async {
            let (head, body) = sender.send_request(request).await.map_err(cut)?.into_parts();
            if let Some(pause) = busy_for(&head) {
                tokio::time::sleep(pause).await;
                return Ok(());
            }
            if !head.status.is_success() {
                return Err(target.refusal(&head, &body.collect().await.map_err(cut)?.to_bytes()));
            }
            let mut blocks = SseByteStream::new(body.into_data_stream());
            while let Some(block) = blocks.next().await {
                let block = block.map_err(|error| target.unreachable(root_cause(&error)))?;
                self.take(block, opened, tell)?;
            }
            Ok(())
        });
        tokio::select! {
            biased;
            read = &mut reading => read,
            _ = line => reading.await,
        }
    }

    fn take(&mut self, block: Sse, opened: &Notify, tell: &mut impl FnMut(JobId)) -> Result<(), ClientError> {
        // What has no data is no event, but the beginning, or a sign of life.
        if let Some(json) = &block.data {
            let Event { job_id } =
                serde_json::from_str(json).map_err(|error| self.target.strange(error.to_string()))?;
            tell(job_id);
        }
        if let Some(id) = block.id
            && self.last.replace(id).is_none()
        {
            opened.notify_one();
        }
        Ok(())
    }
}
