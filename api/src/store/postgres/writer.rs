use std::fmt;
use std::sync::Arc;

use buzzer_shared::time::Time;
use deadpool_postgres::Object;
use futures_util::future::try_join3;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::begun::Begun;
use super::error::{Failure, stopped, too_slow};
use super::hints::News;
use super::house::{House, Mark};
use super::pools::WRITERS;
use super::writes::Writes;
use super::{apply, submit};
use crate::lifecycle::Job;
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
        // Whoever comes while it begins comes along.
        let begun = begin(&house).await;
        let batch;
        (batch, left) = gather(first, &waiting);
        match begun {
            Ok(begun) => settle(&house, batch, begun).await,
            Err(failure) => refuse(batch, failure),
        }
    }
}

async fn begin(house: &House) -> Result<Begun, Failure> {
    let begun = async { Ok(Begun::begin(house.pools.writer().await?).await?) };
    timeout(DEADLINE, begun).await.unwrap_or_else(|_| Err(too_slow()))
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
async fn settle(house: &House, batch: Vec<Command>, begun: Begun) {
    let mut begun = Some(begun);
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        // Nobody waits for them any more, and nobody was promised anything.
        part.retain(|command| !command.is_given_up());
        match commit(house, &part, begun.take()).await {
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
            Err(failure) => refuse(part, failure),
        }
    }
}

fn refuse(batch: Vec<Command>, failure: Failure) {
    let error = StoreError::from(failure);
    batch.into_iter().for_each(|command| command.answer(Err(error.clone())));
}

/// What to answer to a command.
enum Answer {
    Submitted(Submitted),
    Applied(Vec<Applied>),
}

/// Runs a batch, again where another replica was in its way. A server that hangs is not waited for.
async fn commit(house: &House, batch: &[Command], mut begun: Option<Begun>) -> Result<Vec<Answer>, Failure> {
    let mut tries = 1;
    loop {
        match timeout(DEADLINE, together(house, batch, begun.take())).await {
            Ok(Err(Failure::Clash(_))) if tries < TRIES => tries += 1,
            Ok(answers) => return answers,
            Err(_) => return Err(too_slow()),
        }
    }
}

async fn together(house: &House, batch: &[Command], begun: Option<Begun>) -> Result<Vec<Answer>, Failure> {
    let transaction = match begun {
        Some(begun) if batch.is_empty() => {
            begun.roll_back().await;
            return Ok(Vec::new());
        }
        Some(begun) => begun,
        None => begin(house).await?,
    };
    let done = match run(house, transaction.client(), batch).await {
        Ok(done) => done,
        Err(failure) => {
            transaction.roll_back().await;
            return Err(failure);
        }
    };
    house.settle(transaction.commit().await, &done.mark, done.news).await?;

    let (mut submitted, mut applied) = (done.submitted.into_iter(), done.applied.into_iter());
    let answer = |command: &Command| match command {
        Command::Submit(..) => submitted.next().map(Answer::Submitted),
        Command::Apply(happenings, ..) => Some(Answer::Applied(applied.by_ref().take(happenings.len()).collect())),
    };
    Ok(batch.iter().filter_map(answer).collect())
}

/// What a transaction has done, before its commit.
struct Done {
    submitted: Vec<Submitted>,
    applied: Vec<Applied>,
    mark: Mark,
    news: News,
}

/// Everything of a batch but its commit. What does not need the answer to what is before it does not wait for that: each
/// round trip is a part of the time for which others wait.
async fn run(house: &House, client: &Object, batch: &[Command]) -> Result<Done, Failure> {
    let submissions: Vec<&Submission> = batch.iter().filter_map(Command::submission).collect();
    name(house, &submissions).await?;
    let happenings: Vec<(&Happening, Time)> = batch.iter().flat_map(Command::happenings).collect();

    // Submissions and outcomes have nothing to do with each other but their commit.
    let (mut writes, mut more) = (Writes::default(), Writes::default());
    let submitting = submit::submit(client, &house.names, &submissions, &mut writes);
    let applying = apply::apply(client, &house.names, &happenings, &mut more);
    let (mark, submitted, applied) = try_join3(Mark::leave(client), submitting, applying).await?;
    writes.extend(more);
    let news = writes.write(client, &house.hooks).await?;
    Ok(Done { submitted, applied, mark, news })
}

/// Gives numbers to the tenants and kinds that have none: not in the transaction, for the numbers are remembered, whatever
/// becomes of that.
async fn name(house: &House, submissions: &[&Submission]) -> Result<(), Failure> {
    for Job { tenant, kind, .. } in submissions.iter().map(|submission| &submission.accepted.job) {
        if house.names.kept_tenant(tenant).is_err() {
            house.names.keep_tenant(&house.pools.work().await?, tenant).await?;
        }
        if house.names.kept_kind(kind).is_err() {
            house.names.keep_kind(&house.pools.work().await?, kind).await?;
        }
    }
    Ok(())
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
