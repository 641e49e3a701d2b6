//! How acknowledgements become few frames. Pure.

use std::collections::BTreeSet;

/// The deliveries of one channel that are not acknowledged yet; as many as its prefetch at most.
#[derive(Debug, Default)]
pub(super) struct Outstanding(BTreeSet<u64>);

/// One `basic.ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// This one and everything before it.
    pub(super) multiple: bool,
}

impl Outstanding {
    pub(super) fn delivered(&mut self, tag: u64) {
        self.0.insert(tag);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What to send for these tags: one frame for the longest row from the front, one for each that stands alone.
    /// Tags that are not outstanding are left out: a second acknowledgement closes the channel.
    pub(super) fn acknowledge(&mut self, tags: &[u64]) -> Vec<Ack> {
        let tags: BTreeSet<u64> = tags.iter().copied().filter(|tag| self.0.contains(tag)).collect();
        let row = self.0.iter().take_while(|tag| tags.contains(tag)).count();
        let mut acks = Vec::new();
        for (place, tag) in tags.into_iter().enumerate() {
            self.0.remove(&tag);
            if place + 1 == row {
                acks.push(Ack { tag, multiple: row > 1 });
            } else if place >= row {
                acks.push(Ack { tag, multiple: false });
            }
        }
        acks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outstanding(tags: std::ops::RangeInclusive<u64>) -> Outstanding {
        let mut outstanding = Outstanding::default();
        tags.for_each(|tag| outstanding.delivered(tag));
        outstanding
    }

    #[test]
    fn a_row_from_the_front_is_one_frame() {
        let mut all = outstanding(1..=5);
        assert_eq!(all.acknowledge(&[3, 1, 2]), [Ack { tag: 3, multiple: true }]);
        assert_eq!(all.acknowledge(&[4]), [Ack { tag: 4, multiple: false }]);
    }

    #[test]
    fn what_stands_alone_is_its_own_frame() {
        let mut all = outstanding(1..=5);
        assert_eq!(all.acknowledge(&[3, 5]), [Ack { tag: 3, multiple: false }, Ack { tag: 5, multiple: false }]);
        assert_eq!(all.acknowledge(&[1, 2, 4]), [Ack { tag: 4, multiple: true }]);
    }

    #[test]
    fn nothing_is_acknowledged_twice() {
        let mut all = outstanding(1..=2);
        all.acknowledge(&[1]);
        assert_eq!(all.acknowledge(&[1, 7]), []);
    }

    proptest! {
        /// The broker's view: each frame names a delivery that it still holds, and in the end it holds what nobody
        /// acknowledged.
        #[test]
        fn frames_say_what_was_acknowledged(batches in prop::collection::vec(prop::collection::vec(1u64..60, 0..20), 0..10)) {
            let mut ours = outstanding(1..=50);
            let mut held: BTreeSet<u64> = (1..=50).collect();
            let mut wanted: BTreeSet<u64> = held.clone();
            for batch in batches {
                for ack in ours.acknowledge(&batch) {
                    prop_assert!(held.contains(&ack.tag));
                    held.retain(|tag| if ack.multiple { *tag > ack.tag } else { *tag != ack.tag });
                }
                batch.iter().for_each(|tag| { wanted.remove(tag); });
                prop_assert_eq!(&held, &wanted);
            }
        }
    }
}
