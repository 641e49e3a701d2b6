use buzzer_shared::id::JobId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{FeedRange, News};

/// How many jobs and feeds one note names: PostgreSQL takes 8000 bytes.
const JOBS: usize = 150;
const FEEDS: usize = 25;

/// A word from one replica to the others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) by: Uuid,
    pub(super) feeds: Vec<FeedRange>,
    pub(super) jobs: Vec<JobId>,
}

/// How it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    by: Uuid,
    feeds: Vec<(i64, i64, i64)>,
    jobs: Vec<JobId>,
}

impl Note {
    /// As many as it takes. Numbers go with the last: so they do not count as spoken of before their jobs are.
    pub(super) fn of(by: Uuid, news: &News) -> Vec<Note> {
        let jobs = news.jobs.chunks(JOBS).map(|jobs| Note { by, feeds: Vec::new(), jobs: jobs.to_vec() });
        let feeds = news.feeds.chunks(FEEDS).map(|feeds| Note { by, feeds: feeds.to_vec(), jobs: Vec::new() });
        jobs.chain(feeds).collect()
    }

    pub(super) fn write(&self) -> String {
        let feeds = self.feeds.iter().map(|range| (range.tenant, range.after, range.last)).collect();
        let written = Written { by: self.by, feeds, jobs: self.jobs.clone() };
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// `None` for what is no note.
    pub(super) fn read(text: &str) -> Option<Self> {
        let Written { by, feeds, jobs } = serde_json::from_str(text).ok()?;
        let range = |(tenant, after, last)| FeedRange { tenant, after, last };
        Some(Self { by, feeds: feeds.into_iter().map(range).collect(), jobs })
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::time::Time;

    use super::*;

    #[test]
    fn a_note_is_read_as_it_is_written_and_fits() {
        let news = News {
            jobs: (0..1000).map(|_| JobId::new(Time::from_millis(1_795_000_000_000))).collect(),
            feeds: vec![FeedRange { tenant: i64::MAX, after: i64::MAX, last: i64::MAX }; 60],
        };
        let notes = Note::of(Uuid::from_u128(7), &news);
        for note in &notes {
            let text = note.write();
            assert!(text.len() < 8000, "{}", text.len());
            assert_eq!(Note::read(&text).as_ref(), Some(note));
        }
        assert_eq!(notes.iter().flat_map(|note| note.jobs.clone()).collect::<Vec<_>>(), news.jobs);
        assert_eq!(notes.iter().flat_map(|note| note.feeds.clone()).collect::<Vec<_>>(), news.feeds);
        assert_eq!(Note::read("hello"), None);
    }
}
