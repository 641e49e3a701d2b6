//! What open streams of events cost, and how soon an event is on its way.
//!
//! ```text
//! cargo build --release --workspace && target/release/streams [--streams N] [--events N]
//! ```
//! Opens that many streams of as many jobs that wait for their time (`buzzer up`: SQLite, everything in one process), and
//! tells how much more memory the process takes for each. Then it cancels some of the jobs, one after the other, and takes
//! the time from sending the cancel to its answer, and to the first byte of the event on that job's stream; and the same
//! for jobs that are submitted, on a stream of the tenant's feed. The commit lies between, so the time from the commit to
//! the event is less than that.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use buzzer_tests::load::memory_mib;
use buzzer_tests::outside::Outside;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use reqwest::Method;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between two events: an idle machine is what is measured.
const PACE: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() -> Result<()> {
    let (streams, events) = arguments(std::env::args().skip(1))?;
    ensure!(events <= streams, "each event is one of a job with a stream");
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("more open files")?;
    let bound = (streams + 10).to_string();
    let log = "warn,buzzer_api::app=info";
    let mut api = Outside::up(&[("BUZZER_MAX_STREAMS", bound.as_str()), ("BUZZER_LOG", log)]).await;
    let (client, address) = (api.client(), api.address().to_string());

    let body = json!({ "input": 1, "delay": "1h" }).to_string();
    let submitted = stream::iter(0..streams).map(|_| async {
        let request = client.request(Method::POST, "/v1/jobs/echo").header("content-type", "application/json");
        let answer = client.send(request.body(body.clone())).await?;
        Ok::<_, anyhow::Error>(answer.json()["id"].as_str().context("an id")?.to_owned())
    });
    let ids: Vec<String> = submitted.buffered(AT_ONCE).try_collect().await?;
    let before = memory_mib(api.process().id())?;
    let opened = stream::iter(&ids).map(|id| Open::at(&address, format!("/v1/jobs/{id}/events")));
    let mut open: Vec<Open> = opened.buffered(AT_ONCE).try_collect().await?;
    let each = 1024.0 * (memory_mib(api.process().id())? - before) / streams as f64;
    println!("{streams} idle streams: {each:.1} KiB each");

    let (mut answered, mut shown) = (histogram()?, histogram()?);
    for (id, stream) in ids.iter().zip(&mut open).take(events) {
        let request = client.request(Method::POST, &format!("/v1/jobs/{id}/cancel"));
        measure(client.send(request), stream, &mut answered, &mut shown).await?;
    }
    print("cancel, answered", &answered);
    print("cancel, on its job's stream", &shown);

    let mut feed = Open::at(&address, "/v1/events?state=scheduled".into()).await?;
    let (mut answered, mut shown) = (histogram()?, histogram()?);
    for _ in 0..events {
        let request = client.request(Method::POST, "/v1/jobs/echo").header("content-type", "application/json");
        measure(client.send(request.body(body.clone())), &mut feed, &mut answered, &mut shown).await?;
    }
    print("submitted, answered", &answered);
    print("submitted, on the feed", &shown);
    Ok(())
}

/// Does something, and takes the time to its answer and to the event that comes of it.
async fn measure(
    act: impl Future<Output = Result<buzzer_tests::client::Answer, buzzer_tests::client::NoAnswer>>,
    stream: &mut Open,
    answered: &mut Histogram<u64>,
    shown: &mut Histogram<u64>,
) -> Result<()> {
    tokio::time::sleep(PACE).await;
    let began = Instant::now();
    let answer = async {
        let answer = act.await?;
        ensure!(answer.status.is_success(), "{}", answer.text);
        Ok(began.elapsed())
    };
    let event = async {
        stream.first_byte().await?;
        Ok(began.elapsed())
    };
    let (answer, event) = tokio::try_join!(answer, event)?;
    answered.record(u64::try_from(answer.as_micros())?)?;
    shown.record(u64::try_from(event.as_micros())?)?;
    Ok(())
}

/// A stream, on a bare socket: ten thousand of them must not cost much on this side.
struct Open(TcpStream);

impl Open {
    /// Answers once the stream has begun, and nothing more is on its way.
    async fn at(address: &str, path: String) -> Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let feed = path.starts_with("/v1/events");
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read);
            ensure!(text.is_empty() || text.starts_with("HTTP/1.1 200") || text.len() < 12, "{text}");
            // A job has one event already; a feed only says where it begins.
            if text.contains(if feed { "id: f" } else { "job.accepted\"" }) && text.ends_with("\n\n\r\n") {
                return Ok(Self(socket));
            }
            if socket.read_buf(&mut read).await? == 0 {
                bail!("the stream has ended: {}", String::from_utf8_lossy(&read));
            }
        }
    }

    /// Takes all that is there, and waits for it if nothing is.
    async fn first_byte(&mut self) -> Result<()> {
        self.0.readable().await?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.0.try_read(&mut buffer) {
                Ok(0) => bail!("the stream has ended"),
                // A sign of life may come in between.
                Ok(read) if buffer[..read].starts_with(b"3\r\n:") || buffer[..read].starts_with(b"2\r\n:") => {
                    self.0.readable().await?;
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.readable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

fn print(what: &str, times: &Histogram<u64>) {
    let [p50, p99] = [0.5, 0.99].map(|quantile| times.value_at_quantile(quantile) as f64 / 1000.0);
    println!("{what}: p50 {p50:.2} ms, p99 {p99:.2} ms");
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(usize, usize)> {
    let (mut streams, mut events) = (10_000, 300);
    while let Some(name) = given.next() {
        let value = given.next().with_context(|| format!("{name} needs a number"))?.parse()?;
        match name.as_str() {
            "--streams" => streams = value,
            "--events" => events = value,
            _ => bail!("--streams or --events, not {name}"),
        }
    }
    Ok((streams, events))
}
