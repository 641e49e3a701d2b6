use std::fmt;
use std::sync::Arc;

use buzzer_shared::time::Time;
use futures_util::future::try_join;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::{Failure, stopped, too_slow};
use super::house::House;
use super::pools::WRITERS;
use super::writes::Writes;
use super::{apply, submit};
use crate::store::{Applied, DEADLINE, Happening, StoreError, Submission, Submitted};

/// How many commands share a commit at most. Few enough that the first does not wait long for the last.
const BATCH: usize = 512;
/// How many happenings and bytes of input and output they may come to, unless the first is more by itself.
const BATCH_HAPPENINGS: usize = 2048;
const BATCH_BYTES: usize = 8 << 20;
/// How many more may wait. Whoever comes then waits outside, with its deadline.
const WAITING: usize = 1024;
/// How often a batch is done again when another replica was in its way.
const TRIES: usize = 3;

/// Those who write submissions and outcomes, which are nearly all there is to write.
///
/// Each takes all commands that wait, runs them in one transaction with a few statements for all of them, commits once,
/// and only then answers. Nobody waits for a timer: alone, a command is committed at once. A transaction ends with the
/// number of its tenant's feed, for which all others wait; so more than two of them would only queue there.
pub(super) struct Writer(flume::Sender<Command>);

/// Something to write, and somebody who waits for it.
enum Command {
    Submit(Box<Submission>, oneshot::Sender<Result<Submitted, StoreError>>),
    Apply(Vec<Happening>, Time, oneshot::Sender<Result<Vec<Applied>, StoreError>>),
}

impl Writer {
    pub(super) fn start(house: &Arc<House>) -> Self {
        let (commands, waiting) = flume::bounded(WAITING);
        for _ in 0..WRITERS {
            tokio::spawn(write(Arc::clone(house), waiting.clone()));
        }
        Self(commands)
    }

    pub(super) async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.command(|reply| Command::Submit(Box::new(submission), reply)).await
    }

    pub(super) async fn apply(&self, happenings: Vec<Happening>, now: Time) -> Result<Vec<Applied>, StoreError> {
        self.command(|reply| Command::Apply(happenings, now, reply)).await
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        let done = async {
            self.0.send_async(command).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        timeout(DEADLINE, done).await.unwrap_or_else(|_| Err(too_slow().into()))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// Until the store is dropped, and all that was begun is answered.
async fn write(house: Arc<House>, waiting: flume::Receiver<Command>) {
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(command) => command,
            None => match waiting.recv_async().await {
                Ok(command) => command,
                Err(_) => return,
            },
        };
        let batch;
        (batch, left) = gather(first, &waiting);
        settle(&house, batch).await;
    }
}

/// What waits now, as far as it fits in one transaction; and the first that does not.
fn gather(first: Command, waiting: &flume::Receiver<Command>) -> (Vec<Command>, Option<Command>) {
    let (mut happenings, mut bytes) = first.size();
    let mut batch = vec![first];
    while batch.len() < BATCH
        && let Ok(command) = waiting.try_recv()
    {
        let (more_happenings, more_bytes) = command.size();
        happenings += more_happenings;
        bytes += more_bytes;
        if happenings > BATCH_HAPPENINGS || bytes > BATCH_BYTES {
            return (batch, Some(command));
        }
        batch.push(command);
    }
    (batch, None)
}

/// Answers every command. One that is at fault, or waits for a row that somebody holds, does not hold up the others for
/// long.
async fn settle(house: &House, batch: Vec<Command>) {
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        // Nobody waits for them any more, and nobody was promised anything.
        part.retain(|command| !command.is_given_up());
        match commit(house, &part).await {
            Ok(answers) => part.into_iter().zip(answers).for_each(|(command, answer)| command.answer(Ok(answer))),
            // Halves are tried until the one at fault stands alone: there are few of them, and they are found quickly.
            Err(Failure::Corrupt(_)) if part.len() > 1 => {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
            // Each half that waits would wait as long as the whole.
            Err(Failure::Held(_)) if part.len() > 1 => {
                parts.extend(part.into_iter().rev().map(|command| vec![command]));
            }
            Err(failure) => {
                let error = StoreError::from(failure);
                part.into_iter().for_each(|command| command.answer(Err(error.clone())));
            }
        }
    }
}

