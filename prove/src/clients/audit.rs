//! Looks at everything that the system says, once all is healed and quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::kind::Kind;
use buzzer_shared::webhook;
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::door::{Door, Question};
use crate::checker::{FoundJob, FoundParked, Logged, System};
use crate::nemesis::planted;

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
        if is_quiet(door).await {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        sleep(LOOK).await;
    }
}

/// Whether each job is done. None is handed in any more, and what is done stays so: one look at all of them, page by page,
/// is enough. Before it is worth that, no state that is not an end may have one.
async fn is_quiet(door: &Door) -> bool {
    for state in ["scheduled", "queued", "running", "retrying"] {
        match door.get(door.any(), &door.own(&format!("/v1/jobs?limit=1&state={state}"))).await {
            Ok(answer) if answer.status == 200 && answer.body["items"] == json!([]) => {}
            _ => return false,
        }
    }
    listed(door).await.is_ok_and(|jobs| jobs.iter().all(|(_, done)| *done))
}

/// Everything but what is parked: each job with its log, what changed nothing.
///
/// # Errors
/// When the system does not say it.
pub async fn system(door: &Door) -> Result<System, String> {
    let listed = listed(door).await?;
    let looking = listed.iter().map(|(id, _)| job(door, id));
    let looked: Vec<_> = stream::iter(looking).buffer_unordered(AT_ONCE).collect().await;
    let jobs = looked.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut ignored = BTreeMap::new();
    for api in 0..door.apis() {
        let stats = door.get(api, "/v1/stats").await?.body;
        for (reason, count) in stats["ignored"].as_object().into_iter().flatten() {
            *ignored.entry(reason.clone()).or_default() += count.as_u64().unwrap_or_default();
        }
    }
    Ok(System { jobs, ignored, is_shared: door.is_shared(), ..System::default() })
}

/// What is parked, once that `is_all` or after `limit`; and how many more there are that cannot be looked at. Only the
/// oldest are listed: those of a system of our own are taken out, so that the others come up.
///
/// # Errors
/// When the system does not say it.
pub async fn parked(
    door: &Door,
    limit: Duration,
    is_all: impl Fn(&[FoundParked]) -> bool,
) -> Result<(Vec<FoundParked>, usize), String> {
    let began = Instant::now();
    let mut taken = Vec::new();
    loop {
        let page = must(door, &format!("/v1/parked?limit={PAGE}")).await?;
        let listed: Vec<_> = page["items"].as_array().into_iter().flatten().map(found_parked).collect();
        let total = page["total"].as_u64().and_then(|total| usize::try_from(total).ok()).unwrap_or_default();
        let unseen = total.saturating_sub(listed.len());
        if unseen > 0 && !door.is_shared() && !listed.is_empty() {
            for parked in &listed {
                drop_parked(door, &parked.id).await?;
            }
            taken.extend(listed);
            continue;
        }
        let found = [taken.as_slice(), listed.as_slice()].concat();
        if is_all(&found) || began.elapsed() > limit {
            return Ok((found, unseen));
        }
        sleep(LOOK).await;
    }
}

fn found_parked(parked: &Value) -> FoundParked {
    let text = |name: &str| parked[name].as_str().unwrap_or_default().to_owned();
    let (id, from, reason, job) = (text("id"), text("from"), text("reason"), text("correlation_id"));
    FoundParked { id, from, reason, job, mark: planted::mark_of(parked) }
}

/// Takes one copy of a message out.
async fn drop_parked(door: &Door, id: &str) -> Result<(), String> {
    let path = format!("/v1/parked/{id}");
    let answer = door.ask(door.any(), Method::DELETE, &Question { path: &path, ..Question::default() }).await?;
    match answer.status {
        200..=299 => Ok(()),
        status => Err(format!("DELETE {path}: {status} {}", answer.text("detail"))),
    }
}

/// Every kind that was announced.
///
/// # Errors
/// When the system does not say it.
pub async fn kinds(door: &Door) -> Result<Vec<Kind>, String> {
    let known = must(door, "/v1/kinds").await?;
    let names = known["items"].as_array().into_iter().flatten().filter_map(|kind| kind["name"].as_str());
    // Nobody is shown that one, and it has a queue like the others.
    let names = names.chain([webhook::KIND]);
    names.map(|name| name.parse().map_err(|error| format!("the kind {name:?}: {error}"))).collect()
}

/// Deletes the jobs of a campaign, which all are done.
///
/// # Errors
/// When one of them is not deleted.
pub async fn delete(door: &Door, jobs: &[FoundJob]) -> Result<(), String> {
    let deleting = jobs.iter().map(async |job| {
        let path = format!("/v1/jobs/{}", job.id);
        match door.ask(door.any(), Method::DELETE, &Question { path: &path, ..Question::default() }).await {
            // One that is not there any more has been deleted before.
            Ok(answer) if matches!(answer.status, 200..=299 | 404 | 410) => Ok(()),
            Ok(answer) => Err(format!("DELETE {path}: {} {}", answer.status, answer.text("detail"))),
            Err(error) => Err(format!("DELETE {path}: {error}")),
        }
    });
    stream::iter(deleting).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

/// The id of every job, and whether it is done.
async fn listed(door: &Door) -> Result<Vec<(String, bool)>, String> {
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = must(door, &door.own(&format!("/v1/jobs?limit={PAGE}{cursor}"))).await?;
        let items = page["items"].as_array().into_iter().flatten();
        jobs.extend(items.filter_map(|job| Some((job["id"].as_str()?.to_owned(), job["done"] == true))));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(jobs),
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
