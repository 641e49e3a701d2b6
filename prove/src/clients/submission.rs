//! One job: handed in as its work says, and what its client does then.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::door::{Answer, Door, Question};
use super::reader;
use crate::ledger::{Entry, Ledger, Number};
use crate::work::{self, Way, Work};

/// How soon is asked again what was not answered.
const AGAIN: Duration = Duration::from_millis(250);
/// After so long without an answer a client gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an answer may be held.
const WAIT: u32 = 10;
/// Refusals that mean: nothing was stored.
const BUSY: [&str; 2] = ["/problems/too-many-waiting", "/problems/store-full"];

/// A client with one job.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    pub door: &'a Door,
    pub ledger: &'a Ledger,
    pub n: Number,
}

/// What an answer to a submission means.
#[derive(Debug, PartialEq)]
enum Meaning {
    Taken { id: String },
    Refused { busy: bool },
    Open,
}

impl Submission<'_> {
    /// Hands the job in and does what its way says.
    pub async fn run(self, work: &Work) {
        let (kind, input) = (work.kind.to_owned(), work.input.clone());
        self.ledger.write(Entry::Asked { n: self.n, kind, input });
        let mut body = work.body();
        self.door.mark(&mut body, self.n);
        let path = format!("/v1/jobs/{}", work.kind);
        let once = Question { path: &path, body: Some(&body), ..Question::default() };
        let key = format!("prove-{}-{}", self.door.campaign(), self.n);
        let keyed = Question { key: Some(&key), ..once.clone() };
        match work.way {
            Way::Plain => self.hand_in(&once).await,
            Way::Waiting => self.hand_in(&Question { wait: Some(WAIT), ..once }).await,
            Way::Keyed => {
                self.until_taken(&keyed).await;
            }
            Way::Racing(count) => {
                join_all((0..count).map(|_| self.until_taken(&keyed))).await;
            }
            Way::Contradicting => {
                if self.until_taken(&keyed).await.is_some() {
                    self.contradict(&keyed, &work::contradiction(&body)).await;
                }
            }
            Way::Canceled(after) => {
                if let Some(id) = self.until_taken(&keyed).await {
                    sleep(after).await;
                    tokio::join!(self.cancel(&id), self.cancel(&id));
                }
            }
            Way::Followed => {
                if let Some(id) = self.until_taken(&keyed).await {
                    reader::follow(self.door, self.ledger, &id, Instant::now() + PATIENCE).await;
                }
            }
        }
    }

    async fn hand_in(&self, question: &Question<'_>) {
        let answer = self.door.ask(self.door.any(), Method::POST, question).await;
        self.note(answer);
    }

    /// Asks until there is an answer that is one: the key makes that safe.
    async fn until_taken(&self, question: &Question<'_>) -> Option<String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.note(self.door.ask(self.door.any(), Method::POST, question).await) {
                Meaning::Taken { id } => return Some(id),
                Meaning::Refused { busy: false } => return None,
                Meaning::Refused { busy: true } | Meaning::Open => sleep(AGAIN).await,
            }
        }
        None
    }

    /// Writes down what came of a submission.
    fn note(&self, answer: Result<Answer, String>) -> Meaning {
        let n = self.n;
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.ledger.write(Entry::Unsure { n, why });
                return Meaning::Open;
            }
        };
        let meaning = meaning(&answer);
        match &meaning {
            Meaning::Taken { id } => {
                self.ledger.write(Entry::Accepted { n, id: id.clone() });
                note_told(self.ledger, &answer.body);
            }
            Meaning::Refused { busy } => {
                let (status, problem) = (answer.status, answer.text("type").to_owned());
                self.ledger.write(Entry::Refused { n, status, problem, busy: *busy });
            }
            Meaning::Open => {
                let why = format!("{} {}", answer.status, answer.text("type"));
                self.ledger.write(Entry::Unsure { n, why });
            }
        }
        meaning
    }

    /// The same key with another body, until that is answered.
    async fn contradict(&self, question: &Question<'_>, body: &Value) {
        let question = Question { body: Some(body), ..question.clone() };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(answer) = self.door.ask(self.door.any(), Method::POST, &question).await
                && !is_open(answer.status)
            {
                let id = answer.body["id"].as_str().map(str::to_owned);
                self.ledger.write(Entry::Contradicted { n: self.n, status: answer.status, id });
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// Asks for a cancel until that is answered.
    async fn cancel(&self, id: &str) {
        let path = format!("/v1/jobs/{id}/cancel");
        let question = Question { path: &path, ..Question::default() };
        self.ledger.write(Entry::CancelAsked { id: id.to_owned() });
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Ok(answer) = self.door.ask(self.door.any(), Method::POST, &question).await
                && !is_open(answer.status)
            {
                let state = answer.text("state").to_owned();
                self.ledger.write(Entry::CancelAnswered { id: id.to_owned(), status: answer.status, state });
                note_told(self.ledger, &answer.body);
                return;
            }
            sleep(AGAIN).await;
        }
    }
}

/// Writes down that a job is done, if that was told.
fn note_told(ledger: &Ledger, job: &Value) {
    if job["done"] == true
        && let (Some(id), Some(state), Some(seq)) = (job["id"].as_str(), job["state"].as_str(), job["seq"].as_u64())
    {
        let output = job["output"].clone();
        ledger.write(Entry::Told { id: id.to_owned(), state: state.to_owned(), seq, output });
    }
}

/// An answer that does not say what was done.
fn is_open(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

fn meaning(answer: &Answer) -> Meaning {
    match (answer.status, answer.body["id"].as_str()) {
        (200 | 202, Some(id)) => Meaning::Taken { id: id.to_owned() },
        (429, _) => Meaning::Refused { busy: true },
        (503, _) if BUSY.contains(&answer.text("type")) => Meaning::Refused { busy: true },
        (502..=504, _) => Meaning::Open,
        _ => Meaning::Refused { busy: false },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, body }
    }

    #[test]
    fn an_answer_says_whether_the_job_is_there() {
        let taken = Meaning::Taken { id: "j".into() };
        assert_eq!(meaning(&answer(202, json!({"id": "j"}))), taken);
        assert_eq!(meaning(&answer(200, json!({"id": "j"}))), taken);
        let busy = json!({"type": "/problems/too-many-waiting"});
        assert_eq!(meaning(&answer(503, busy)), Meaning::Refused { busy: true });
        let away = json!({"type": "/problems/store-unavailable"});
        assert_eq!(meaning(&answer(503, away)), Meaning::Open, "it may have been stored");
        assert_eq!(meaning(&answer(502, Value::Null)), Meaning::Open, "a proxy does not know");
        for status in [400, 404, 409, 422, 500] {
            assert_eq!(meaning(&answer(status, Value::Null)), Meaning::Refused { busy: false }, "{status}");
        }
    }
}
