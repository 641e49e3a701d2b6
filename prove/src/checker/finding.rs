use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// In how many words each class is told; all are counted.
const TOLD: usize = 20;

/// How a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Accepted, and the system does not know it.
    Lost,
    /// Accepted, everything is healed, and it has not ended.
    Unfinished,
    /// The system has it, and nobody asked for it, or it was refused.
    Unexpected,
    /// One submission, and two jobs; or one job, and two ends.
    Duplicated,
    /// Its end, input or output is not what its input asks for.
    Wrong,
    /// It was told to have ended, and is different now.
    Changed,
    /// An attempt was counted that the job did not fail by itself.
    Attempt,
    /// The numbers of its events have a gap or a repetition.
    Log,
    /// A reader missed an event, or saw one twice, or another one.
    Feed,
    /// A key answered with another job, or did not refuse another body.
    Key,
    /// The answer to a cancel was not true.
    Cancel,
    /// The list of all jobs shows it more than once.
    ListedTwice,
    /// Nobody can use it, and it is not parked.
    Vanished,
    /// It is parked, and somebody could have used it; or it is not said why.
    Parked,
    /// It took too long until a job succeeded again.
    Late,
    /// A process ended by itself, or not as it should.
    Died,
    /// An API held too much in memory.
    Memory,
}

impl Class {
    /// Every one, the worst first.
    pub const ALL: [Self; 17] = [
        Self::Lost,
        Self::Unfinished,
        Self::Unexpected,
        Self::Duplicated,
        Self::Wrong,
        Self::Changed,
        Self::Attempt,
        Self::Log,
        Self::Feed,
        Self::Key,
        Self::Cancel,
        Self::ListedTwice,
        Self::Vanished,
        Self::Parked,
        Self::Late,
        Self::Died,
        Self::Memory,
    ];

    /// The promise that was broken, as docs/reliability.md numbers them.
    pub fn promise(self) -> &'static str {
        match self {
            Self::Lost | Self::Unfinished | Self::Wrong => "P1",
            Self::Unexpected | Self::Duplicated | Self::Changed => "P2",
            Self::Log | Self::Feed => "P3",
            Self::Key => "P4",
            Self::Cancel => "P5",
            Self::ListedTwice | Self::Vanished | Self::Parked => "P6",
            Self::Memory => "P8",
            Self::Attempt | Self::Died => "P11",
            Self::Late => "P12",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Unfinished => "unfinished",
            Self::Unexpected => "unexpected",
            Self::Duplicated => "duplicated",
            Self::Wrong => "wrong",
            Self::Changed => "changed",
            Self::Attempt => "attempts",
            Self::Log => "logs",
            Self::Feed => "feeds",
            Self::Key => "keys",
            Self::Cancel => "cancels",
            Self::ListedTwice => "listed twice",
            Self::Vanished => "vanished",
            Self::Parked => "parked",
            Self::Late => "late",
            Self::Died => "died",
            Self::Memory => "memory",
        })
    }
}

/// Findings of one class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub count: usize,
    /// The first of them, in words.
    pub told: Vec<String>,
}

/// All that is not as promised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(BTreeMap<Class, Finding>);

impl Findings {
    /// One more.
    pub fn add(&mut self, class: Class, what: String) {
        let finding = self.0.entry(class).or_default();
        finding.count += 1;
        if finding.told.len() < TOLD {
            finding.told.push(what);
        }
    }

    /// How many of a class.
    pub fn count(&self, class: Class) -> usize {
        self.0.get(&class).map_or(0, |finding| finding.count)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By class, the worst first.
    pub fn iter(&self) -> impl Iterator<Item = (Class, &Finding)> {
        self.0.iter().map(|(class, finding)| (*class, finding))
    }
}
