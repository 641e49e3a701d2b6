//! How long jobs are kept after they are done.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use buzzer_shared::kind::Kind;
use buzzer_shared::time::{Span, Time};
use buzzer_shared::webhook;

/// Nobody looks at the jobs by which webhooks are delivered, once what came of them is noted: that takes a second, not an hour.
const DELIVERIES: Duration = Duration::from_secs(60 * 60);

/// A key is kept at least so long, also when its job need not be.
const KEYS: Duration = Duration::from_secs(24 * 60 * 60);

/// How long jobs are kept, in general and kind by kind. Written `7d`, or `7d,demo.sleep=1h`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    usual: Span,
    kinds: BTreeMap<Kind, Span>,
}

/// Which jobs of one kind may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutoff {
    /// Those that were done before.
    pub finished_before: Time,
    /// Of those that came with a key, only the ones accepted before.
    pub keyed_before: Time,
}

impl Retention {
    pub fn new(usual: Span) -> Self {
        Self { usual, kinds: BTreeMap::new() }
    }

    pub fn cutoff(&self, kind: &Kind, now: Time) -> Cutoff {
        let keep = match kind.as_str() {
            webhook::KIND => DELIVERIES,
            _ => self.kinds.get(kind).unwrap_or(&self.usual).as_duration(),
        };
        Cutoff { finished_before: now - keep, keyed_before: now - keep.max(KEYS) }
    }

    /// The longest that any job is kept: an id that is older was a job once, if it ever was one.
    pub fn longest(&self) -> Span {
        self.kinds.values().copied().fold(self.usual, Span::max)
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.usual)?;
        self.kinds.iter().try_for_each(|(kind, keep)| write!(f, ",{kind}={keep}"))
    }
}

impl FromStr for Retention {
    type Err = InvalidRetention;

    fn from_str(text: &str) -> Result<Self, InvalidRetention> {
        let mut parts = text.split(',').map(str::trim);
        let span = |text: &str| text.parse::<Span>().map_err(|_| InvalidRetention(text.into()));
        let usual = span(parts.next().unwrap_or_default())?;
        let kind = |part: &str| {
            let (kind, keep) = part.split_once('=').ok_or_else(|| InvalidRetention(part.into()))?;
            Ok((kind.trim().parse().map_err(|_| InvalidRetention(part.into()))?, span(keep.trim())?))
        };
        Ok(Self { usual, kinds: parts.map(kind).collect::<Result<_, _>>()? })
    }
}

/// A text that does not say how long jobs are kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time; expected one like 7d, and after it, if some kinds differ, `,kind=1h` for each")]
pub struct InvalidRetention(String);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    #[test]
    fn kinds_may_differ() {
        let retention: Retention = "7d, demo.sleep=1h,echo=30d".parse().unwrap();
        let finished_before = |kind: &str| retention.cutoff(&kind.parse().unwrap(), NOW).finished_before;
        assert_eq!(finished_before("other"), NOW - Duration::from_secs(7 * 86_400));
        assert_eq!(finished_before("demo.sleep"), NOW - Duration::from_secs(3600));
        assert_eq!(finished_before("webhook.deliver"), NOW - DELIVERIES);
        assert_eq!(retention.longest().as_duration(), Duration::from_secs(30 * 86_400));
        assert_eq!(retention.to_string().parse(), Ok(retention));
    }

    #[test]
    fn a_key_outlives_a_short_retention() {
        let cutoff = Retention::new(Span::from_secs(60)).cutoff(&"echo".parse().unwrap(), NOW);
        assert_eq!(cutoff.keyed_before, NOW - KEYS);
        let cutoff = Retention::new("7d".parse().unwrap()).cutoff(&"echo".parse().unwrap(), NOW);
        assert_eq!(cutoff.keyed_before, cutoff.finished_before);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in ["", "soon", "7d,", "7d,echo", "7d,echo=soon", "7d,No Kind=1h", "echo=1h"] {
            assert!(text.parse::<Retention>().is_err(), "{text:?}");
        }
    }
}
