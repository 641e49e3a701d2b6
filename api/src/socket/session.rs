//! What goes on over one socket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::carry_out::{self, Begun};
use super::command::Asked;
use super::followed::{Followed, Told};
use super::frame::{Answer, Frame};
use super::largest_frame;
use crate::auth::{Pass, Viewer};
use crate::jobs;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::websocket::{Goodbye, Heard, Socket};

/// So many commands are carried out at a time. What comes then is not read before one of them is answered.
const COMMANDS_MAX: usize = 16;
/// So many jobs may be followed over one socket.
const FOLLOWED_MAX: usize = 1000;
/// How often it is asked whether a key is still good, if no command comes.
const PASS: Duration = Duration::from_secs(10);

/// Somebody on a socket: commands that come, answers and events that go. All of it is one task, and nothing more is read, from
/// the client or from the store, than the client takes.
pub(super) struct Session {
    state: AppState,
    viewer: Arc<Viewer>,
    pass: Pass,
    /// When the pass is looked at again.
    good_until: Instant,
    followed: Followed,
    /// Read and not begun: it may be that too many jobs are followed, which those that are under way decide.
    waits: Option<Asked>,
    under_way: FuturesOrdered<BoxFuture<'static, Begun>>,
    /// How long the frames of those are.
    bytes: usize,
    /// How many of them may follow one more job.
    followers: usize,
    _place: OwnedSemaphorePermit,
}

/// What happens next.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Next {
    Stop,
    Begun(Begun),
    Told(Told),
    Heard(Heard),
    PassIsOld,
}

impl Session {
    pub(super) fn new(state: AppState, viewer: Viewer, place: OwnedSemaphorePermit) -> Self {
        let followed = Followed::new(Arc::clone(&state.store), viewer.tenant().clone(), &state.wake);
        Self {
            pass: viewer.pass(&state.gate),
            state,
            viewer: Arc::new(viewer),
            good_until: Instant::now() + PASS,
            followed,
            waits: None,
            under_way: FuturesOrdered::new(),
            bytes: 0,
            followers: 0,
            _place: place,
        }
    }

    /// To its end.
    pub(super) async fn run(mut self, mut socket: Socket) {
        let goodbye = self.talk(&mut socket).await;
        // Jobs and places are free from here on; only the line is closed.
        drop(self);
        socket.close(goodbye).await;
    }

    /// Ends with what is to be said at last; `None` when nobody would hear it.
    async fn talk(&mut self, socket: &mut Socket) -> Option<Goodbye> {
        loop {
            self.begin();
            match self.next(socket).await {
                Next::Stop => return self.finish(socket).await,
                Next::Begun(begun) => self.answer(socket, begun).await?,
                Next::Told(told) => self.tell(socket, told).await?,
                Next::Heard(Heard::Text(text)) if self.pass.is_good().await => {
                    self.waits = Some(Asked::read(text, self.state.max_body));
                }
                Next::PassIsOld if self.pass.is_good().await => self.good_until = Instant::now() + PASS,
                Next::Heard(Heard::Text(_)) | Next::PassIsOld => return Some(Goodbye::UNWELCOME),
                Next::Heard(Heard::Wrong(goodbye)) => return Some(goodbye),
                Next::Heard(Heard::Gone) => return None,
            }
        }
    }

    async fn next(&mut self, socket: &mut Socket) -> Next {
        let listens = self.has_room();
        let Self { state, good_until, followed, under_way, .. } = self;
        tokio::select! {
            () = state.shutdown.requested() => Next::Stop,
            Some(begun) = under_way.next() => Next::Begun(begun),
            told = followed.next() => Next::Told(told),
            heard = socket.next(listens) => Next::Heard(heard),
            () = sleep_until(*good_until) => Next::PassIsOld,
        }
    }

    fn has_room(&self) -> bool {
        self.waits.is_none() && self.under_way.len() < COMMANDS_MAX && self.bytes < largest_frame(&self.state)
    }

    /// Begins the command that waits. One that makes a job to be followed must know that it can be: otherwise there must be no
    /// job either.
    fn begin(&mut self) {
        let Some(mut asked) = self.waits.take() else { return };
        if asked.is_followed_submission() && self.followed.len() + self.followers >= FOLLOWED_MAX {
            if !self.under_way.is_empty() {
                self.waits = Some(asked);
                return;
            }
            asked.command = Err(ApiError::TooManyFollowed(FOLLOWED_MAX));
        }
        self.bytes += asked.bytes;
        self.followers += usize::from(asked.may_follow());
        self.under_way.push_back(Box::pin(carry_out::begin(self.state.clone(), Arc::clone(&self.viewer), asked)));
    }

    async fn answer(&mut self, socket: &mut Socket, begun: Begun) -> Option<()> {
        let Begun { request, done, bytes, may_follow } = begun;
        self.bytes -= bytes;
        self.followers -= usize::from(may_follow);
        let answer = match done {
            Ok(done) => {
                let full =
                    done.follows().is_some_and(|id| self.followed.len() >= FOLLOWED_MAX && !self.followed.has(id));
                let full = full.then_some(ApiError::TooManyFollowed(FOLLOWED_MAX));
                carry_out::answer(&self.state, self.viewer.tenant(), done, full).await
            }
            Err(error) => Err(error),
        };
        let frame = match answer {
            Ok((answer, to_follow)) => {
                if let Answer::JobId(id) = answer {
                    self.followed.unfollow(id);
                }
                if let Some(to_follow) = to_follow {
                    self.followed.follow(to_follow);
                }
                Frame::Answer { request, answer }
            }
            Err(error) => Frame::problem(request, &error),
        };
        say(socket, &frame).await
    }

    async fn tell(&mut self, socket: &mut Socket, told: Told) -> Option<()> {
        let frame = match told {
            Told::Event(event) => Frame::Event { event },
            Told::Gone(id) => Frame::problem(None, &jobs::missing(&self.state, id)),
        };
        say(socket, &frame).await
    }

    /// Answers what was read; the rest its client finds unanswered.
    async fn finish(&mut self, socket: &mut Socket) -> Option<Goodbye> {
        loop {
            self.begin();
            let Some(begun) = self.under_way.next().await else { return Some(Goodbye::STOPPING) };
            self.answer(socket, begun).await?;
        }
    }
}

/// `None` when the client is gone.
async fn say(socket: &mut Socket, frame: &Frame) -> Option<()> {
    let line = match frame.to_line() {
        Ok(line) => line,
        Err(error) => {
            error.log();
            return None;
        }
    };
    socket.say(&line).await.ok()
}
