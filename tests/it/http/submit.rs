use buzzer_tests::inside::Inside;
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn a_job_is_accepted_run_and_its_result_fetched() {
    let buzzer = Inside::start().await;
    let accepted = buzzer.submit("echo", r#"{"input": {"hello": "world"}, "tags": {"customer": "7"}}"#).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    let job = accepted.json();
    let this = job["links"]["self"].as_str().unwrap();
    assert_eq!(accepted.header("location"), this);
    assert_eq!(accepted.header("retry-after"), "1");
    assert_eq!((&job["state"], &job["attempt"], &job["done"]), (&json!("queued"), &json!(1), &json!(false)));

    let done = buzzer.get(&format!("{this}?wait=30")).await;
    let job = done.json();
    assert_eq!((&job["state"], &job["output"]), (&json!("succeeded"), &json!({"hello": "world"})), "{job}");
    assert_eq!(job["seq"], 3);
    assert_eq!(done.header("etag"), "W/\"3\"");
    assert_eq!(done.header("retry-after"), "");

    let result = buzzer.get(&format!("{this}/result")).await;
    assert_eq!((result.text.as_str(), result.header("content-type")), (r#"{"hello": "world"}"#, "application/json"));
}

#[tokio::test]
async fn input_and_output_are_kept_byte_for_byte() {
    let buzzer = Inside::start().await;
    for input in [
        r#""\u0000""#,
        r#"{"z":1,  "a":2, "a":3}"#,
        "1.0e+2",
        "12345678901234567890.123456789",
        r#""\ud83d\ude00 😀""#,
        "null",
    ] {
        let job = buzzer.run("echo", &format!(r#"{{"input": {input}}}"#)).await;
        let result = buzzer.get(job["links"]["result"].as_str().unwrap()).await;
        assert_eq!(result.text, input);
    }
}

#[tokio::test]
async fn media_types_are_read_without_regard_to_case() {
    let buzzer = Inside::start().await;
    for media_type in ["Application/JSON; charset=utf-8", "application/vnd.x+JSON", "APPLICATION/x+json"] {
        let request = buzzer.request(Method::POST, "/v1/jobs/echo").header("content-type", media_type);
        let request = request.header("content-encoding", "identity").body(r#"{"input": 1}"#);
        assert_eq!(buzzer.send(request).await.status, StatusCode::ACCEPTED, "{media_type}");
    }
}
