//! The page of `examples/events` in a real browser, while the API behind it is killed and comes back.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::browser::chromium;
use buzzer_tests::outside::Outside;
use buzzer_tests::wait::{eventually, within};
use regex::Regex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_each_event_once_across_a_kill_of_the_api() {
    let mut system = Outside::up(&[("BUZZER_DEMO", "1")]).await;
    system.knows("demo.progress").await;
    let client = system.client();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/events");
    let mut server = Command::new("python3")
        .arg(folder.join("serve.py"))
        .env("BUZZER_SERVER", format!("http://{}", system.address()))
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = within("the server", LIMIT, lines.next_line()).await.unwrap().unwrap();

    let profile = tempfile::tempdir().unwrap();
    let mut page = chromium(profile.path()).arg(format!("{address}/#start")).spawn().unwrap();
    let mut console = BufReader::new(page.stderr.take().unwrap()).lines();
    // What the page says of each event that it shows.
    let looking = tokio::spawn(async move {
        let said = Regex::new("\"event (\\d+) (job\\.[a-z]+)\"").unwrap();
        let mut shown = Vec::new();
        while let Some(line) = console.next_line().await.unwrap() {
            if let Some(event) = said.captures(&line) {
                shown.push((event[1].parse::<u64>().unwrap(), event[2].to_owned()));
                if &event[2] == "job.succeeded" {
                    break;
                }
            }
        }
        shown
    });

    let half_done = eventually("the job to be half done", LIMIT, async || {
        let jobs = client.get("/v1/jobs").await.ok()?.json();
        let job = jobs["items"].as_array()?.first()?.clone();
        (job["progress"]["percent"].as_f64()? >= 30.0).then_some(job)
    })
    .await;
    system.process().kill();
    system.start_again().await;
    let id = half_done["id"].as_str().unwrap();
    client.done(id, LIMIT).await;

    let shown = within("the page to show the end", LIMIT, looking).await.unwrap();
    let request = client.request(reqwest::Method::GET, &format!("/v1/jobs/{id}/events?limit=500"));
    let log = client.send(request.header("accept", "application/json")).await.unwrap().json();
    let stored = log["items"].as_array().unwrap().iter();
    let stored: Vec<_> = stored.map(|event| (event["seq"].as_u64().unwrap(), text(&event["type"]))).collect();
    assert_eq!(shown, stored);
    assert!(shown.len() > 10, "{shown:?}");
    page.kill().await.unwrap();
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().into()
}
