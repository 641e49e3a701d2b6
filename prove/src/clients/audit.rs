//! Looks at everything that the system says, once all is healed and quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::kind::Kind;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::door::Door;
use crate::checker::{FoundJob, Logged, System};

const LOOK: Duration = Duration::from_millis(250);
/// So many jobs are looked at at a time.
const AT_ONCE: usize = 32;
const PAGE: usize = 500;
/// How often is asked for what must be there.
const TRIES: usize = 20;

/// Waits until no job is left to do. `false`: some still are after `limit`.
pub async fn quiet(door: &Door, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        if let Ok(answer) = door.get(door.any(), "/v1/stats").await
            && answer.status == 200
            && left(&answer.body) == 0
        {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        sleep(LOOK).await;
    }
}

/// How many jobs are not done, as the numbers of all kinds have it.
fn left(stats: &Value) -> u64 {
    let kinds = stats["kinds"].as_object().into_iter().flat_map(|kinds| kinds.values());
    let parts = |kind: &Value| {
        ["scheduled", "waiting", "out", "retrying"]
            .iter()
            .map(|part| kind[part].as_u64().unwrap_or_default())
            .sum::<u64>()
    };
    kinds.map(parts).sum()
}

/// Everything: each job with its log, what is parked, what changed nothing.
///
/// # Errors
/// When the system does not say it.
pub async fn system(door: &Door) -> Result<System, String> {
    let ids = ids(door).await?;
    let looking = ids.iter().map(|id| job(door, id));
    let looked: Vec<_> = stream::iter(looking).buffer_unordered(AT_ONCE).collect().await;
    let jobs = looked.into_iter().collect::<Result<Vec<_>, _>>()?;
    let parked = must(door, "/v1/parked?limit=1").await?["total"].as_u64().unwrap_or_default();
    let mut ignored = BTreeMap::new();
    for api in 0..door.apis() {
        let stats = door.get(api, "/v1/stats").await?.body;
        for (reason, count) in stats["ignored"].as_object().into_iter().flatten() {
            *ignored.entry(reason.clone()).or_default() += count.as_u64().unwrap_or_default();
        }
    }
    Ok(System { jobs, parked, ignored })
}

/// Every kind that was announced.
///
/// # Errors
/// When the system does not say it.
pub async fn kinds(door: &Door) -> Result<Vec<Kind>, String> {
    let known = must(door, "/v1/kinds").await?;
    let names = known["items"].as_array().into_iter().flatten().filter_map(|kind| kind["name"].as_str());
    names.map(|name| name.parse().map_err(|error| format!("the kind {name:?}: {error}"))).collect()
}

async fn ids(door: &Door) -> Result<Vec<String>, String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = must(door, &format!("/v1/jobs?limit={PAGE}{cursor}")).await?;
        let items = page["items"].as_array().into_iter().flatten();
        ids.extend(items.filter_map(|job| job["id"].as_str().map(str::to_owned)));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(ids),
        }
    }
}

async fn job(door: &Door, id: &str) -> Result<FoundJob, String> {
    let job = must(door, &format!("/v1/jobs/{id}")).await?;
    let mut log: Vec<Logged> = Vec::new();
    loop {
        let after = log.last().map_or(0, |entry| entry.seq);
        let page = must(door, &format!("/v1/jobs/{id}/events?limit={PAGE}&after={after}")).await?;
        let items = page["items"].as_array().into_iter().flatten();
        log.extend(items.map(|entry| Logged {
            seq: entry["seq"].as_u64().unwrap_or_default(),
            event: entry["type"].as_str().unwrap_or_default().to_owned(),
        }));
        if page["next"].is_null() {
            break;
        }
    }
    let text = |name: &str| job[name].as_str().unwrap_or_default().to_owned();
    Ok(FoundJob {
        id: text("id"),
        n: job["tags"]["prove"].as_str().and_then(|n| n.parse().ok()),
        kind: text("kind"),
        state: text("state"),
        done: job["done"] == true,
        attempt: job["attempt"].as_u64().and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or_default(),
        seq: job["seq"].as_u64().unwrap_or_default(),
        input: job["input"].clone(),
        output: job["output"].clone(),
        error: job["error"]["type"].as_str().unwrap_or_default().to_owned(),
        log,
    })
}

/// What is answered with a `200`.
async fn must(door: &Door, path: &str) -> Result<Value, String> {
    let mut why = String::new();
    for _ in 0..TRIES {
        match door.get(door.any(), path).await {
            Ok(answer) if answer.status == 200 => return Ok(answer.body),
            Ok(answer) => why = format!("{} {}", answer.status, answer.text("detail")),
            Err(error) => why = error,
        }
        sleep(LOOK).await;
    }
    Err(format!("GET {path}: {why}"))
}
