//! Whether the judge of all answers over HTTP notices what is not in the document. The clients of the tests ask it about every
//! answer; here it is asked about answers that nobody should give.

use buzzer_tests::conformance::{Answered, Asked, Document};
use buzzer_tests::inside::{Answer, Inside};
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// A question, and its answer as it was.
struct Exchange {
    asked: Asked,
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Exchange {
    async fn of(buzzer: &Inside, request: RequestBuilder) -> Self {
        let asked = Asked::of(&request.try_clone().unwrap().build().unwrap());
        let answer: Answer = buzzer.send(request).await;
        let body = answer.json();
        Self { asked, status: answer.status, headers: answer.headers, body }
    }

    /// What the judge says.
    fn judged(&self, document: &Document) -> Result<(), String> {
        let body = self.body.to_string();
        let answered = Answered { status: self.status, headers: &self.headers, body: Some(body.as_bytes()) };
        document.check(&self.asked, &answered).map_err(|deviation| deviation.to_string())
    }

    /// Asserts that the judge names `word` when the answer was changed so.
    fn notices(&mut self, document: &Document, word: &str, change: impl FnOnce(&mut Self)) {
        let before = (self.status, self.headers.clone(), self.body.clone());
        change(self);
        let said = self.judged(document).expect_err(word);
        assert!(said.contains(word), "{word}: {said}");
        (self.status, self.headers, self.body) = before;
    }
}

async fn document(buzzer: &Inside) -> Document {
    Document::new(buzzer.get("/openapi.json").await.json())
}

/// Something that makes a message another one than the document has.
type Damage = fn(&mut Value);

#[tokio::test]
async fn p10_an_answer_that_is_not_in_the_document_is_noticed() {
    let buzzer = Inside::start().await;
    let document = document(&buzzer).await;
    let mut accepted = Exchange::of(&buzzer, buzzer.submission("echo", r#"{"input": 1}"#)).await;
    assert_eq!(accepted.judged(&document), Ok(()));
    accepted.notices(&document, "status", |answer| answer.status = StatusCode::NON_AUTHORITATIVE_INFORMATION);
    accepted.notices(&document, "x-colour", |answer| {
        answer.headers.insert(HeaderName::from_static("x-colour"), "red".parse().unwrap());
    });
    for header in ["location", "etag", "cache-control"] {
        accepted.notices(&document, "has no header", |answer| drop(answer.headers.remove(header)));
    }
    accepted.notices(&document, "text/plain", |answer| {
        answer.headers.insert("content-type", "text/plain".parse().unwrap());
    });
    accepted.notices(&document, "colour", |answer| answer.body["colour"] = json!("red"));
    accepted.notices(&document, "asleep", |answer| answer.body["state"] = json!("asleep"));
    accepted.notices(&document, "colour", |answer| answer.body["links"]["colour"] = json!("red"));
    accepted.notices(&document, "required", |answer| {
        answer.body.as_object_mut().unwrap().remove("seq");
    });
}

#[tokio::test]
async fn p10_a_problem_that_is_not_in_the_document_is_noticed() {
    let buzzer = Inside::start().await;
    let document = document(&buzzer).await;
    let mut refused = Exchange::of(&buzzer, buzzer.submission("echo", r#"{"input": 1, "colour": "red"}"#)).await;
    assert_eq!((refused.status.as_u16(), refused.judged(&document)), (422, Ok(())));
    refused.notices(&document, "too-late", |answer| answer.body["type"] = json!("/problems/too-late"));
    refused.notices(&document, "it says 400", |answer| answer.body["status"] = json!(400));
    refused.notices(&document, "is not among", |answer| {
        answer.headers.insert("content-type", "application/json".parse().unwrap());
    });
    let mut nowhere = Exchange::of(&buzzer, buzzer.request(Method::GET, "/nowhere")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.judged(&document)), (404, Ok(())));
    nowhere.notices(&document, "unknown-job", |answer| answer.body["type"] = json!("/problems/unknown-job"));
    nowhere.notices(&document, "neither", |answer| {
        answer.headers.insert("content-type", "application/json".parse().unwrap());
    });
}

#[tokio::test]
async fn p10_what_is_taken_and_not_in_the_document_is_noticed() {
    let buzzer = Inside::start().await;
    let document = document(&buzzer).await;
    let listed = Exchange::of(&buzzer, buzzer.request(Method::GET, "/v1/jobs?limit=3")).await;
    assert_eq!(listed.judged(&document), Ok(()));
    for (request, word) in [
        (buzzer.request(Method::GET, "/v1/jobs?colour=red"), "colour"),
        (buzzer.submission("echo", r#"{"input": 1, "colour": "red"}"#), "colour"),
        (buzzer.submission("demo.sleep", r#"{"input": {"seconds": "long"}}"#), "long"),
    ] {
        // As if it had been taken.
        let request = request.build().unwrap();
        let good = if request.method() == Method::GET {
            buzzer.request(Method::GET, "/v1/jobs")
        } else {
            buzzer.submission("echo", r#"{"input": 1}"#)
        };
        let mut taken = Exchange::of(&buzzer, good).await;
        taken.asked = Asked::of(&request);
        let said = taken.judged(&document).expect_err(word);
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[tokio::test]
async fn p10_an_event_and_a_post_that_are_not_in_the_document_are_noticed() {
    let buzzer = Inside::start().await;
    let document = document(&buzzer).await;
    let job = buzzer.run("demo.progress", r#"{"input": {"steps": 2, "seconds": 0.1}}"#).await;
    let events = buzzer.request(Method::GET, job["links"]["events"].as_str().unwrap());
    let page = buzzer.send(events.header("accept", "application/json")).await.json();
    let headers: HeaderMap = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (HeaderName::from_static(name), "1".parse().unwrap()))
        .into_iter()
        .collect();
    let changes: [(&str, Damage); 4] = [
        ("job.asleep", |event| event["type"] = json!("job.asleep")),
        ("colour", |event| event["colour"] = json!("red")),
        ("EventData", |event| event["data"] = json!({ "colour": "red" })),
        ("seq", |event| drop(event.as_object_mut().unwrap().remove("seq"))),
    ];
    for event in page["items"].as_array().unwrap() {
        let post = |data: &Value| json!({ "type": data["type"], "timestamp": event["at"], "data": data });
        assert_eq!(document.check_event(event), Ok(()));
        assert_eq!(document.check_post(&headers, &post(event)), Ok(()));
        for (word, change) in changes {
            let mut changed = event.clone();
            change(&mut changed);
            assert!(document.check_event(&changed).is_err(), "{word}: {changed}");
            assert!(document.check_post(&headers, &post(&changed)).is_err(), "{word}: {changed}");
        }
        let unsigned = document.check_post(&HeaderMap::new(), &post(event)).unwrap_err();
        assert!(unsigned.to_string().contains("webhook-"), "{unsigned}");
    }
}
