use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::StoreError;

/// How long what was looked for is not looked for again; so long at most does a key that is revoked go on to work.
pub(super) const LIFE: Duration = Duration::from_secs(5);

/// How many are remembered at most, of each sort. Others are looked for each time.
const REMEMBERED: usize = 4096;

/// What was found in the store of late, by its hash, and what was looked for there in vain: whoever sends something that is
/// of no use again and again does not burden the store.
#[derive(Debug)]
pub(super) struct Recent<H, V>(Mutex<Shelves<H, V>>);

impl<H, V> Default for Recent<H, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<H: Copy + Eq + Hash, V: Clone> Recent<H, V> {
    /// What is remembered; otherwise what is found.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn or_find(
        &self,
        hash: &H,
        find: impl Future<Output = Result<Option<V>, StoreError>>,
    ) -> Result<Option<V>, StoreError> {
        // Before the store is asked: what is revoked meanwhile must not live longer for it.
        let now = Instant::now();
        match self.with(|shelves| shelves.get(hash, now)) {
            Memory::Found(found) => return Ok(Some(found)),
            Memory::Missing => return Ok(None),
            Memory::Nothing => {}
        }
        let found = find.await?;
        self.with(|shelves| shelves.remember(*hash, found.clone(), now));
        Ok(found)
    }

    /// Whole after every operation, so a panic elsewhere cannot have left them broken.
    fn with<R>(&self, operation: impl FnOnce(&mut Shelves<H, V>) -> R) -> R {
        operation(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Shelves<H, V> {
    found: Shelf<H, V>,
    missing: Shelf<H, ()>,
}

/// What is known about a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory<V> {
    Found(V),
    /// It was not there, or was of no use.
    Missing,
    Nothing,
}

impl<H, V> Default for Shelves<H, V> {
    fn default() -> Self {
        Self { found: Shelf(HashMap::new()), missing: Shelf(HashMap::new()) }
    }
}

impl<H: Copy + Eq + Hash, V: Clone> Shelves<H, V> {
    fn get(&self, hash: &H, now: Instant) -> Memory<V> {
        match (self.found.get(hash, now), self.missing.get(hash, now)) {
            (Some(found), _) => Memory::Found(found),
            (None, Some(())) => Memory::Missing,
            (None, None) => Memory::Nothing,
        }
    }

    /// Keeps in mind what was there when it was asked for at `now`.
    fn remember(&mut self, hash: H, found: Option<V>, now: Instant) {
        match found {
            Some(found) => self.found.put(hash, found, now),
            None => self.missing.put(hash, (), now),
        }
    }
}

/// What lasts for its time. Those that were found, and those that were not, have one each: anybody can think of thousands
/// that do not exist, and they must not crowd out the others.
#[derive(Debug)]
struct Shelf<H, V>(HashMap<H, (V, Instant)>);

impl<H: Eq + Hash, V: Clone> Shelf<H, V> {
    fn get(&self, hash: &H, now: Instant) -> Option<V> {
        self.0.get(hash).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    fn put(&mut self, hash: H, value: V, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(hash, (value, now + LIFE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_and_what_was_not_are_remembered_for_five_seconds() {
        let (mut shelves, now) = (Shelves::default(), Instant::now());
        shelves.remember('a', Some(1), now);
        shelves.remember('b', None, now);
        let at = |after: f64| {
            let then = now + LIFE.mul_f64(after);
            ['a', 'b', 'c'].map(|hash| shelves.get(&hash, then))
        };
        assert_eq!(at(0.99), [Memory::Found(1), Memory::Missing, Memory::Nothing]);
        assert_eq!(at(1.0), [Memory::Nothing; 3]);
    }

    #[test]
    fn only_so_many_are_remembered_and_those_whose_time_is_over_make_room() {
        let (mut shelves, now) = (Shelves::default(), Instant::now());
        for hash in 0..=REMEMBERED {
            shelves.remember(hash, None, now);
        }
        assert_eq!(shelves.get(&REMEMBERED, now), Memory::Nothing);
        assert_eq!(shelves.missing.0.len(), REMEMBERED);
        shelves.remember(0, Some('x'), now);
        assert_eq!(shelves.get(&0, now), Memory::Found('x'), "what is of no use leaves it its place");
        shelves.remember(REMEMBERED, None, now + LIFE);
        assert_eq!((shelves.missing.0.len(), shelves.get(&REMEMBERED, now + LIFE)), (1, Memory::Missing));
    }
}
