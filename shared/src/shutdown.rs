//! From a signal to a clean end.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The wish to stop, told to every part of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// One that is asked for by SIGTERM or SIGINT; a second signal ends all waiting.
    ///
    /// # Errors
    /// When the process may not listen for signals.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let asked = shutdown.clone();
        tokio::spawn(async move {
            for token in [&asked.soft, &asked.hard] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(shutdown)
    }

    /// A wish of its own, for parts that stop after others have. A second signal ends its waiting too.
    #[must_use]
    pub fn later(&self) -> Self {
        Self { soft: CancellationToken::new(), hard: self.hard.clone() }
    }

    /// Asks everybody to stop.
    pub fn request(&self) {
        self.soft.cancel();
    }

    /// Ends once somebody asked to stop: take nothing new, finish what you have.
    pub async fn requested(&self) {
        self.soft.cancelled().await;
    }

    /// Asks everybody a second time, and thereby a first.
    pub fn force(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    pub fn is_requested(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Ends once somebody asked a second time: leave everything and go.
    pub async fn forced(&self) {
        self.hard.cancelled().await;
    }
}
