//! Carrying commands out. What only writes may go on side by side; what reads a job, which may be large, waits until it can
//! be sent.

use std::sync::Arc;

use buzzer_shared::id::{JobId, Tenant};

use super::command::{Asked, Command, Request};
use super::frame::Answer;
use crate::auth::Viewer;
use crate::jobs::{self, HandIn, HandedIn};
use crate::lifecycle::Job;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::view::Content;

/// A command, as far as it is carried out before its turn to be answered.
#[derive(Debug)]
pub(super) struct Begun {
    pub request: Option<Request>,
    pub done: Result<Done, ApiError>,
    /// How long its frame was.
    pub bytes: usize,
    /// Whether it may follow one more job.
    pub may_follow: bool,
}

/// What came of a command so far.
#[derive(Debug)]
pub(super) enum Done {
    HandedIn { handed_in: HandedIn, follow: bool },
    Canceled(Job),
    ToFollow { id: JobId, after: u32 },
    ToUnfollow(JobId),
}

impl Done {
    /// The job that is followed from its answer on, where that is not a new one.
    pub(super) fn follows(&self) -> Option<JobId> {
        match self {
            Self::ToFollow { id, .. } => Some(*id),
            Self::HandedIn { .. } | Self::Canceled(_) | Self::ToUnfollow(_) => None,
        }
    }
}

/// Carries a command out up to its answer.
pub(super) async fn begin(state: AppState, viewer: Arc<Viewer>, asked: Asked) -> Begun {
    let may_follow = asked.may_follow();
    let Asked { request, command, bytes } = asked;
    let done = match command {
        Ok(command) => carry_out(&state, &viewer, command).await,
        Err(error) => Err(error),
    };
    Begun { request, done, bytes, may_follow }
}

async fn carry_out(state: &AppState, viewer: &Viewer, command: Command) -> Result<Done, ApiError> {
    Ok(match command {
        Command::Submit { kind, body, key, follow } => {
            let handed_in = HandIn { kind: &kind, body: &body, key }.take(state, &viewer.to_act()?.tenant).await?;
            Done::HandedIn { handed_in, follow }
        }
        Command::Follow { id, after } => {
            viewer.of_job(id)?;
            Done::ToFollow { id, after }
        }
        Command::Unfollow { id } => Done::ToUnfollow(id),
        Command::Cancel { id } => Done::Canceled(jobs::cancel(state, &viewer.to_act()?.tenant, id).await?),
    })
}

/// A job that is to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToFollow {
    pub id: JobId,
    pub after: u32,
}

/// The answer to what was done, and what is to be followed then. `full`: no more jobs may be followed.
pub(super) async fn answer(
    state: &AppState,
    tenant: &Tenant,
    done: Done,
    full: Option<ApiError>,
) -> Result<(Answer, Option<ToFollow>), ApiError> {
    match done {
        Done::HandedIn { handed_in: HandedIn { job, input }, follow } => {
            let to_follow = follow.then_some(ToFollow { id: job.id, after: 0 });
            let view = match input {
                Some(input) => jobs::view(state, &job, &Content { input, output: None })?,
                None => jobs::look(state, tenant, job.id).await?,
            };
            Ok((Answer::Job(view.into()), to_follow))
        }
        Done::Canceled(job) => {
            let input = jobs::content(state, tenant, job.id).await?.input;
            Ok((Answer::Job(jobs::view(state, &job, &Content { input, output: None })?.into()), None))
        }
        Done::ToFollow { id, after } => {
            let view = jobs::look(state, tenant, id).await?;
            if after > view.seq {
                return Err(ApiError::BadCursor);
            }
            // Nothing will come of one that is over.
            let over = view.done && after == view.seq;
            match full {
                Some(full) if !over => Err(full),
                _ => Ok((Answer::Job(view.into()), (!over).then_some(ToFollow { id, after }))),
            }
        }
        Done::ToUnfollow(id) => Ok((Answer::JobId(id), None)),
    }
}