/// What to answer to a command.
enum Answer {
    Submitted(Submitted),
    Applied(Vec<Applied>),
}

/// Runs a batch, again where another replica was in its way. A server that hangs is not waited for.
async fn commit(house: &House, batch: &[Command]) -> Result<Vec<Answer>, Failure> {
    let mut tries = 1;
    loop {
        match timeout(DEADLINE, together(house, batch)).await {
            Ok(Err(Failure::Clash(_))) if tries < TRIES => tries += 1,
            Ok(answers) => return answers,
            Err(_) => return Err(too_slow()),
        }
    }
}

async fn together(house: &House, batch: &[Command]) -> Result<Vec<Answer>, Failure> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut client = house.pools.writer().await?;
    let submissions: Vec<&Submission> = batch.iter().filter_map(Command::submission).collect();
    for job in submissions.iter().map(|submission| &submission.accepted.job) {
        house.names.keep_tenant(&client, &job.tenant).await?;
        house.names.keep_kind(&client, &job.kind).await?;
    }
    let happenings: Vec<(&Happening, Time)> = batch.iter().flat_map(Command::happenings).collect();

    let transaction = client.transaction().await?;
    // Sent without waiting for each other: they have nothing to do with each other but their commit.
    let (mut writes, mut more) = (Writes::default(), Writes::default());
    let submitting = submit::submit(&transaction, &house.names, &submissions, &mut writes);
    let applying = apply::apply(&transaction, &house.names, &happenings, &mut more);
    let (submitted, applied) = try_join(submitting, applying).await?;
    writes.extend(more);
    house.commit(transaction, writes).await?;

    let (mut submitted, mut applied) = (submitted.into_iter(), applied.into_iter());
    let answer = |command: &Command| match command {
        Command::Submit(..) => submitted.next().map(Answer::Submitted),
        Command::Apply(happenings, ..) => Some(Answer::Applied(applied.by_ref().take(happenings.len()).collect())),
    };
    Ok(batch.iter().filter_map(answer).collect())
}

impl Command {
    /// Its happenings, and the bytes of its input and outputs.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Submit(submission, _) => (0, submission.input.len()),
            Self::Apply(happenings, ..) => (happenings.len(), happenings.iter().map(output_size).sum()),
        }
    }

    fn submission(&self) -> Option<&Submission> {
        match self {
            Self::Submit(submission, _) => Some(submission),
            Self::Apply(..) => None,
        }
    }

    fn happenings(&self) -> impl Iterator<Item = (&Happening, Time)> {
        let (happenings, now) = match self {
            Self::Submit(..) => (&[][..], Time::from_millis(0)),
            Self::Apply(happenings, now, _) => (&happenings[..], *now),
        };
        happenings.iter().map(move |happening| (happening, now))
    }

    fn is_given_up(&self) -> bool {
        match self {
            Self::Submit(_, reply) => reply.is_closed(),
            Self::Apply(_, _, reply) => reply.is_closed(),
        }
    }

    /// Whoever has gone does not want to know.
    fn answer(self, answer: Result<Answer, StoreError>) {
        match (self, answer) {
            (Self::Submit(_, reply), Ok(Answer::Submitted(submitted))) => drop(reply.send(Ok(submitted))),
            (Self::Apply(_, _, reply), Ok(Answer::Applied(applied))) => drop(reply.send(Ok(applied))),
            (Self::Submit(_, reply), Err(error)) => drop(reply.send(Err(error))),
            (Self::Apply(_, _, reply), Err(error)) => drop(reply.send(Err(error))),
            // Answers are made from their commands, one for each.
            (Self::Submit(..), Ok(Answer::Applied(_))) | (Self::Apply(..), Ok(Answer::Submitted(_))) => {}
        }
    }
}

fn output_size(happening: &Happening) -> usize {
    use crate::lifecycle::Event;
    use buzzer_shared::message::RunResult;
    match &happening.event {
        Event::Finished { result: RunResult::Succeeded(output), .. } => output.len(),
        _ => 0,
    }
}
