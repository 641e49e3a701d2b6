//! What the endpoints share.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::Line;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;
use tokio::sync::watch;

use crate::bounds::Bounds;
use crate::catalog::Catalog;
use crate::dispatch::Outbox;
use crate::journal::Journal;
use crate::lanes::Lanes;
use crate::parking::Parking;
use crate::retention::Retention;
use crate::store::Store;
use crate::wake::Wake;

/// Cheap handles only.
#[derive(Debug, Clone)]
pub struct AppState {
    pub store: Arc<dyn Store>,
    pub journal: Journal,
    pub catalog: Catalog,
    pub lanes: Lanes,
    pub outbox: Outbox,
    pub bounds: Bounds,
    pub wake: Wake,
    pub line: watch::Receiver<Line>,
    pub parking: Parking,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
    /// The largest body, in bytes.
    pub max_body: usize,
    pub retention: Retention,
    pub claim_lease: Duration,
}
