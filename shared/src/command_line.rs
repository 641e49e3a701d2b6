//! The command line, and the environment, which says the same things under other names. A setting that is wrong is told
//! in one line that has both its names, whichever was used.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error, Parser};

/// Reads flags and environment. When something is wrong, or help is asked for, tells that and ends the process.
pub fn read<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|error| plain(error, P::command()).exit())
}

/// The same error, in one line with both names where it is about a setting.
fn plain(error: Error, mut command: Command) -> Error {
    command.build();
    match words(&error, &command) {
        Some(words) => Error::raw(error.kind(), format!("{words}\n")),
        None => error,
    }
}

fn words(error: &Error, command: &Command) -> Option<String> {
    let setting = named(error, ContextKind::InvalidArg, command)?;
    match error.kind() {
        ErrorKind::ArgumentConflict => {
            let other = named(error, ContextKind::PriorArg, command)?;
            Some(format!("{} and {} exclude each other; give one of them", names(setting), names(other)))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            Some(format!("{}: {}", names(setting), complaint(error, setting)?))
        }
        _ => None,
    }
}

/// What is wrong with the value. Repeats it where it is not secret and not repeated yet.
fn complaint(error: &Error, setting: &Arg) -> Option<String> {
    let value = match error.get(ContextKind::InvalidValue)? {
        ContextValue::String(value) => value.as_str(),
        _ => return None,
    };
    let reason = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("expected one of {}", valid.join(", ")),
        _ if value.is_empty() => "needs a value".into(),
        _ => return None,
    };
    let enough = setting.is_hide_env_values_set() || value.is_empty() || reason.contains(value);
    Some(if enough { reason } else { format!("{value:?}: {reason}") })
}

/// The setting that an error is about.
fn named<'a>(error: &Error, place: ContextKind, command: &'a Command) -> Option<&'a Arg> {
    let shown = match error.get(place)? {
        ContextValue::String(shown) => shown,
        ContextValue::Strings(all) => all.first()?,
        _ => return None,
    };
    find(command, shown).filter(|setting| setting.get_env().is_some())
}

fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|argument| argument.to_string() == shown);
    own.or_else(|| command.get_subcommands().find_map(|command| find(command, shown)))
}

/// Like `--listen (BUZZER_LISTEN)`.
fn names(setting: &Arg) -> String {
    let flag = setting.get_long().map_or_else(|| setting.to_string(), |long| format!("--{long}"));
    match setting.get_env() {
        Some(variable) => format!("{flag} ({})", variable.to_string_lossy()),
        None => flag,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{BrokerConfig, LogConfig};

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        broker: BrokerConfig,
        #[command(flatten)]
        log: LogConfig,
        #[arg(long, env = "BUZZER_TEST_SIZE")]
        size: Option<crate::config::ByteSize>,
        #[arg(long, env = "BUZZER_TEST_SLOTS")]
        slots: Option<u16>,
    }

    fn told(arguments: &[&str]) -> String {
        let line = ["program"].iter().chain(arguments);
        let error = Settings::try_parse_from(line).unwrap_err();
        plain(error, Settings::command()).to_string()
    }

    #[test]
    fn a_bad_value_is_one_line_with_both_names() {
        assert_eq!(
            told(&["--slots", "x"]),
            "error: --slots (BUZZER_TEST_SLOTS): \"x\": invalid digit found in string\n"
        );
        // The reason repeats the value already.
        assert_eq!(
            told(&["--size", "1MB"]),
            "error: --size (BUZZER_TEST_SIZE): \"1MB\" is not a size, like 1MiB, 512KiB or 100000\n"
        );
        assert_eq!(
            told(&["--log-format", "xml"]),
            "error: --log-format (BUZZER_LOG_FORMAT): \"xml\": expected one of text, json\n"
        );
        assert_eq!(
            told(&["--log-format", ""]),
            "error: --log-format (BUZZER_LOG_FORMAT): expected one of text, json\n"
        );
    }

    #[test]
    fn a_bad_secret_is_not_repeated() {
        let text = told(&["--broker", "http://api:s3cret@mq"]);
        assert_eq!(
            text,
            "error: --broker (BUZZER_BROKER): expected `embedded` or a URL like amqp://user:password@host:5672/%2f\n"
        );
    }

    #[test]
    fn a_secret_and_its_file_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "amqp://api:s3cret@mq/%2f\n").unwrap();
        let name = file.path().to_str().unwrap();
        assert_eq!(
            told(&["--broker", "embedded", "--broker-file", name]),
            "error: --broker (BUZZER_BROKER) and --broker-file (BUZZER_BROKER_FILE) exclude each other; give one of them\n"
        );
        let read = Settings::try_parse_from(["program", "--broker-file", name]).unwrap();
        assert_eq!(read.broker.address().redacted(), "amqp://mq:5672/%2f");
    }

    #[test]
    fn what_is_not_about_a_setting_stays_as_clap_says_it() {
        assert!(told(&["--no-such-flag"]).contains("Usage:"));
        assert!(told(&["--help"]).contains("Options:"));
    }
}
