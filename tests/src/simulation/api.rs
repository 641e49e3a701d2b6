use std::sync::Arc;

use axum::Router;
use buzzer_api::app::{self, BrokerLine, Engine, Kept};
use buzzer_api::config::StoreAddress;
use buzzer_api::store::Store;
use buzzer_shared::broker::Broker;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Span};

use super::life::Life;
use super::mortal::{MortalLine, MortalStore};
use crate::client::Client;
use crate::hostile::HostileBroker;
use crate::inside::topology;
use crate::model::api_config;

/// What a process of the API finds when it starts.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lease: Span,
    /// Whether what the broker carries outlives the process.
    pub(super) durable: bool,
}

/// An API with everything but its listener.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) life: Life,
    engine: Engine,
    client: Client,
    line: Arc<HostileBroker>,
}

impl Api {
    /// `None` when it was killed before it ran, or the store failed it: then it is to be started again.
    pub(super) async fn start(around: &Surroundings, line: HostileBroker, life: Life) -> Option<Self> {
        let line = Arc::new(line);
        let broker: Arc<dyn Broker> = Arc::new(MortalLine { line: Arc::clone(&line), life: life.clone() });
        let store = Arc::new(MortalStore { store: Arc::clone(&around.store), life: life.clone() });
        let kept = Kept { store, clock: Arc::clone(&around.clock) };
        let broker_line = BrokerLine { broker, topology: topology(), durable: around.durable };
        let (config, shutdown) = (api_config(StoreAddress::default(), around.lease), Shutdown::default());
        let killed = life.end();
        let started = tokio::select! {
            biased;
            () = killed.cancelled() => None,
            started = Engine::start(config, broker_line, kept, &shutdown) => started.ok(),
        };
        let Some(engine) = started else {
            life.kill();
            line.close().await;
            return None;
        };
        let router: Router = app::router(engine.handles.clone().into());
        Some(Self { client: Client::inside(router, killed), life, engine, line })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// How many jobs it thinks are out.
    pub(super) fn out(&self) -> usize {
        self.engine.handles.lanes.out()
    }

    /// Kills it where it stands. What it has not acknowledged comes again.
    pub(super) async fn kill(self) {
        self.life.kill();
        drop(self.engine);
        self.line.close().await;
    }
}
