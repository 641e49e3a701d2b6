//! What anybody who reaches RabbitMQ may put into our queues: whatever it is, the service goes on, and what was meant
//! to be read by us is parked with the reason. Real processes, a real RabbitMQ.

use std::time::{Duration, Instant};

use buzzer_tests::client::{Answer, Client};
use buzzer_tests::foreign::{Foreign, Properties, Value, nested};
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

/// A few seconds, and something for a busy machine.
const SOON: Duration = Duration::from_secs(15);
/// The id of a job that nobody has.
const NOBODY: &str = "019ab4a6-2c00-7000-8000-000000000000";

/// A Buzzer, and somebody who publishes to its exchanges what they like.
struct Invaded {
    name: String,
    foreign: Foreign,
    client: Client,
    api: Api,
    worker: Service,
    /// How often API and worker lost their line while the queues were made: 3.10 ends the connection of who takes from a
    /// queue in that moment.
    lost_before: [usize; 2],
}

impl Invaded {
    async fn start() -> Self {
        let node = RabbitNode::shared().await;
        let outside = Outside::on(node);
        let api = outside.api(&[]).await;
        let worker = outside.worker(&[]);
        api.knows("echo").await;
        let foreign = Foreign::connect(node).await;
        let mut this = Self { name: outside.prefix, foreign, client: api.client(), api, worker, lost_before: [0, 0] };
        // Once one has gone through, every queue is there.
        this.goes_on().await;
        this.lost_before = this.lost();
        this
    }

    async fn publish(&mut self, to: (&str, &[u8]), properties: &Properties, body: &[u8]) {
        let exchange = format!("{}.{}", self.name, to.0);
        self.foreign.publish(&exchange, to.1, properties, body).await;
    }

    /// A job succeeds.
    async fn goes_on(&self) {
        let id = self.client.accepted("echo", &json!("still there?")).await;
        assert_eq!(self.client.done(&id, SOON).await["state"], "succeeded");
    }

    async fn parked(&self) -> Vec<Json> {
        let answer = self.client.get("/v1/parked?limit=500").await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let list = answer.json();
        let items = list["items"].as_array().expect("a list").clone();
        assert_eq!(list["total"], items.len(), "{list}");
        items
    }

    /// The one message that is parked, as soon as it is.
    async fn the_parked_one(&self) -> Json {
        eventually("a message to be parked", SOON, async || {
            let mut parked = self.parked().await;
            assert!(parked.len() < 2, "{parked:?}");
            parked.pop()
        })
        .await
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        self.client.send(self.client.request(method, path)).await.expect("an answer")
    }

    async fn drop_parked(&self, message: &Json) {
        let path = format!("/v1/parked/{}", message["id"].as_str().expect("an id"));
        let dropped = self.ask(Method::DELETE, &path).await;
        assert_eq!((dropped.status, &dropped.json()["id"]), (StatusCode::OK, &message["id"]), "{}", dropped.text);
        assert_eq!(self.ask(Method::GET, &path).await.status, StatusCode::NOT_FOUND);
    }

    /// How often each service lost its line.
    fn lost(&mut self) -> [usize; 2] {
        [self.api.process(), &mut self.worker].map(|service| service.log().matches("RabbitMQ is away").count())
    }

    /// Both still run as they were started, and garbage cost neither its line.
    fn assert_unharmed(&mut self) {
        for service in [self.api.process(), &mut self.worker] {
            assert!(service.ended().is_none());
            assert!(!service.log().contains("panicked"));
        }
        assert_eq!(self.lost(), self.lost_before);
    }
}

/// Something that is wrong with a message, and the word that tells it.
struct Garbage {
    what: &'static str,
    properties: Properties,
    body: Vec<u8>,
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.into())
}

/// A message of this type that is right in every way that concerns all messages.
fn right(r#type: &str, headers: &[(&str, Value)]) -> Properties {
    Properties {
        content_type: text("application/json"),
        headers: headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect(),
        correlation_id: text(NOBODY),
        message_id: text(&format!("{NOBODY}/1")),
        r#type: text(r#type),
    }
}

