//! The page of the document, in a real browser.

use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::browser::chromium;
use buzzer_tests::outside::Outside;
use buzzer_tests::wait::within;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn docs_shows_each_kind_and_talks_to_its_own_server_alone() {
    let system = Outside::up(&[("BUZZER_DEMO", "1")]).await;
    system.knows("demo.sleep").await;
    let origin = format!("http://{}", system.address());
    let profile = tempfile::tempdir().unwrap();
    let log = profile.path().join("net.json");
    let mut browser = chromium(profile.path());
    // The time of the page runs ahead whenever nothing is under way.
    browser.args(["--virtual-time-budget=30000", "--dump-dom"]).arg(format!("--log-net-log={}", log.display()));
    browser.arg(format!("{origin}/docs")).stdout(Stdio::piped());
    let seen = within("the browser", LIMIT, browser.output()).await.unwrap();

    let page = String::from_utf8_lossy(&seen.stdout);
    for path in ["/v1/jobs/demo.sleep", "/v1/jobs/http.request", "/v1/webhooks"] {
        assert!(page.contains(&format!("data-path=\"{path}\"")), "{path} is not on the page");
    }
    let said = String::from_utf8_lossy(&seen.stderr);
    assert!(!said.contains("Content Security Policy"), "the page wants what it may not: {said}");
    let log: Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
    let asked: Vec<&str> = log["events"].as_array().unwrap().iter().filter_map(|event| asked(event, &origin)).collect();
    assert!(asked.contains(&format!("{origin}/openapi.json").as_str()), "{asked:?}");
    assert!(asked.iter().all(|url| url.starts_with(&origin)), "{asked:?}");
}

/// What a page of this origin asks for.
fn asked<'e>(event: &'e Value, origin: &str) -> Option<&'e str> {
    let params = &event["params"];
    if params["initiator"].as_str()? == origin { params["url"].as_str() } else { None }
}
