//! What the endpoints share.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use buzzer_shared::broker::Line;
use buzzer_shared::egress::AllowList;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;
use buzzer_shared::topology::Topology;
use tokio::sync::watch;

use crate::auth::Gate;
use crate::bounds::Bounds;
use crate::catalog::Catalog;
use crate::dispatch::Outbox;
use crate::feeds::Feeds;
use crate::journal::Journal;
use crate::lanes::Lanes;
use crate::origins::Origins;
use crate::parking::Parking;
use crate::readiness::Readiness;
use crate::retention::Retention;
use crate::store::Store;
use crate::wake::Wake;

/// What each endpoint is given. axum clones it for each request, so it is one pointer.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Handles>);

/// Cheap handles only.
#[derive(Debug, Clone)]
pub struct Handles {
    pub gate: Gate,
    pub store: Arc<dyn Store>,
    pub journal: Journal,
    pub catalog: Catalog,
    pub lanes: Lanes,
    pub outbox: Outbox,
    pub bounds: Bounds,
    pub wake: Wake,
    pub feeds: Feeds,
    pub line: watch::Receiver<Line>,
    pub topology: Topology,
    pub parking: Parking,
    pub readiness: Readiness,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
    /// The largest body, in bytes.
    pub max_body: usize,
    pub retention: Retention,
    /// Whose pages may open a WebSocket.
    pub origins: Origins,
    /// The private networks that webhooks may be in.
    pub egress_allow: AllowList,
    pub claim_lease: Duration,
}

impl From<Handles> for AppState {
    fn from(handles: Handles) -> Self {
        Self(Arc::new(handles))
    }
}

impl Deref for AppState {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

impl FromRef<AppState> for Gate {
    fn from_ref(state: &AppState) -> Self {
        state.gate.clone()
    }
}
