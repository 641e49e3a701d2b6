//! `/docs` in a real browser.

use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::browser::chromium;
use buzzer_tests::inside::Inside;
use buzzer_tests::wait::within;
use reqwest::Method;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn docs_shows_the_kinds_and_asks_nobody_else() {
    let buzzer = Inside::start().await;
    let page = buzzer.get("/docs").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

    let base = buzzer.request(Method::GET, "").build().unwrap().url().origin().ascii_serialization();
    let profile = tempfile::tempdir().unwrap();
    let log = profile.path().join("net.json");
    let mut page = chromium(profile.path());
    page.args(["--disable-background-networking", "--no-first-run", "--virtual-time-budget=60000", "--dump-dom"]);
    page.arg(format!("--log-net-log={}", log.display())).arg(format!("{base}/docs")).stdout(Stdio::piped());
    let page = page.output();
    let page = within("the page", LIMIT, page).await.unwrap();
    let (shown, said) = (String::from_utf8_lossy(&page.stdout), String::from_utf8_lossy(&page.stderr));
    // Swagger UI lets long words break at these.
    let shown = shown.replace("<wbr>", "").replace('\u{200b}', "");
    for shows in ["/v1/jobs/echo", "/v1/jobs/demo.sleep", "/v1/jobs/{job}/events", "Hand in a job", "WebhookView"] {
        assert!(shown.contains(shows), "{shows} is not shown: {shown}\n{said}");
    }
    for bad in ["Content Security Policy", "Content-Security-Policy", "Uncaught", "Failed to load resource"] {
        assert!(!said.contains(bad), "{said}");
    }

    let asked = asked(&std::fs::read_to_string(&log).unwrap(), &base);
    assert!(asked.iter().any(|url| url.ends_with("/openapi.json")), "{asked:?}");
    assert!(asked.iter().all(|url| url.starts_with(&base) || url.starts_with("data:")), "{asked:?}");
}

/// What was asked for in the name of the page, of what a browser says of its network.
fn asked(log: &str, base: &str) -> Vec<String> {
    let log: Value = serde_json::from_str(log).unwrap();
    let parameters = log["events"].as_array().unwrap().iter().map(|event| &event["params"]);
    let by_page = parameters.filter(|asked| asked["initiator"] == base);
    by_page.filter_map(|asked| Some(asked["url"].as_str()?.to_owned())).collect()
}
