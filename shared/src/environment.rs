//! The variables of the environment that Buzzer reads, and those that only look like one of them.

use std::ffi::OsString;

use strsim::damerau_levenshtein;

/// What a program of Buzzer or `docker-compose.yml` reads. Each program knows a part of them only, and may be started
/// with the environment of another.
pub const VARIABLES: [&str; 34] = [
    "BUZZER_API_PORT",
    "BUZZER_AUTH",
    "BUZZER_BEAT",
    "BUZZER_BITE",
    "BUZZER_BROKER",
    "BUZZER_BROKER_FILE",
    "BUZZER_CANCEL_GRACE",
    "BUZZER_CLAIM_LEASE",
    "BUZZER_DEMO",
    "BUZZER_DRAIN",
    "BUZZER_EGRESS_ALLOW",
    "BUZZER_KEEP",
    "BUZZER_KEY",
    "BUZZER_KEY_FILE",
    "BUZZER_LISTEN",
    "BUZZER_LOG",
    "BUZZER_LOG_FORMAT",
    "BUZZER_MAX_BODY",
    "BUZZER_MAX_STORED",
    "BUZZER_MAX_STREAMS",
    "BUZZER_MAX_WAITING",
    "BUZZER_ORIGINS",
    "BUZZER_PORT",
    "BUZZER_PREFIX",
    "BUZZER_RUN_LEASE",
    "BUZZER_SERVER",
    "BUZZER_SLOTS",
    "BUZZER_STORE",
    "BUZZER_STORE_FILE",
    "BUZZER_WEBHOOK_PATIENCE",
    "BUZZER_WEBHOOK_SCHEDULE",
    "BUZZER_WEBHOOK_SECRET",
    "BUZZER_WORKER_CONFIG",
    "BUZZER_WORKER_USER",
];

/// A variable that is set and that nothing reads, but for a slip of the pen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} is set, but nothing reads it; did you mean {meant}?")]
pub struct Misspelt {
    found: String,
    meant: &'static str,
}

/// Those of this process. A name that resembles none is not Buzzer's to judge: Kubernetes, for one, sets
/// `BUZZER_SERVICE_HOST` beside a service of the name `buzzer`.
#[must_use]
pub fn misspelt() -> Vec<Misspelt> {
    misspelt_in(std::env::vars_os().map(|(name, _)| name))
}

fn misspelt_in(names: impl Iterator<Item = OsString>) -> Vec<Misspelt> {
    let mut found: Vec<_> = names.filter_map(|name| examine(name.to_str()?)).collect();
    found.sort_by(|a, b| a.found.cmp(&b.found));
    found
}

fn examine(name: &str) -> Option<Misspelt> {
    if VARIABLES.contains(&name) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let near = |known: &&'static str| damerau_levenshtein(&upper, known);
    let meant = VARIABLES.into_iter().filter(|known| near(known) <= slips(known)).min_by_key(near)?;
    Some(Misspelt { found: name.into(), meant })
}

/// How many letters may be wrong, missing, too many or change places: short names lie close to words of others.
fn slips(known: &str) -> usize {
    if known.len() < "BUZZER_STORE".len() { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Vec<String> {
        misspelt_in(names.iter().map(OsString::from)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        assert_eq!(
            told(&["BUZZER_STROE", "BUZER_BROKER", "buzzer_max_body", "BUZZER_SLOT"]),
            [
                "BUZER_BROKER is set, but nothing reads it; did you mean BUZZER_BROKER?",
                "BUZZER_SLOT is set, but nothing reads it; did you mean BUZZER_SLOTS?",
                "BUZZER_STROE is set, but nothing reads it; did you mean BUZZER_STORE?",
                "buzzer_max_body is set, but nothing reads it; did you mean BUZZER_MAX_BODY?",
            ]
        );
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let of_others = ["BUZZER_SERVICE_HOST", "BUZZER_PORT_8080_TCP", "BUZZER_TOKEN", "BUZZER_BLESS", "PATH", "BUZZ"];
        assert_eq!(told(&of_others), [""; 0]);
        assert_eq!(told(&VARIABLES), [""; 0]);
    }
}
