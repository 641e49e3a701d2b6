//! API keys: who is let in, and what each sees.

use std::time::Duration;

use buzzer_tests::client::{Answer, Client};
use buzzer_tests::events::EventStream;
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::{Value, json};

const KEYS: &[(&str, &str)] = &[("BUZZER_AUTH", "keys")];
const LIMIT: Duration = Duration::from_secs(30);
/// Nobody's.
const UNKNOWN: &str = "bz_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An API that asks for keys, and a worker, whose kinds it knows.
async fn guarded() -> (Api, Service) {
    let outside = Outside::on(RabbitNode::shared().await);
    let (api, worker) = (outside.api(KEYS).await, outside.worker(&[]));
    api.knows("echo").await;
    (api, worker)
}

/// A client with a new key.
async fn owner(api: &Api, arguments: &[&str]) -> Client {
    api.client().with_key(&api.key(arguments).await)
}

async fn status(client: &Client, path: &str) -> u16 {
    client.get(path).await.unwrap().status.as_u16()
}

async fn call(client: &Client, method: &Method, path: &str) -> Answer {
    client.send(client.request(method.clone(), path)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_tenant_can_neither_see_nor_touch_what_another_has() {
    let (api, _worker) = guarded().await;
    let (shop, bank) = (owner(&api, &["--tenant", "shop"]).await, owner(&api, &["--tenant", "bank"]).await);
    let done = shop.accepted("echo", &json!("soup")).await;
    shop.done(&done, LIMIT).await;
    let order = json!({ "input": 1, "delay": "1h", "tags": { "table": "7" } });
    let waiting = shop.send(shop.request(Method::POST, "/v1/jobs/echo").json(&order)).await.unwrap().json();
    let waiting = waiting["id"].as_str().unwrap();

    for id in [done.as_str(), waiting] {
        let job = format!("/v1/jobs/{id}");
        for (method, path) in [
            (Method::GET, job.clone()),
            (Method::GET, format!("{job}?wait=60")),
            (Method::GET, format!("{job}?wait=60&after=0")),
            (Method::GET, format!("{job}/result")),
            (Method::GET, format!("{job}/events")),
            (Method::POST, format!("{job}/cancel")),
            (Method::POST, format!("{job}/retry")),
            (Method::DELETE, job.clone()),
        ] {
            let what = format!("{method} {path}");
            let answer = within(&what, LIMIT, call(&bank, &method, &path)).await;
            assert_eq!(answer.status, 404, "{what}: {}", answer.text);
            assert_eq!(answer.json()["type"], "/problems/unknown-job", "{what}");
        }
    }
    for list in ["/v1/jobs", "/v1/jobs?kind=echo", "/v1/jobs?tag=table:7", "/v1/jobs?state=succeeded"] {
        assert_eq!(bank.get(list).await.unwrap().json()["items"], json!([]), "{list}");
        assert_ne!(shop.get(list).await.unwrap().json()["items"], json!([]), "{list}");
    }

    assert_eq!(shop.job(&done).await.unwrap()["output"], "soup");
    assert_eq!(shop.job(waiting).await.unwrap()["state"], "scheduled", "nobody canceled it");
    assert_eq!(call(&shop, &Method::POST, &format!("/v1/jobs/{waiting}/cancel")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_an_idempotency_key_belongs_to_its_tenant() {
    let (api, _worker) = guarded().await;
    let (shop, bank) = (owner(&api, &["--tenant", "shop"]).await, owner(&api, &["--tenant", "bank"]).await);
    let submit = async |client: &Client, input: Value| {
        let answer = client.submit("echo", &input, Some("order-7")).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let (one, other) = (submit(&shop, json!(1)).await, submit(&bank, json!(2)).await);
    assert_ne!(one, other);
    assert_eq!(submit(&owner(&api, &["--tenant", "shop"]).await, json!(1)).await, one, "of the tenant, not of the key");
    assert_eq!(
        (shop.done(&one, LIMIT).await["output"].clone(), bank.done(&other, LIMIT).await["output"].clone()),
        (1.into(), 2.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_keys_belongs_to_the_default_tenant() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut open = outside.api(&[]).await;
    let _worker = outside.worker(&[]);
    open.knows("echo").await;
    let id = open.client().accepted("echo", &json!("before")).await;
    open.client().done(&id, LIMIT).await;
    open.process().terminate().await;

    let api = outside.api(&[("BUZZER_STORE", &*open.store()), ("BUZZER_AUTH", "keys")]).await;
    assert_eq!(owner(&api, &[]).await.job(&id).await.unwrap()["output"], "before");
    assert_eq!(status(&owner(&api, &["--tenant", "shop"]).await, &format!("/v1/jobs/{id}")).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_under_v1_is_reached_without_a_key() {
    let (api, _worker) = guarded().await;
    let (nobody, stranger) = (api.client(), api.client().with_key(UNKNOWN));
    let (tenant, operator) = (owner(&api, &[]).await, owner(&api, &["--scope", "operator"]).await);
    let document = nobody.get("/openapi.json").await.unwrap().json();
    let (mut guarded, mut for_operators) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        let id = "019ab4a6-2c00-7000-8000-000000000000";
        let address =
            path.replace("{job}", id).replace("{kind}", "echo").replace("{id}", "0").replace("{slug}", "internal");
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let what = format!("{method} {path}");
            if !path.starts_with("/v1/") {
                assert_eq!(call(&nobody, &method, &address).await.status, 200, "{what}");
                assert!(operation.get("security").is_none(), "{what}");
                continue;
            }
            guarded += 1;
            for (client, challenge) in [(&nobody, "Bearer"), (&stranger, "Bearer error=\"invalid_token\"")] {
                let answer = client.request(method.clone(), &address).send().await.unwrap();
                assert_eq!(answer.status(), 401, "{what}");
                assert_eq!(answer.headers()["www-authenticate"], challenge, "{what}");
                let problem: Value = answer.json().await.unwrap();
                assert_eq!(problem["type"], "/problems/unauthorized", "{what}");
                assert!(!problem.to_string().contains(UNKNOWN), "{what}");
            }
            if operation["security"][0]["key"] == json!(["operator"]) {
                for_operators += 1;
                let refused = call(&tenant, &method, &address).await;
                assert_eq!((refused.status.as_u16(), &refused.json()["scope"]), (403, &json!("operator")), "{what}");
                assert_eq!(refused.json()["type"], "/problems/forbidden", "{what}");
                assert_ne!(call(&operator, &method, &address).await.status, 403, "{what}");
            } else {
                // Not read to its end: a stream has none.
                let let_in = tenant.request(method.clone(), &address).send().await.unwrap();
                assert!(![401, 403].contains(&let_in.status().as_u16()), "{what}: {let_in:?}");
            }
        }
    }
    assert!(guarded > 15, "{guarded}");
    assert_eq!(for_operators, 6, "workers, stats, and four of parked messages");
    for page in ["unauthorized", "forbidden"] {
        assert_eq!(status(&nobody, &format!("/problems/{page}")).await, 200, "{page}");
    }
}

/// A stream may last for days, and its key no longer.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_stream_shows_its_tenants_events_alone_and_ends_when_its_key_is_revoked() {
    let (api, _worker) = guarded().await;
    let key = api.key(&["--tenant", "shop"]).await;
    let shop = api.client().with_key(&key);
    let other = owner(&api, &["--tenant", "other"]).await;
    let mut feed = EventStream::open(shop.request(Method::GET, "/v1/events?after=f0")).await.unwrap().unwrap();
    let foreign = other.accepted("echo", &json!(1)).await;
    other.done(&foreign, LIMIT).await;
    let own = shop.accepted("echo", &json!(2)).await;
    let first = within("an event", LIMIT, feed.next()).await.unwrap().unwrap();
    assert_eq!(first.event["job_id"], own);

    let (_, list) = api.command(&["keys", "list"]).await;
    let id = list.lines().find(|line| line.contains("shop")).unwrap().split(' ').next().unwrap();
    assert_eq!(api.command(&["keys", "revoke", id]).await.0, 0);
    within("the end of the stream", LIMIT, async { while feed.next().await.unwrap().is_some() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lets_in_until_it_is_revoked_and_is_kept_nowhere() {
    let (mut api, _worker) = guarded().await;
    let key = api.key(&["--tenant", "shop", "--name", "web server", "--scope", "operator"]).await;
    let client = api.client().with_key(&key);
    assert_eq!(status(&client, "/v1/stats").await, 200);
    let job = client.accepted("echo", &json!(1)).await;
    client.done(&job, LIMIT).await;

    let (code, list) = api.command(&["keys", "list"]).await;
    let line = list.lines().find(|line| line.contains("web server")).unwrap();
    let id = line.split(' ').next().unwrap();
    assert!(code == 0 && line.contains("shop") && line.contains("operator"), "{list}");
    assert_eq!(api.command(&["keys", "revoke", "0123456789ab"]).await.0, 2, "there is no such key");
    assert_eq!(status(&client, "/v1/jobs").await, 200);
    assert_eq!(api.command(&["keys", "revoke", id]).await, (0, format!("{id}  revoked\n")));
    eventually("the key to be of no use", LIMIT, async || (status(&client, "/v1/jobs").await == 401).then_some(()))
        .await;
    let (_, list) = api.command(&["keys", "list"]).await;
    assert_eq!(list.lines().count(), 2, "the header, and one key: {list}");

    let file = api.store().strip_prefix("sqlite:").unwrap().to_owned();
    let stored = [std::fs::read(&file).unwrap(), std::fs::read(format!("{file}-wal")).unwrap()].concat();
    let secret = key.strip_prefix("bz_").unwrap();
    assert!(!stored.windows(secret.len()).any(|part| part == secret.as_bytes()), "the store has it");
    assert!(stored.windows(id.len()).any(|part| part == id.as_bytes()), "this is the file that the key is in");
    assert!(!api.process().log().contains(secret) && !list.contains(secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_on_every_replica_and_is_revoked_on_all() {
    let store = PostgresServer::shared().await.database().await;
    let outside = Outside::on(RabbitNode::shared().await);
    let settings = [("BUZZER_STORE", store.as_str()), ("BUZZER_AUTH", "keys")];
    let apis = [outside.api(&settings).await, outside.api(&settings).await];
    let key = apis[0].key(&["--tenant", "shop"]).await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for api in &apis {
            statuses.push(status(&api.client().with_key(&key), "/v1/jobs").await);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200]);
    let (_, list) = apis[1].command(&["keys", "list"]).await;
    let id = list.lines().last().unwrap().split(' ').next().unwrap();
    assert_eq!(apis[1].command(&["keys", "revoke", id]).await.0, 0, "{list}");
    eventually("both to know", LIMIT, async || (statuses().await == [401, 401]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_in_an_empty_database_and_change_none_of_an_older_version() {
    let server = PostgresServer::shared().await;
    let store = server.database().await;
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(&[]).await;
    let command = async |command: &str| api.command(&["keys", command, "--store", &store]).await;
    assert_eq!(command("list").await, (3, String::new()), "there is nothing yet");
    assert_eq!(command("create").await.0, 0);
    assert_eq!(command("list").await.1.lines().count(), 2, "the header, and one key");

    let client = server.client(store.rsplit('/').next().unwrap().split('?').next().unwrap()).await;
    let latest = "version = (SELECT max(version) FROM refinery_schema_history)";
    client.batch_execute(&format!("DELETE FROM refinery_schema_history WHERE {latest}")).await.unwrap();
    for refused in ["list", "create"] {
        assert_eq!(command(refused).await, (3, String::new()), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_takes_a_key_and_says_when_it_lacks_one() {
    let (api, _worker) = guarded().await;
    let key = api.key(&["--tenant", "shop"]).await;
    let run = async |key: &[&str]| api.command(&[&["submit", "echo", "--input", "7", "--wait"], key].concat()).await;
    assert_eq!(run(&["--key", &key]).await, (0, "7\n".into()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key}\n")).unwrap();
    assert_eq!(run(&["--key-file", file.path().to_str().unwrap()]).await, (0, "7\n".into()));
    assert_eq!(run(&["--key", "order-4711"]).await, (2, String::new()), "that is an idempotency key");
    assert_eq!(run(&[]).await, (2, String::new()));
    assert_eq!(run(&["--key", UNKNOWN]).await, (2, String::new()));
    assert_eq!(api.command(&["parked", "--key", &key]).await.0, 2, "only an operator");
    assert_eq!(api.command(&["keys", "create", "--tenant", "No Such"]).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_key_from_the_network() {
    let outside = Outside::on(RabbitNode::shared().await);
    let (status, said) = outside.api_that_fails(&[("BUZZER_AUTH", "off"), ("BUZZER_LISTEN", "0.0.0.0:0")]).await;
    assert!(!status.success() && said.contains("BUZZER_AUTH=keys"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let api = outside.api(KEYS).await;
    assert!(api.command(&["up", "--listen", "0.0.0.0:0"]).await.0 == 1, "`buzzer up` is off unless told otherwise");
}
