//! What a process tells of itself: one log, on standard error.

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::environment;

/// Starts the log. A second call in one process changes nothing.
///
/// # Errors
/// When the filter cannot be read; the text names the part that is wrong.
pub fn start_log(config: &LogConfig) -> Result<(), tracing_subscriber::filter::ParseError> {
    // lapin logs each try to reconnect as an error and each returned message with its body; what matters of it the
    // broker says itself. So it is with deadpool and the store. A filter that names them still has its way.
    let filter = EnvFilter::builder().parse(format!("lapin=off,deadpool=off,{}", config.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // The only error is that a log runs already.
    if started.is_ok() {
        environment::misspelt().iter().for_each(|variable| tracing::warn!("{variable}"));
    }
    Ok(())
}
