use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::ledger::Number;

/// Whoever has no answer by then, does not know.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// The tag that every job of a campaign bears.
const TAG: &str = "campaign";

/// The APIs, as the clients of one campaign reach them: each at an address of its own, or several at one.
#[derive(Debug)]
pub struct Door {
    bases: Vec<String>,
    http: reqwest::Client,
    key: Option<String>,
    campaign: String,
    is_shared: bool,
    next: AtomicUsize,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// `null` where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// A text in the body; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}

/// A request that can be sent.
#[derive(Debug, Clone, Default)]
pub struct Question<'a> {
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub key: Option<&'a str>,
    /// How many seconds the answer may be held.
    pub wait: Option<u32>,
}

impl Door {
    /// To the APIs at these addresses, for a campaign of its own.
    ///
    /// # Errors
    /// When this machine gives no sockets.
    pub fn new(bases: Vec<String>) -> reqwest::Result<Self> {
        // reqwest takes its TLS provider from the process. The only error is that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).no_proxy().build()?;
        let campaign = format!("{:016x}", fastrand::u64(..));
        Ok(Self { bases, http, key: None, campaign, is_shared: false, next: AtomicUsize::new(0) })
    }

    /// With an API key.
    #[must_use]
    pub fn with_key(self, key: Option<String>) -> Self {
        Self { key, ..self }
    }

    /// To a system that has jobs of others, too: these are left out wherever several are told.
    #[must_use]
    pub fn shared(self, is_shared: bool) -> Self {
        Self { is_shared, ..self }
    }

    /// To other addresses of the same system, in the same campaign.
    #[must_use]
    pub fn at(&self, bases: Vec<String>) -> Self {
        let Self { http, key, campaign, is_shared, .. } = self;
        let (http, key, campaign) = (http.clone(), key.clone(), campaign.clone());
        Self { bases, http, key, campaign, is_shared: *is_shared, next: AtomicUsize::new(0) }
    }

    /// The campaign, unlike any other.
    pub fn campaign(&self) -> &str {
        &self.campaign
    }

    /// Puts the campaign's name and a submission's number into the tags of a submission.
    pub fn mark(&self, submission: &mut Value, n: Number) {
        submission["tags"] = json!({ "prove": n.to_string(), TAG: self.campaign });
    }

    /// The path that tells of the jobs of this campaign alone, where there may be others.
    pub fn own(&self, path: &str) -> String {
        let and = if path.contains('?') { '&' } else { '?' };
        if self.is_shared { format!("{path}{and}tag={TAG}:{}", self.campaign) } else { path.to_owned() }
    }

    /// Whether the system has jobs of others, too.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// How many addresses there are.
    pub fn apis(&self) -> usize {
        self.bases.len()
    }

    /// The next API in turn.
    pub fn any(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.bases.len()
    }

    /// Asks an API, and reads its answer to the end.
    ///
    /// # Errors
    /// When there was no whole answer: what was asked for may have happened or not.
    pub async fn ask(&self, api: usize, method: Method, question: &Question<'_>) -> Result<Answer, String> {
        let request = self.request(api, method, question.path).header("accept", "application/json");
        let mut request = request.timeout(ANSWER_LIMIT);
        if let Some(body) = question.body {
            request = request.json(body);
        }
        if let Some(key) = question.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(seconds) = question.wait {
            request = request.header("prefer", format!("wait={seconds}"));
        }
        let response = request.send().await.map_err(reason)?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.map_err(reason)?;
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    /// Asks an API for something that is read only.
    ///
    /// # Errors
    /// When there was no whole answer.
    pub async fn get(&self, api: usize, path: &str) -> Result<Answer, String> {
        self.ask(api, Method::GET, &Question { path, ..Question::default() }).await
    }

    /// A stream of events.
    pub fn stream(&self, api: usize, path: &str, last: Option<&str>) -> RequestBuilder {
        let request = self.request(api, Method::GET, path).header("accept", "text/event-stream");
        match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        }
    }

    fn request(&self, api: usize, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.bases[api % self.bases.len()]));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn reason(error: reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_others_are_served_only_the_jobs_of_the_campaign_are_told() {
        let door = Door::new(vec!["http://a".into()]).unwrap();
        assert_eq!(door.own("/v1/jobs?limit=1"), "/v1/jobs?limit=1");
        let door = door.shared(true);
        let mut submission = json!({ "input": 1 });
        door.mark(&mut submission, 7);
        let tag = format!("campaign:{}", door.campaign());
        assert_eq!(submission, json!({ "input": 1, "tags": { "prove": "7", "campaign": door.campaign() } }));
        assert_eq!(door.own("/v1/events"), format!("/v1/events?tag={tag}"));
        assert_eq!(door.own("/v1/jobs?limit=1"), format!("/v1/jobs?limit=1&tag={tag}"));
        let another = Door::new(vec!["http://a".into()]).unwrap();
        assert_ne!(door.campaign(), another.campaign(), "a key of one must not be one of the other");
    }
}
