//! How many connections and files this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What is open beside streams and other connections: the store, the broker, the log.
const OTHERS: u64 = 256;

/// Takes as many as the system gives, which is mostly far more than a process has at its start. Says so where that is less
/// than `streams` take.
pub fn raise(streams: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files could not be raised");
        }
    }
    let needed = u64::try_from(streams).unwrap_or(u64::MAX).saturating_add(OTHERS);
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < needed) {
        tracing::warn!(
            most,
            needed,
            "fewer files may be open than BUZZER_MAX_STREAMS streams need: raise the limit (`ulimit -n`, LimitNOFILE=), or \
             lower the setting"
        );
    }
}
