//! The API as one process: on a runtime of its own, so that it can be killed without a goodbye.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buzzer_api::app::{App, BrokerLine};
use buzzer_api::config::StoreAddress;
use buzzer_shared::broker::Broker;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Span, SystemClock};
use buzzer_tests::client::Client;
use buzzer_tests::hostile::{HostileBroker, HostileNode};
use buzzer_tests::inside::topology;
use buzzer_tests::model::api_config;
use tokio::runtime::{Builder, Runtime};

/// Long enough for whatever its threads have begun.
const DEATH: Duration = Duration::from_secs(30);

/// A running API. Dropped, it is killed, but nobody waits for its end.
#[derive(Debug)]
pub struct Api {
    runtime: Option<Runtime>,
    line: Arc<HostileBroker>,
    client: Client,
}

impl Api {
    /// Starts one on the store in `folder`. `durable` says whether it may rely on it that what `node` carries outlives
    /// it.
    pub async fn start(folder: &Path, node: &HostileNode, durable: bool, lease: Span) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let line = Arc::new(node.line());
        let broker: Arc<dyn Broker> = Arc::<HostileBroker>::clone(&line);
        let config = api_config(StoreAddress::Sqlite(store(folder)), lease);
        let line_of_app = BrokerLine { broker, topology: topology(), durable };
        let starting = App::start(config, line_of_app, Arc::new(SystemClock), Shutdown::default());
        let app = runtime.spawn(starting).await.expect("no panic").expect("the API starts");
        let client = Client::new(format!("http://{}", app.address()));
        runtime.spawn(app.stopped());
        Self { runtime: Some(runtime), line, client }
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Kills it where it stands. When this ends, nothing of it runs on, and its store is free.
    pub async fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            let dying = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEATH));
            dying.await.expect("it dies");
        }
        // As the line of a process that is gone breaks: what it has not acknowledged comes again.
        self.line.close().await;
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The store's file.
pub fn store(folder: &Path) -> std::path::PathBuf {
    folder.join("buzzer.db")
}
