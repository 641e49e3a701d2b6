//! A whole Buzzer inside the test's process: the API on a free port, the embedded broker, and workers.

use std::sync::Arc;
use std::time::Duration;

use buzzer_api::app::{App, BrokerLine};
use buzzer_api::config::{ApiConfig, AuthMode, Leases, StoreAddress, WebhookConfig};
use buzzer_api::origins::Origins;
use buzzer_api::retention::Retention;
use buzzer_shared::broker::Broker;
use buzzer_shared::broker::embedded::EmbeddedBroker;
use buzzer_shared::config::ByteSize;
use buzzer_shared::egress::AllowList;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Span, SystemClock};
use buzzer_shared::topology::Topology;
use buzzer_worker::{StockConfig, WorkerBuilder, WorkerConfig, stock_worker};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::conformance::{self, Answered};
use crate::wait::eventually;

/// The largest body that [`Inside`] takes.
pub const MAX_BODY: usize = 64 * 1024;

/// A running Buzzer. Stops when it is told to, and with the test's runtime at the latest.
#[derive(Debug)]
pub struct Inside {
    base: String,
    client: reqwest::Client,
    broker: Arc<dyn Broker>,
    shutdown: Shutdown,
    app: JoinHandle<()>,
    workers: Vec<(Shutdown, JoinHandle<()>)>,
    folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Inside {
    /// With the stock worker and its demo kinds. Answers once they are announced.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with settings of the API changed.
    pub async fn with(change: impl FnOnce(&mut ApiConfig)) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut inside = Self::start_in(folder, change).await;
        inside.work(stock_worker(&StockConfig { demo: true, ..StockConfig::default() })).await;
        inside
    }

    /// The same, with networks that its jobs and webhooks may call although they are not public, as `BUZZER_EGRESS_ALLOW`
    /// has them.
    pub async fn start_allowing(networks: &str) -> Self {
        Self::allowing(networks, |_| {}).await
    }

    /// The same, with settings of the API changed.
    pub async fn allowing(networks: &str, change: impl FnOnce(&mut ApiConfig)) -> Self {
        let (folder, allow) = (TempDir::new().expect("a temporary folder"), networks.parse().expect("networks"));
        let egress_allow = AllowList::clone(&allow);
        let mut inside = Self::start_in(folder, |config| {
            config.webhooks.egress_allow = allow;
            change(config);
        })
        .await;
        inside.work(stock_worker(&StockConfig { demo: true, egress_allow, ..StockConfig::default() })).await;
        inside
    }

    /// With the settings and the kinds that Buzzer has unless somebody says otherwise, as far as the documents show them.
    pub async fn as_it_comes() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut inside = Self::start_in(folder, |config| config.max_body = ByteSize(1 << 20)).await;
        inside.work(stock_worker(&StockConfig::default())).await;
        inside
    }

    pub async fn without_worker() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self::start_in(folder, |_| {}).await
    }

    async fn start_in(folder: TempDir, change: impl FnOnce(&mut ApiConfig)) -> Self {
        // reqwest takes its TLS provider from the process. The only error is that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(SystemClock);
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(Arc::<SystemClock>::clone(&clock)));
        let shutdown = Shutdown::default();
        let mut config = ApiConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            store: StoreAddress::Sqlite(folder.path().join("buzzer.db")).into(),
            auth: AuthMode::Off,
            max_body: ByteSize(MAX_BODY),
            keep: Retention::new(Span::from_secs(3600)),
            max_waiting: 1_000_000,
            max_stored: ByteSize(1 << 40),
            max_streams: 100,
            origins: Origins::default(),
            webhooks: WebhookConfig::default(),
            worker_user: None,
            drain: Span::from_secs(5),
            leases: Leases { claim_lease: Span::from_secs(30), run_lease: Span::from_secs(60) },
        };
        change(&mut config);
        let line = BrokerLine { broker: Arc::clone(&broker), topology: topology(), durable: false };
        let app = App::start(config, line, clock, shutdown.clone()).await.expect("the API starts");
        let base = format!("http://{}", app.address());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(90)).no_proxy().build().expect("a client");
        Self {
            base,
            client,
            broker,
            shutdown,
            app: tokio::spawn(async move { app.stopped().await.expect("the API stops in order") }),
            workers: Vec::new(),
            folder,
        }
    }

    /// Adds a worker. Answers once its kinds are known and can go out.
    pub async fn work(&mut self, worker: WorkerBuilder) {
        let config = WorkerConfig { drain: Span::from_secs(1), ..WorkerConfig::default() };
        let worker = worker.config(config).build().expect("a worker");
        let (shutdown, broker) = (Shutdown::default(), Arc::clone(&self.broker));
        let before = self.workers_known().await;
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            worker.run(broker, topology(), stop).await.expect("the worker runs");
        });
        self.workers.push((shutdown, running));
        eventually("the worker is known", Duration::from_secs(10), async || {
            (self.workers_known().await > before).then_some(())
        })
        .await;
    }

    /// Stops every worker, as SIGTERM would. Answers once the API knows.
    pub async fn stop_workers(&mut self) {
        for (shutdown, running) in self.workers.drain(..) {
            shutdown.request();
            running.await.expect("the worker stops");
        }
        eventually("the workers are gone", Duration::from_secs(10), async || {
            (self.workers_known().await == 0).then_some(())
        })
        .await;
    }

    /// Asks every worker to stop, and does not wait.
    pub fn ask_workers_to_stop(&self) {
        self.workers.iter().for_each(|(shutdown, _)| shutdown.request());
    }

    async fn workers_known(&self) -> usize {
        self.get("/v1/workers").await.json()["items"].as_array().map_or(0, Vec::len)
    }

    /// Stops everything, as SIGTERM would, and starts the API again on the same store.
    pub async fn restart(mut self) -> Self {
        self.stop_workers().await;
        self.restart_beside_workers().await
    }

    /// Stops the API, as SIGTERM would, and starts it again on the same store, with a new broker. Workers that are not
    /// its own are not asked.
    pub async fn restart_beside_workers(self) -> Self {
        self.shutdown.request();
        self.app.await.expect("the API stops");
        Self::start_in(self.folder, |_| {}).await
    }

    /// The broker, to speak past the API.
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// A client of its own.
    pub fn client(&self) -> Client {
        Client::new(&self.base)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let (asked, response) = conformance::send(request).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("a whole answer");
        asked.answered(&Answered { status, headers: &headers, body: Some(text.as_bytes()) }).await;
        Answer { status, headers, text }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Submits a job with a body that is JSON, or is meant to be.
    pub async fn submit(&self, kind: &str, body: &str) -> Answer {
        self.send(self.submission(kind, body)).await
    }

    /// Submits a job and waits for its end, at most a minute.
    pub async fn run(&self, kind: &str, body: &str) -> Value {
        let answer = self.send(self.submission(kind, body).header("prefer", "wait=60")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    }

    pub fn submission(&self, kind: &str, body: &str) -> RequestBuilder {
        let request = self.request(Method::POST, &format!("/v1/jobs/{kind}"));
        request.header("content-type", "application/json").body(body.to_owned())
    }

    /// How many jobs are stored, 500 at most.
    pub async fn count(&self) -> usize {
        self.get("/v1/jobs?limit=500").await.json()["items"].as_array().expect("a list").len()
    }
}

/// The names on its broker.
pub fn topology() -> Topology {
    Topology::new("buzzer")
}