/// What is wrong in any queue. `good` is what belongs there.
fn garbage(good: &Properties) -> Vec<Garbage> {
    let garbage = |what, properties, body: &[u8]| Garbage { what, properties, body: body.into() };
    let plus = |name: &[u8], value: Value| {
        let mut properties = good.clone();
        properties.headers.push((name.into(), value));
        properties
    };
    let wrong_values = good.headers.iter().map(|(name, _)| (name.clone(), Value::Table(Vec::new()))).collect();
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    vec![
        garbage("nothing at all", Properties::default(), b""),
        garbage("not JSON", good.clone(), b"{"),
        garbage("an empty body", good.clone(), b""),
        garbage("a body nested deep", good.clone(), &deep),
        garbage("a large body", good.clone(), &vec![b'x'; 8 << 20]),
        garbage("another type", Properties { r#type: text("spam"), ..good.clone() }, b"{}"),
        garbage("another version", Properties { r#type: text("buzzer.outcome.v99"), ..good.clone() }, b"{}"),
        garbage("no headers", Properties { headers: Vec::new(), ..good.clone() }, b"{}"),
        garbage("headers of other types", Properties { headers: wrong_values, ..good.clone() }, b"{}"),
        garbage("an id of nothing", Properties { message_id: text("?"), ..good.clone() }, b"{"),
        garbage("a wrong content type", Properties { content_type: text("image/png"), ..good.clone() }, b"\x89PNG"),
        garbage(
            "an id that is not UTF-8",
            Properties { correlation_id: Some(b"\xff\xfe".into()), ..good.clone() },
            b"{}",
        ),
        garbage("a header's name that is not UTF-8", plus(b"\xc3(", "x".into()), b"{}"),
        garbage("headers nested deep", plus(b"deep", nested(1_000)), b"{}"),
    ]
}

fn outcome() -> Properties {
    let worker = "019ab4a6-2c00-7000-8000-000000000001";
    right("buzzer.outcome.v1", &[("result", "succeeded".into()), ("worker", worker.into())])
}

fn request() -> Properties {
    let headers = [
        ("kind", "echo".into()),
        ("attempt", Value::Int(1)),
        ("alone", Value::Bool(false)),
        ("timeout-ms", Value::Int(1000)),
    ];
    right("buzzer.request.v1", &headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_garbage_among_the_outcomes_is_parked_and_the_service_goes_on() {
    let mut buzzer = Invaded::start().await;
    for Garbage { what, properties, body } in garbage(&outcome()) {
        let published = Instant::now();
        buzzer.publish(("replies", b"outcome"), &properties, &body).await;
        if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() && properties == outcome() {
            // An output may be nested as it likes; this one is that of an unknown job.
            buzzer.goes_on().await;
            continue;
        }
        let parked = buzzer.the_parked_one().await;
        println!("{what}: parked and listed {:?} after its publish began: {}", published.elapsed(), parked["reason"]);
        assert_eq!(parked["from"], format!("{}.replies.v1", buzzer.name), "{what}: {parked}");
        assert!(
            parked["reason"].as_str().is_some_and(|reason| reason.contains("its ") || reason.contains("it ")),
            "{parked}"
        );
        assert_eq!(parked["size"], body.len(), "{what}");
        buzzer.goes_on().await;
        buzzer.drop_parked(&parked).await;
    }
    assert!(buzzer.parked().await.is_empty());
    buzzer.assert_unharmed();
    let log = buzzer.api.process().log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("who else may write to this queue?")).collect();
    assert!(told.len() == 3 && told.iter().all(|line| line.contains("replies.v1")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_garbage_among_the_requests_is_parked_and_the_service_goes_on() {
    let mut buzzer = Invaded::start().await;
    for Garbage { what, properties, body } in garbage(&request()) {
        buzzer.publish(("requests", b"echo"), &properties, &body).await;
        buzzer.goes_on().await;
        // To a worker any body is an input; what its handler makes of it is the outcome of an unknown job.
        if properties != request() {
            let parked = buzzer.the_parked_one().await;
            assert_eq!(parked["from"], format!("{}.requests.echo.v1", buzzer.name), "{what}: {parked}");
            buzzer.drop_parked(&parked).await;
        }
    }
    assert!(buzzer.parked().await.is_empty());
    buzzer.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_garbage_among_what_may_be_lost_is_dropped_and_the_service_goes_on() {
    let mut buzzer = Invaded::start().await;
    let routes: [((&str, &[u8]), &str); 4] = [
        (("replies", b"pulse"), "buzzer.beat.v1"),
        (("replies", b"pulse"), "buzzer.announce.v1"),
        (("replies", b"signal"), "buzzer.signal.v1"),
        // A fanout exchange takes any key, also one that is no text.
        (("control", b"\xff"), "buzzer.control.v1"),
    ];
    for (to, r#type) in routes {
        for Garbage { properties, body, .. } in garbage(&right(r#type, &[("n", Value::Int(1))])) {
            buzzer.publish(to, &properties, &body).await;
        }
        buzzer.goes_on().await;
    }
    assert!(buzzer.parked().await.is_empty());
    buzzer.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_outcomes_of_unknown_jobs_and_old_dispatches_are_ignored() {
    let mut buzzer = Invaded::start().await;
    let id = buzzer.client.accepted("echo", &json!(1)).await;
    let before = buzzer.client.done(&id, SOON).await;
    for run in [format!("{NOBODY}/1"), format!("{id}/1"), format!("{id}/99")] {
        let forged = Properties { message_id: text(&run), ..outcome() };
        buzzer.publish(("replies", b"outcome"), &forged, b"\"forged\"").await;
    }
    buzzer.goes_on().await;
    assert_eq!(buzzer.client.job(&id).await.expect("a job"), before);
    assert!(buzzer.parked().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_what_is_parked_can_be_seen_replayed_and_dropped() {
    let mut buzzer = Invaded::start().await;
    let broken = Properties { r#type: text("buzzer.outcome.v99"), ..outcome() };
    let long = format!("\"{}\"", "é".repeat(2_000));
    buzzer.publish(("replies", b"outcome"), &broken, long.as_bytes()).await;
    let parked = buzzer.the_parked_one().await;
    assert_eq!((&parked["type"], &parked["message_id"]), (&json!("buzzer.outcome.v99"), &json!(format!("{NOBODY}/1"))));
    assert_eq!(parked["headers"]["result"], "succeeded");
    assert!(long.starts_with(parked["body"].as_str().unwrap()) && parked["body"] != long.as_str(), "{parked}");
    let path = format!("/v1/parked/{}", parked["id"].as_str().unwrap());
    assert_eq!(buzzer.ask(Method::GET, &path).await.json()["body"], long.as_str());

    // Nobody can read it still, and it is parked again: the same message, under the same id.
    let replayed = buzzer.ask(Method::POST, &format!("{path}/replay")).await;
    assert_eq!(replayed.status, StatusCode::OK, "{}", replayed.text);
    assert_eq!(buzzer.the_parked_one().await["id"], parked["id"]);
    buzzer.drop_parked(&parked).await;

    // What nobody parked, but put there: it is seen, and can only be dropped.
    let odd = Properties { correlation_id: Some(b"\xff".into()), ..outcome() };
    buzzer.publish(("parking", b"\xff"), &odd, b"\xff\x00").await;
    let odd = buzzer.the_parked_one().await;
    assert_eq!((&odd["from"], &odd["reason"]), (&Json::Null, &json!("its correlation id is not UTF-8")), "{odd}");
    let path = format!("/v1/parked/{}", odd["id"].as_str().unwrap());
    assert_eq!(buzzer.ask(Method::GET, &path).await.json()["body_base64"], "/wA=");
    let refused = buzzer.ask(Method::POST, &format!("{path}/replay")).await;
    assert_eq!((refused.status, &refused.json()["type"]), (StatusCode::CONFLICT, &json!("/problems/no-way-back")));
    assert_eq!(buzzer.the_parked_one().await, odd, "it stays");
    buzzer.drop_parked(&odd).await;
    buzzer.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_replayed_message_that_can_be_read_now_has_its_effect() {
    let mut buzzer = Invaded::start().await;
    // As a worker would have parked it: nothing is wrong with the message itself.
    let mut right = request();
    right.headers.push((b"parked-from".into(), format!("{}.requests.echo.v1", buzzer.name).as_str().into()));
    right.headers.push((b"parked-reason".into(), "a worker of another age".into()));
    buzzer.publish(("parking", b""), &right, b"1").await;
    let parked = buzzer.the_parked_one().await;
    assert_eq!(parked["reason"], "a worker of another age");
    let replayed = buzzer.ask(Method::POST, &format!("/v1/parked/{}/replay", parked["id"].as_str().unwrap())).await;
    assert_eq!(replayed.status, StatusCode::OK, "{}", replayed.text);
    // It was run, for a job that nobody has.
    let api = buzzer.api.process();
    let said = async || api.log().contains("events of unknown jobs were ignored").then_some(());
    eventually("the outcome to arrive", SOON, said).await;
    assert!(buzzer.parked().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_the_command_lists_shows_replays_and_drops() {
    let buzzer = Invaded::start().await;
    let command = async |arguments: &[&str]| buzzer.api.command(&[&["parked"], arguments].concat()).await;
    assert_eq!(command(&[]).await, (0, String::new()));
    let mut foreign = buzzer.foreign;
    for exchange in ["replies", "parking"] {
        foreign.publish(&format!("{}.{exchange}", buzzer.name), b"outcome", &right("spam", &[]), b"eggs").await;
    }
    let ids = eventually("both to be parked", SOON, async || {
        let (code, table) = command(&[]).await;
        let rows: Vec<_> = table.lines().skip(1).collect();
        let ids: Vec<_> = rows.iter().filter_map(|row| row.split(' ').next()).map(ToOwned::to_owned).collect();
        assert!(code == 0 && rows.iter().all(|row| row.contains("spam") && row.ends_with("eggs")), "{table}");
        (ids.len() == 2).then_some(ids)
    })
    .await;
    let (code, shown) = command(&["show", &ids[0]]).await;
    assert_eq!((code, &serde_json::from_str::<Json>(&shown).unwrap()["body"]), (0, &json!("eggs")));
    // One came from a queue and goes back there; nobody knows where the other came from.
    let (code, replayed) = command(&["replay", "--all"]).await;
    assert_eq!((code, replayed.lines().count()), (2, 1), "{replayed}");
    eventually("both to be parked again", SOON, async || (command(&[]).await.1.lines().count() == 3).then_some(()))
        .await;
    let (code, dropped) = command(&["drop", &ids[0]]).await;
    assert_eq!((code, dropped.trim()), (0, format!("dropped {}", ids[0]).as_str()));
    assert_eq!(command(&["drop", "--all"]).await.0, 0);
    assert_eq!(command(&[]).await, (0, String::new()));
    assert_eq!(command(&["drop", &ids[0]]).await.0, 2, "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_parked_messages_are_not_seen_while_the_broker_is_away() {
    let node = RabbitNode::to_damage().await;
    let outside = Outside::on(&node);
    let api = outside.api(&[]).await;
    let _worker = outside.worker(&[]);
    api.knows("echo").await;
    node.stop().await;
    for path in ["/v1/parked", "/v1/parked/0123456789abcdef"] {
        let answer = api.client().get(path).await.expect("an answer");
        assert_eq!(
            (answer.status, &answer.json()["type"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("/problems/broker-away"))
        );
    }
    node.start_again().await;
    eventually("the parking queue to be back", SOON, async || {
        api.client().get("/v1/parked").await.ok().filter(|answer| answer.status == StatusCode::OK)
    })
    .await;
}
