use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One of the two directions of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From who connects.
    There,
    /// To who connects.
    Back,
}

/// What can be the matter with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Every connection breaks; new ones are whole.
    Cut,
    /// Every connection breaks, and no new one is let in.
    Gone,
    /// Connections stay open, and nothing is carried.
    Freeze,
    /// The same, in one direction.
    FreezeOneWay(Way),
    /// Each piece comes so much later.
    Delay(Duration),
    /// One direction ends, the other goes on.
    HalfClose(Way),
    /// A few bytes at a time.
    Drip,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "cut",
            Self::Gone => "gone",
            Self::Freeze => "frozen",
            Self::FreezeOneWay(Way::There) => "frozen one way, there",
            Self::FreezeOneWay(Way::Back) => "frozen one way, back",
            Self::Delay(_) => "slow",
            Self::HalfClose(Way::There) => "half-closed, there",
            Self::HalfClose(Way::Back) => "half-closed, back",
            Self::Drip => "dripping",
        })
    }
}

/// How one direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Flow {
    #[default]
    Open,
    Frozen,
    Slow(Duration),
    Dripping,
    Ended,
}

/// How a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weather {
    there: Flow,
    back: Flow,
    is_gone: bool,
    /// Rises each time that every connection breaks.
    cuts: u64,
}

impl Weather {
    pub(super) fn turn(&mut self, trouble: Trouble) {
        self.clear();
        let both = |flow| (flow, flow);
        (self.there, self.back) = match trouble {
            Trouble::Cut | Trouble::Gone => both(Flow::Open),
            Trouble::Freeze => both(Flow::Frozen),
            Trouble::FreezeOneWay(way) => one(way, Flow::Frozen),
            Trouble::Delay(length) => both(Flow::Slow(length)),
            Trouble::HalfClose(way) => one(way, Flow::Ended),
            Trouble::Drip => both(Flow::Dripping),
        };
        self.is_gone = trouble == Trouble::Gone;
        self.cuts += u64::from(matches!(trouble, Trouble::Cut | Trouble::Gone));
    }

    pub(super) fn clear(&mut self) {
        *self = Self { cuts: self.cuts, ..Self::default() };
    }

    pub(super) fn lets_in(&self) -> bool {
        !self.is_gone
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    pub(super) fn flow(&self, way: Way) -> Flow {
        match way {
            Way::There => self.there,
            Way::Back => self.back,
        }
    }
}

fn one(way: Way, flow: Flow) -> (Flow, Flow) {
    match way {
        Way::There => (flow, Flow::Open),
        Way::Back => (Flow::Open, flow),
    }
}
