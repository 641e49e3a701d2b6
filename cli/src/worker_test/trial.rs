//! A worker that is tried, and what every row needs: requests, their outcomes, and the worker's end.

use std::time::Duration;

use buzzer_shared::id::{JobId, RunId, WorkerId};
use buzzer_shared::job::Priority;
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::message::{Announce, Control, Outcome, Request, RunResult};
use buzzer_shared::time::{Clock, SystemClock};
use bytes::Bytes;
use tokio::time::Instant;

use super::inputs::Inputs;
use super::stage::{Mark, NotSent, Stage, Word};
use super::worker::Worker;
use crate::report::Finding;

/// A copy that nobody has taken by then is dropped by the broker.
const EXPIRATION: Duration = Duration::from_secs(300);
/// So long a run may take in these tries, and no longer than its kind says.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A cancel is said again so often.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// The worker, and the API's part before it.
#[derive(Debug)]
pub struct Trial {
    pub stage: Stage,
    /// `None` where somebody else has started it.
    pub worker: Option<Worker>,
    pub inputs: Inputs,
    /// What it announced of the kind.
    pub spec: KindSpec,
    pub id: WorkerId,
    /// So long it is waited for anything.
    pub patience: Duration,
    /// A request that had come back twice before the worker was there, where it could be prepared.
    pub suspect: Option<Request>,
}

/// Why a row is not `ok`.
#[derive(Debug)]
pub enum Flaw {
    /// The worker does not do what it must.
    Failed(String),
    /// Not tried, and what it would take.
    Skipped(String),
}

impl From<NotSent> for Flaw {
    fn from(error: NotSent) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Flaw> for Finding {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Failed(text) => Finding::fail(text),
            Flaw::Skipped(text) => Finding::skip(text),
        }
    }
}

pub fn failed<T>(text: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Failed(text.into()))
}

/// A new request of a kind, as the API would send it.
pub fn request(spec: &KindSpec, input: Bytes) -> Request {
    Request {
        run: RunId { job: JobId::new(SystemClock.now()), dispatch: 1 },
        kind: spec.name.clone(),
        attempt: 1,
        priority: Priority::default(),
        timeout: spec.timeout.as_duration().min(TIMEOUT),
        expiration: EXPIRATION,
        expires_in: None,
        at_most_once: spec.delivery == DeliveryMode::AtMostOnce,
        alone: false,
        traceparent: None,
        input,
    }
}

impl Trial {
    pub fn good(&self) -> Result<Request, Flaw> {
        self.given(self.inputs.good.as_ref(), "give an --input, for the worker announces no example")
    }

    pub fn slow(&self) -> Result<Request, Flaw> {
        self.given(self.inputs.slow.as_ref(), "give a --slow-input, which takes a minute or more")
    }

    pub fn failing(&self) -> Result<Request, Flaw> {
        self.given(self.inputs.failing.as_ref(), "give a --failing-input, with which two attempts fail")
    }

    pub fn big(&self) -> Result<Request, Flaw> {
        self.given(
            self.inputs.big.as_ref(),
            "give a --big-input, for the example has no text that could be made longer",
        )
    }

    fn given(&self, input: Option<&Bytes>, otherwise: &str) -> Result<Request, Flaw> {
        let input = input.ok_or_else(|| Flaw::Skipped(otherwise.into()))?;
        Ok(request(&self.spec, input.clone()))
    }

    /// The process, where this command has started it.
    pub fn process(&mut self) -> Result<&mut Worker, Flaw> {
        let skipped = || Flaw::Skipped("name the worker's own command behind --, so that it can be killed".into());
        self.worker.as_mut().ok_or_else(skipped)
    }

    /// Sends a request, and waits until the worker says in some way that it has it. Where the words about it begin.
    pub async fn begin(&mut self, request: &Request) -> Result<Mark, Flaw> {
        let mark = self.stage.mark();
        self.stage.send(request).await?;
        let (run, patience) = (request.run, self.patience);
        let running = self.stage.hear(mark, patience, |word| tells_of(word, run).then_some(()));
        match running.await {
            Some(()) => Ok(mark),
            None => failed(format!("no signal, beat or outcome tells of a request after {patience:?}")),
        }
    }

    /// The outcome of a run.
    pub async fn outcome(&mut self, mark: Mark, run: RunId) -> Result<Outcome, Flaw> {
        let outcome = self.outcome_within(self.patience, mark, run).await;
        outcome.ok_or_else(|| self.no_outcome())
    }

    async fn outcome_within(&mut self, limit: Duration, mark: Mark, run: RunId) -> Option<Outcome> {
        let outcome = self.stage.hear(mark, limit, |word| match word {
            Word::Outcome(outcome) if outcome.run == run => Some(outcome.clone()),
            _ => None,
        });
        outcome.await
    }

