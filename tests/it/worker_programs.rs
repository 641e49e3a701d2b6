//! `examples/worker-programs` as it stands, with all the real programs that its own call.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use buzzer_tests::client::Client;
use buzzer_tests::outside::{Api, Outside};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
/// What is said of audio that is not taken.
const NO_AUDIO: &str = "audio is no AAC, AIFF, FLAC, MP3, MP4, Ogg, WAV or WebM that ffmpeg can read";

async fn system() -> Api {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let file = root.join("examples/worker-programs/worker.toml");
    let system = Outside::up(&[("BUZZER_WORKER_CONFIG", file.to_str().unwrap())]).await;
    system.knows("orders.total").await;
    system
}

async fn run(client: &Client, kind: &str, input: &Value) -> Value {
    let id = client.accepted(kind, input).await;
    client.done(&id, LIMIT).await
}

async fn output(client: &Client, kind: &str, input: &Value) -> Value {
    let mut job = run(client, kind, input).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job["output"].take()
}

fn bytes(base64: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(base64.as_str().unwrap()).unwrap()
}

/// A second of silence, as a WAV file.
fn silence() -> Vec<u8> {
    let (rate, size) = (8000_u32, 16_000_u32);
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + size).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(rate.to_le_bytes());
    wav.extend((rate * 2).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(size.to_le_bytes());
    wav.resize(wav.len() + 16_000, 0);
    wav
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_does_what_it_says() {
    let system = system().await;
    let client = system.client();
    for kind in ["image.thumbnail", "text.count", "orders.total"] {
        let kind = client.get(&format!("/v1/kinds/{kind}")).await.unwrap().json();
        let name = kind["name"].as_str().unwrap_or_else(|| panic!("{kind}"));
        assert!(!kind["title"].as_str().unwrap().is_empty() && kind["title"] != name, "{kind}");
        output(&client, name, &kind["example"]).await;
    }

    let kind = client.get("/v1/kinds/image.thumbnail").await.unwrap().json();
    let thumbnail = output(&client, "image.thumbnail", &kind["example"]).await;
    let png = bytes(&thumbnail["image"]);
    assert_eq!((&png[..8], &png[16..24]), (&b"\x89PNG\r\n\x1a\n"[..], &b"\0\0\0\x02\0\0\0\x01"[..]));
    assert_eq!((&thumbnail["width"], &thumbnail["height"]), (&json!(2), &json!(1)));

    let wav = BASE64_STANDARD.encode(silence());
    for (to, beginning) in [("flac", &b"fLaC"[..]), ("mp3", b"ID3"), ("opus", b"OggS")] {
        let job = run(&client, "audio.convert", &json!({ "to": to, "audio": wav })).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(job["output"]["seconds"].as_f64(), Some(1.0), "{to}");
        assert!(bytes(&job["output"]["audio"]).starts_with(beginning), "{to}");
        let path = format!("/v1/jobs/{}/events?limit=100", job["id"].as_str().unwrap());
        let log = client.send(client.request(Method::GET, &path).header("accept", "application/json")).await.unwrap();
        assert!(log.text.contains("job.progress"), "{to}: {}", log.text);
    }

    let words = "buzzer ".repeat(5000);
    let counted = output(&client, "text.count", &json!({ "text": words })).await;
    assert_eq!(counted, json!({ "words": 5000, "longest": "buzzer" }));
    let orders = json!({ "orders": [{ "customer": "7", "cents": 450 }, { "customer": "7", "cents": 50 }] });
    assert_eq!(output(&client, "orders.total", &orders).await, json!({ "7": 500 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_by_the_api_or_by_the_program() {
    let system = system().await;
    let client = system.client();
    let answer = client.submit("text.count", &json!({ "txt": "x" }), None).await.unwrap();
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
    let hello = BASE64_STANDARD.encode("hello");
    for (kind, input, slug, detail) in [
        ("text.count", json!({ "text": " " }), "no-words", "there are no words in it"),
        ("image.thumbnail", json!({ "format": "png", "width": 1, "image": hello }), "no-image", "image is no png"),
        ("image.thumbnail", json!({ "format": "png", "width": 1, "image": "?" }), "no-image", "image is no Base64"),
        ("audio.convert", json!({ "to": "mp3", "audio": hello }), "no-audio", NO_AUDIO),
    ] {
        let job = run(&client, kind, &input).await;
        let problem = &job["error"];
        assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(1)), "{job}");
        assert_eq!(problem["type"], format!("https://example.com/problems/{slug}"), "{problem}");
        assert_eq!(problem["detail"], detail, "{problem}");
    }
}

/// What came back would be another file of the worker's.
#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_is_no_audio() {
    let system = system().await;
    let client = system.client();
    let input = json!({ "to": "mp3", "audio": BASE64_STANDARD.encode(silence()) });
    let mp3 = bytes(&output(&client, "audio.convert", &input).await["audio"]);
    let directory = TempDir::new().unwrap();
    let other = directory.path().join("other.mp3");
    std::fs::write(&other, mp3).unwrap();
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", other.display());
    let input = json!({ "to": "flac", "audio": BASE64_STANDARD.encode(playlist) });
    let job = run(&client, "audio.convert", &input).await;
    assert_eq!((&job["state"], &job["output"]), (&json!("failed"), &Value::Null), "{job}");
    let problem = &job["error"];
    assert_eq!(problem["type"], "https://example.com/problems/no-audio", "{problem}");
    assert_eq!(problem["detail"], NO_AUDIO, "{problem}");
}
