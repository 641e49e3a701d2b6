use buzzer_tests::inside::Inside;

#[tokio::test]
async fn kinds_workers_health_and_document_tell_what_is_there() {
    let buzzer = Inside::start().await;
    let kinds = buzzer.get("/v1/kinds").await.json();
    let names: Vec<_> = kinds["items"].as_array().unwrap().iter().map(|kind| kind["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo.fail", "demo.flaky", "demo.progress", "demo.sleep", "echo", "http.request"]);
    let sleep = buzzer.get("/v1/kinds/demo.sleep").await.json();
    assert!(sleep["input_schema"]["properties"]["seconds"].is_object(), "{sleep}");
    assert!(sleep["slots_live"].as_u64().unwrap() > 0);
    assert_eq!(buzzer.get("/v1/workers").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(buzzer.get("/livez").await.json()["status"], "ok");
    assert_eq!(buzzer.get("/readyz").await.json()["status"], "ok");
    let document = buzzer.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in ["/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/echo", "/v1/jobs/demo.sleep", "/v1/stats", "/readyz"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}