    fn no_outcome(&mut self) -> Flaw {
        let complaint = self.stage.complaint().map(|why| format!("; {why}")).unwrap_or_default();
        let ended = self.worker.as_mut().and_then(Worker::ended);
        let ended = ended.map(|status| format!(": the worker ended, {status}")).unwrap_or_default();
        Flaw::Failed(format!("no outcome came within {:?}{ended}{complaint}", self.patience))
    }

    /// Runs the good input: the worker is as well as before.
    pub async fn still_works(&mut self) -> Result<Outcome, Flaw> {
        let (request, mark) = (self.good()?, self.stage.mark());
        self.stage.send(&request).await?;
        let outcome = self.outcome(mark, request.run).await?;
        match &outcome.result {
            RunResult::Succeeded(_) => Ok(outcome),
            other => failed(format!("the good input, sent afterwards, ended {}", words(other))),
        }
    }

    /// Stops a run that goes on, and waits for its outcome. Says so again and again, as the API does.
    pub async fn end(&mut self, mark: Mark, run: RunId) -> Result<Outcome, Flaw> {
        let until = Instant::now() + self.patience;
        while Instant::now() < until {
            self.stage.say(&Control::Cancel { runs: vec![run] }).await?;
            if let Some(outcome) = self.outcome_within(SAY_AGAIN, mark, run).await {
                return Ok(outcome);
            }
        }
        Err(self.no_outcome())
    }

    /// Waits until the worker holds nothing any more. What it holds is canceled: a worker that was just started may not
    /// have heard that before.
    pub async fn idle(&mut self) -> Result<(), Flaw> {
        let (id, patience) = (self.id, self.patience);
        let (mut mark, until, mut held) = (self.stage.mark(), Instant::now() + patience, 0);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let beat = self.stage.hear(mark, left, |word| match word {
                Word::Beat(beat) if beat.worker == id => Some(beat.held.clone()),
                _ => None,
            });
            let Some(runs) = beat.await else { break };
            if runs.is_empty() {
                return Ok(());
            }
            held = runs.len();
            self.stage.say(&Control::Cancel { runs }).await?;
            mark = self.stage.mark();
        }
        failed(format!("for {patience:?} no beat said that it holds nothing; the last named {held} runs"))
    }

    /// Starts the worker once more, and waits until it has announced itself as another. What else was sent before and comes
    /// again now is canceled, but for `kept`.
    pub async fn start_again(&mut self, kept: Option<RunId>) -> Result<(), Flaw> {
        let mark = self.stage.mark();
        self.process()?.start().map_err(|error| Flaw::Failed(format!("it cannot be started again: {error}")))?;
        let (before, kind, patience) = (self.id, self.spec.name.clone(), self.patience);
        let announced = self.stage.hear(mark, patience, |word| match word {
            Word::Announce(announce) if announce.worker != before && announces(announce, &kind) => {
                Some(announce.worker)
            }
            _ => None,
        });
        match announced.await {
            Some(id) => {
                self.id = id;
                let runs = self.stage.sent().filter(|run| Some(*run) != kept).collect();
                Ok(self.stage.say(&Control::Cancel { runs }).await?)
            }
            None => failed(format!(
                "started again, it did not announce itself within {patience:?} with an id that it had not before"
            )),
        }
    }
}

/// Whether a worker says that it runs this kind.
pub fn announces(announce: &Announce, kind: &buzzer_shared::kind::Kind) -> bool {
    announce.kinds.iter().any(|spec| spec.name == *kind)
}

/// Whether this word shows that a worker has the run.
pub fn tells_of(word: &Word, run: RunId) -> bool {
    word.run() == Some(run) || matches!(word, Word::Beat(beat) if beat.held.contains(&run))
}

/// Whether this worker says that it has the run. What another had said before it ended may arrive late.
pub fn is_told_by(worker: WorkerId, word: &Word, run: RunId) -> bool {
    word.worker() == Some(worker) && tells_of(word, run)
}

/// A result in words that fit behind "it ended".
pub fn words(result: &RunResult) -> String {
    match result {
        RunResult::Succeeded(_) => "succeeded".into(),
        RunResult::Failed { problem, .. } => {
            let detail = problem.detail.as_deref().unwrap_or(&problem.title);
            format!("failed, {}: {detail}", problem.r#type)
        }
        RunResult::Canceled => "canceled".into(),
        RunResult::Returned(reason) => format!("returned, {}", reason.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::message::{Beat, Started};

    use super::*;

    #[test]
    fn what_a_killed_worker_had_said_is_not_the_word_of_the_next() {
        let now = SystemClock.now();
        let run = RunId { job: JobId::new(now), dispatch: 1 };
        let (killed, next) = (WorkerId::new(now), WorkerId::new(now));
        let beat = Word::Beat(Beat { worker: killed, held: vec![run], leaving: false });
        let started = Word::Started(Started { run, worker: killed, at: now, charged: true });
        for word in [beat, started] {
            assert!(tells_of(&word, run), "{word:?}");
            assert!(is_told_by(killed, &word, run), "{word:?}");
            assert!(!is_told_by(next, &word, run), "{word:?}");
        }
    }
}
