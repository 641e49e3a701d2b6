use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::Tenant;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::{Said, Source, Step};
use crate::feeds::{FeedEvent, FeedPage, Feeds, Follower};
use crate::problem::ApiError;
use crate::state::AppState;

/// The events of all jobs of a tenant, as far as they fit. Has no end of its own.
pub struct FeedEvents {
    feeds: Feeds,
    tenant: Tenant,
    choice: Choice,
    follower: Follower,
    /// The number of the last entry that was looked at.
    seen: i64,
    /// The last number that the client knows.
    told: i64,
    /// Read and not looked at yet.
    page: FeedPage,
    progress: Progress,
    _place: OwnedSemaphorePermit,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    New,
    /// Reads the store by itself: what it wants is older than what others are being told, or it was too slow for that.
    Reading,
    /// Takes what is read for all.
    Following,
}

/// Which events are wanted. All, when nothing is said.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub kind: Option<Kind>,
    pub tag: Option<(String, String)>,
    /// Those that left their job in this state.
    pub state: Option<State>,
}

impl Choice {
    fn has(&self, event: &FeedEvent) -> bool {
        let tag = |(name, value): &(String, String)| event.tags.get(name) == Some(value);
        self.kind.as_ref().is_none_or(|kind| event.kind == *kind)
            && self.tag.as_ref().is_none_or(tag)
            && self.state.is_none_or(|state| event.state() == state)
    }
}

impl FeedEvents {
    /// What stands in the feed of a tenant after the number `after`, from now on where there is none; and what comes.
    ///
    /// # Errors
    /// When there cannot have been that number yet, or the store does not answer.
    pub async fn new(
        state: &AppState,
        tenant: Tenant,
        choice: Choice,
        after: Option<i64>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, ApiError> {
        let follower = state.feeds.follow(&tenant).await?;
        let seen = after.unwrap_or(follower.end);
        if seen > follower.end {
            return Err(ApiError::BadCursor);
        }
        Ok(Self {
            feeds: state.feeds.clone(),
            tenant,
            choice,
            follower,
            seen: seen + i64::from(seen > 0 && bites(Fault::SkipOnReturn)),
            told: seen,
            page: FeedPage::default(),
            progress: Progress::New,
            _place: place,
        })
    }

    /// The event, if it is wanted and its job is still there.
    async fn show(&mut self, event: &FeedEvent) -> Result<Option<Said>, ApiError> {
        if !self.choice.has(event) {
            return Ok(None);
        }
        let Some(data) = self.feeds.text(&self.tenant, event).await? else { return Ok(None) };
        self.told = event.feed;
        Ok(Some(Said::Event { id: write_cursor(event.feed), r#type: event.entry.r#type.as_str(), data }))
    }
}

impl Source for FeedEvents {
    async fn step(&mut self, until: Instant) -> Result<Step, ApiError> {
        loop {
            if let Some(event) = self.page.events.front().cloned() {
                let shown = self.show(&event).await?;
                self.seen = event.feed;
                self.page.events.pop_front();
                if let Some(shown) = shown {
                    return Ok(Step::Show(shown));
                }
            } else {
                match self.progress {
                    Progress::New => {
                        self.progress = Progress::Reading;
                        // From here a client can go on that is cut off before the first event.
                        return Ok(Step::Show(Said::Greeting { id: Some(write_cursor(self.seen)) }));
                    }
                    Progress::Reading => {
                        // First gives back its place for a whole page.
                        self.page = FeedPage::default();
                        self.page = self.feeds.page(&self.tenant, self.seen).await?;
                        if self.page.events.is_empty() {
                            self.progress = Progress::Following;
                        }
                    }
                    Progress::Following => match timeout_at(until, self.follower.news.recv()).await {
                        Ok(Ok(event)) if event.feed > self.seen => self.page.events.push_back(event),
                        Ok(Ok(_)) | Err(_) => {}
                        Ok(Err(RecvError::Lagged(_))) => self.progress = Progress::Reading,
                        // Only when this process stops.
                        Ok(Err(RecvError::Closed)) => std::future::pending().await,
                    },
                }
            }
            // Here, since a busy tenant may have nothing that is wanted.
            if until <= Instant::now() {
                return Ok(Step::Quiet);
            }
        }
    }

    /// With the number up to which nothing was wanted: a client that goes on need not have it looked through again.
    async fn sign_of_life(&mut self) -> Result<Option<Said>, ApiError> {
        let news = self.told != self.seen;
        self.told = self.seen;
        Ok(Some(Said::Life { id: news.then(|| write_cursor(self.seen)) }))
    }
}

/// Opaque on purpose, and unlike those of lists: nobody should count on what is in it.
fn write_cursor(feed: i64) -> String {
    format!("f{feed:x}")
}

/// The number that a cursor stands for.
///
/// # Errors
/// When it is none of a feed.
pub fn read_cursor(cursor: &str) -> Result<i64, ApiError> {
    let digits = cursor.strip_prefix('f').filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
    digits.and_then(|hex| i64::from_str_radix(hex, 16).ok()).ok_or(ApiError::BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_anything_else_refused() {
        assert_eq!(read_cursor(&write_cursor(123_456)).unwrap(), 123_456);
        for bad in ["", "f", "3", "j1", "fxyz", "f-1", "f+1", "f1 "] {
            assert!(matches!(read_cursor(bad), Err(ApiError::BadCursor)), "{bad}");
        }
    }
}
