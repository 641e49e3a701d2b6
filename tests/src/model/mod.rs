//! The model of all promises: clients and workers that do all that can be done wrong, and a ledger of what was promised
//! and what really happened. `tests/it/hostile` holds it against the API on real threads and sockets, [`crate::simulation`]
//! against the same API in a time of its own.

pub mod customer;
pub mod ledger;
pub mod worker;

use std::time::Duration;

use buzzer_api::config::{ApiConfig, AuthMode, Leases, StoreAddress, WebhookConfig};
use buzzer_api::origins::Origins;
use buzzer_api::retention::Retention;
use buzzer_shared::config::ByteSize;
use buzzer_shared::time::Span;
use buzzer_shared::topology::Route;

use crate::hostile::Rates;
use crate::inside::topology;
use worker::ONCE;

/// How the model's API is set up.
pub fn api_config(store: StoreAddress, lease: Span) -> ApiConfig {
    ApiConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        store: store.into(),
        auth: AuthMode::Off,
        max_body: ByteSize(64 * 1024),
        keep: Retention::new(Span::from_secs(3600)),
        max_waiting: 1_000_000,
        max_streams: 100,
        max_stored: ByteSize(1 << 40),
        origins: Origins::default(),
        webhooks: WebhookConfig::default(),
        worker_user: None,
        drain: Span::from_secs(1),
        leases: Leases { claim_lease: lease, run_lease: lease },
    }
}

/// How a broker treats each route on its bad days.
pub fn bad_days(route: &Route) -> Rates {
    let delay = Duration::from_millis(1800);
    let bad = Rates {
        lost: 0.05,
        vanished: 0.03,
        unconfirmed: 0.08,
        refused: 0.02,
        doubled: 0.06,
        delayed: 0.10,
        late: 0.05,
        delay,
    };
    let topology = topology();
    if *route == topology.request(&ONCE.parse().expect("a kind")) {
        // A broker that hands a message out a second time says that it does so. These copies it could not tell apart.
        Rates { doubled: 0.0, ..bad }
    } else if *route == topology.pulse() {
        Rates { lost: 0.15, doubled: 0.05, delayed: 0.05, delay, ..Rates::HONEST }
    } else if *route == topology.signal() || *route == topology.to_workers() {
        Rates { lost: 0.15, doubled: 0.10, delayed: 0.15, delay, ..Rates::HONEST }
    } else if *route == topology.parking() {
        Rates::HONEST
    } else {
        bad
    }
}
