use buzzer_tests::inside::Inside;
use serde_json::Value;

#[tokio::test]
async fn jobs_are_listed_newest_first_with_filters_and_a_cursor() {
    let buzzer = Inside::start().await;
    for n in 0..7 {
        let body = format!(r#"{{"input": {n}, "tags": {{"n": "{n}", "odd": "{}"}}}}"#, n % 2);
        buzzer.run("echo", &body).await;
    }
    buzzer.run("demo.fail", r#"{"input": {"type": "no", "detail": "no"}}"#).await;
    let ids = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let whole = ids(&buzzer.get("/v1/jobs").await.json());
    assert_eq!(whole.len(), 8);
    let mut sorted = whole.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(whole, sorted, "newest first");

    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let page = buzzer.get(&format!("/v1/jobs?limit=3{next}")).await.json();
        paged.extend(ids(&page));
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, whole);
    assert_eq!(ids(&buzzer.get("/v1/jobs?tag=odd:1").await.json()).len(), 3);
    assert_eq!(ids(&buzzer.get("/v1/jobs?state=failed").await.json()).len(), 1);
    assert_eq!(ids(&buzzer.get("/v1/jobs?kind=echo&state=succeeded&tag=n:4").await.json()).len(), 1);
    assert_eq!(ids(&buzzer.get("/v1/jobs?state=&kind=&tag=&cursor=&limit=").await.json()), whole);
    assert!(ids(&buzzer.get("/v1/jobs?tag=n:=").await.json()).is_empty(), "a value may end like a name");
    let listed = buzzer.get("/v1/jobs?limit=1").await.json();
    assert!(listed["items"][0].get("input").is_none() && listed["items"][0].get("output").is_none());
}
