//! Faults that are built in on purpose, to see whether anything notices them: `cargo run -p buzzer-tests --bin bite` tries
//! each.
//!
//! Without the feature `bite` the question is a constant, and the compiler leaves nothing of it. With it, `BUZZER_BITE`
//! names the one fault that a process has. A release cannot be built with it.

use clap::ValueEnum;

#[cfg(all(feature = "bite", not(debug_assertions)))]
compile_error!("the feature `bite` builds faults in on purpose: build a release without it, or without --all-features");

/// One thing that the code could do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// A job is answered for before it is on disk.
    AnswerBeforeCommit,
    /// The idempotency key is not kept with its job.
    ForgetKey,
    /// Replies are acknowledged before they are stored.
    AcknowledgeBeforeStore,
    /// Whoever waits is woken before there is something to see.
    WakeBeforeCommit,
    /// A number of the feed is left out.
    LoseFeedNumber,
    /// A number in a job's log is left out.
    LoseEventNumber,
    /// A stream of events that is opened again leaves out the next one.
    SkipOnReturn,
    /// What nobody can read is thrown away.
    DropUnreadable,
    /// What an older dispatch says counts.
    ForgetFence,
    /// A job goes out again under the dispatch that it had.
    KeepDispatch,
    /// A second outcome of the same dispatch counts.
    CountTwice,
    /// What has ended may go on.
    OutliveEnd,
    /// A success leaves no output.
    LoseOutput,
    /// A worker that was lost costs an attempt.
    CountLostWorker,
    /// A beat of an older dispatch keeps the present one alive.
    RenewDeadLease,
    /// Leases never end.
    ForgetLeases,
    /// Leases end although outcomes may wait unheard.
    SweepWhileDeaf,
    /// A job is tried again although it was to stop.
    ForgetCancel,
    /// A lost run is run again although it may run only once.
    RunLostAgain,
    /// A worker does not wait until the broker answers for an outcome.
    SkipConfirm,
    /// A worker acknowledges a request before its outcome is handed over.
    AcknowledgeBeforeOutcome,
    /// A worker runs again what may run only once.
    RunRedelivered,
}

/// Whether this process has the fault.
#[cfg(not(feature = "bite"))]
pub const fn bites(_: Fault) -> bool {
    false
}

/// Whether this process has the fault.
///
/// # Panics
/// When `BUZZER_BITE` names none: nothing would be noticed, and that would look like a finding.
#[cfg(feature = "bite")]
pub fn bites(fault: Fault) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("BUZZER_BITE").ok()?;
        Some(Fault::from_str(&name, false).unwrap_or_else(|_| panic!("BUZZER_BITE={name} names no fault")))
    });
    *chosen == Some(fault)
}
