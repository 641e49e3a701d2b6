//! What the endpoints share.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::Line;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Span};
use tokio::sync::watch;

use crate::catalog::Catalog;
use crate::dispatch::Outbox;
use crate::lanes::Lanes;
use crate::parking::Parking;
use crate::store::Store;
use crate::wake::Wake;

/// Cheap handles only.
#[derive(Debug, Clone)]
pub struct AppState {
    pub store: Arc<dyn Store>,
    pub catalog: Catalog,
    pub lanes: Lanes,
    pub outbox: Outbox,
    pub wake: Wake,
    pub line: watch::Receiver<Line>,
    pub parking: Parking,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
    /// The largest body, in bytes.
    pub max_body: usize,
    pub keep: Span,
    pub claim_lease: Duration,
}
