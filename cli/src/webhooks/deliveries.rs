use std::time::Duration;

use buzzer_shared::id::{DeliveryId, JobId, WebhookId};
use buzzer_shared::time::Time;
use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep};

use super::Addressee;
use super::calls::{Delivery, Page, ReplayEvents, Search};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, plain};

/// How long the first attempt of a test is waited for: an endpoint has 15 s to answer.
const PATIENCE: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// List what is, or was, on its way to a webhook, newest first.
#[derive(Debug, Args)]
pub struct Deliveries {
    /// The webhook's id; `jobs` for those that jobs name themselves.
    id: Addressee,

    /// Only those in this state.
    #[arg(long, short)]
    state: Option<DeliveryState>,

    /// Only those that tell of this job.
    #[arg(long, short)]
    job: Option<JobId>,

    /// How many at most: 1 to 500.
    #[arg(long, short, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,

    /// Go on from here: the cursor that the page before ended with.
    #[arg(long, short)]
    cursor: Option<String>,

    /// Print the page as JSON, with each attempt: `{"items": […], "next": cursor or null}`.
    #[arg(long)]
    json: bool,
}

/// Where deliveries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Pending,
    Delivered,
    Failed,
}

/// Deliver once more: single deliveries, or all events of a time.
///
/// Each goes out under the same `webhook-id` as before, so that a receiver knows it again.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["deliveries", "from"]))]
pub struct Replay {
    /// The webhook's id; `jobs` for those that jobs name themselves.
    id: Addressee,

    /// The deliveries' ids, as the list has them.
    #[arg(value_name = "DELIVERY")]
    deliveries: Vec<DeliveryId>,

    /// All events that it wants from this moment on, also those that it missed: `2026-11-22T17:14:00Z`.
    #[arg(long, value_name = "TIME", conflicts_with = "deliveries")]
    from: Option<Time>,

    /// Those before this moment; now when nothing is said.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<Time>,

    /// Without those that were delivered.
    #[arg(long, requires = "from")]
    undelivered: bool,
}

/// Send a test, and show what came of its first attempt.
///
/// Exit code 1 when it was not delivered. It is tried again like any other delivery.
#[derive(Debug, Args)]
pub struct Test {
    id: WebhookId,
}

impl Deliveries {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { id, state, job, limit, cursor, json } = self;
        let page = client.deliveries(&id, &Search { state, job, limit, cursor }).await?;
        if json {
            return Ok(output::line(&page.json)?);
        }
        let Page { items, next } = page.value;
        if items.is_empty() {
            output::hint("No deliveries.");
            return Ok(());
        }
        output::line(table(&items))?;
        if let Some(next) = next {
            output::hint(&format!("There are more: the same with --cursor {}", plain(&next)));
        }
        Ok(())
    }
}

impl Replay {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { id, deliveries, from, to, undelivered } = self;
        for delivery in deliveries {
            client.replay_delivery(&id, delivery).await?;
            output::line(format!("{delivery}  pending"))?;
        }
        let Some(from) = from else { return Ok(()) };
        let Addressee::Webhook(id) = id else {
            let reason = "events of a time are replayed for a registered webhook; name deliveries instead";
            return Err(Failure::Usage(reason.into()));
        };
        let (mut replayed, mut cursor) = (0, None);
        loop {
            let events = ReplayEvents { from, to, undelivered, cursor };
            let some = client.replay_events(id, &events).await?.value;
            replayed += some.replayed;
            cursor = some.next;
            if cursor.is_none() {
                return Ok(output::line(format!("{replayed} replayed"))?);
            }
        }
    }
}

impl Test {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let begun = client.test_webhook(self.id).await?.value;
        let until = Instant::now() + PATIENCE;
        let search = Search { state: None, job: None, limit: 500, cursor: None };
        let mut seen = begun;
        while seen.attempts.is_empty() && Instant::now() < until {
            sleep(LOOK_EVERY).await;
            let page = client.deliveries(&Addressee::Webhook(self.id), &search).await?.value;
            seen = page.items.into_iter().find(|delivery| delivery.id == seen.id).unwrap_or(seen);
        }
        let line = format!("{}  {}  {}", seen.id, plain(&seen.state), seen.news());
        output::line(line.trim_end())?;
        if seen.state == "delivered" { Ok(()) } else { Err(Failure::Undelivered) }
    }
}

fn table(deliveries: &[Delivery]) -> String {
    let rows = deliveries.iter().map(|delivery| {
        let event = delivery.event.as_ref();
        [
            delivery.id.to_string(),
            event.map_or("webhook.test".into(), |event| plain(&event.r#type)),
            event.map_or("-".into(), |event| event.job_id.to_string()),
            event.map_or("-".into(), |event| event.seq.to_string()),
            plain(&delivery.state),
            delivery.attempts.len().to_string(),
            delivery.created_at.to_string(),
            delivery.news(),
        ]
    });
    output::table(["ID", "EVENT", "JOB", "SEQ", "STATE", "ATTEMPTS", "CREATED", "NEWS"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn delivery(more: &Value) -> Delivery {
        let mut delivery = json!({
            "id": "019aad01-0000-7000-8000-000000000001", "url": "https://a.example/", "state": "delivered",
            "event": { "type": "job.failed", "job_id": "019aad01-0000-7000-8000-000000000002", "seq": 3 },
            "created_at": "2026-11-22T17:14:00.000Z", "waiting": null, "something_new": 1,
            "attempts": [{ "at": "2026-11-22T17:14:00.000Z", "duration": "12ms", "status": 200, "answer": "ok", "error": null }],
        });
        delivery.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(delivery).unwrap()
    }

    #[test]
    fn a_table_has_a_line_for_each_delivery() {
        let refused = json!([{ "at": "2026-11-22T17:14:00.000Z", "duration": "1s", "status": null, "answer": null, "error": "Connection\nrefused" }]);
        let text = table(&[
            delivery(&json!({})),
            delivery(&json!({ "state": "pending", "attempts": refused, "waiting": "not due" })),
            delivery(&json!({ "state": "pending", "attempts": [], "event": null, "waiting": "its turn" })),
        ]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{text}");
        let moment = "2026-11-22T17:14:00.000Z";
        assert_eq!(
            lines[1][1..],
            ["job.failed", "019aad01-0000-7000-8000-000000000002", "3", "delivered", "1", moment, "200", "in", "12ms"]
        );
        assert_eq!(lines[2][4..], ["pending", "1", moment, "Connection", "refused;", "not", "due"]);
        assert_eq!(lines[3][1..], ["webhook.test", "-", "-", "pending", "0", moment, "its", "turn"]);
    }
}
