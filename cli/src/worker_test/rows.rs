//! What is tried, row by row. Each says in a few words what was seen, or what is wrong.

use std::time::Duration;

use buzzer_shared::contract::{Checker, examine};
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::message::{Control, Message, Request, Retry, ReturnReason, RunResult, SignalBody};
use clap::ValueEnum;

use super::stage::{Mark, Word};
use super::trial::{Flaw, Trial, announces, failed, is_told_by, words};

/// A worker that is asked answers at once; far less than the time between two announcements of its own.
const ASKED: Duration = Duration::from_secs(10);
/// Two beats, and a slow machine.
const BEATS: Duration = Duration::from_secs(15);
/// So long it is looked that something does not happen.
const NOTHING: Duration = Duration::from_secs(3);
/// A run tells no more in a second, and its start.
const SIGNALS_MAX: usize = 11;

/// Something that a worker must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// It announces the kind at its start, and when it is asked.
    Announce,
    /// It hands a request back that came again and again.
    Suspect,
    /// It runs a request, and its outcome says all.
    Run,
    /// It takes almost 1 MiB.
    BigInput,
    /// A failure may be tried again, and then it is run again.
    Retry,
    /// It puts aside what it cannot read.
    Unreadable,
    /// It says that a run starts, and numbers what it tells.
    Progress,
    /// Its beats name what it holds.
    Beat,
    /// It stops what is canceled, also what had not come yet.
    Cancel,
    /// It does not run twice what is delivered twice.
    Duplicate,
    /// It runs a suspect by itself, and says so before.
    Alone,
    /// What it runs when it is killed is not lost.
    Kill,
    /// What kills it alone does not come again.
    Poison,
    /// On SIGTERM it finishes or hands back, says goodbye and ends.
    Drain,
}

impl Row {
    /// Every row, in the order in which they are tried: the last ones end the worker.
    pub const ALL: [Self; 14] = [
        Self::Announce,
        Self::Suspect,
        Self::Run,
        Self::BigInput,
        Self::Retry,
        Self::Unreadable,
        Self::Progress,
        Self::Beat,
        Self::Cancel,
        Self::Duplicate,
        Self::Alone,
        Self::Kill,
        Self::Poison,
        Self::Drain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Suspect => "suspect",
            Self::Run => "run",
            Self::BigInput => "big-input",
            Self::Retry => "retry",
            Self::Unreadable => "unreadable",
            Self::Progress => "progress",
            Self::Beat => "beat",
            Self::Cancel => "cancel",
            Self::Duplicate => "duplicate",
            Self::Alone => "alone",
            Self::Kill => "kill",
            Self::Poison => "poison",
            Self::Drain => "drain",
        }
    }

    /// What was seen.
    ///
    /// # Errors
    /// What is wrong, or what it would take to try it.
    pub async fn try_on(self, trial: &mut Trial) -> Result<String, Flaw> {
        match self {
            Self::Announce => announce(trial).await,
            Self::Suspect => suspect(trial).await,
            Self::Run => run(trial).await,
            Self::BigInput => big_input(trial).await,
            Self::Retry => retry(trial).await,
            Self::Unreadable => unreadable(trial).await,
            Self::Progress => progress(trial).await,
            Self::Beat => beat(trial).await,
            Self::Cancel => cancel(trial).await,
            Self::Duplicate => duplicate(trial).await,
            Self::Alone => alone(trial).await,
            Self::Kill => kill(trial).await,
            Self::Poison => poison(trial).await,
            Self::Drain => drain(trial).await,
        }
    }
}

async fn announce(trial: &mut Trial) -> Result<String, Flaw> {
    asked(trial).await?;
    let spec = &trial.spec;
    if let Err(reason) = examine(spec) {
        return failed(format!("the API would refuse the kind: {reason}"));
    }
    Ok(format!("{} slots, {} for a run; answers when it is asked", spec.slots, spec.timeout))
}

/// Asks the worker to announce itself, and waits until it has: by then it has heard what was said to it before.
async fn asked(trial: &mut Trial) -> Result<(), Flaw> {
    let (mark, id, kind) = (trial.stage.mark(), trial.id, trial.spec.name.clone());
    trial.stage.say(&Control::Announce).await?;
    let answered = trial.stage.hear(mark, ASKED, |word| match word {
        Word::Announce(announce) if announce.worker == id && announces(announce, &kind) => Some(()),
        _ => None,
    });
    match answered.await {
        Some(()) => Ok(()),
        None => failed(format!("it was asked to announce itself, and did not within {ASKED:?}")),
    }
}

async fn suspect(trial: &mut Trial) -> Result<String, Flaw> {
    let Some(request) = trial.suspect.take() else {
        return Err(Flaw::Skipped("the worker took requests before this began: start it afterwards".into()));
    };
    if trial.spec.delivery == DeliveryMode::AtMostOnce {
        return Err(Flaw::Skipped("the kind is run at most once: what comes again is not run at all".into()));
    }
    match trial.outcome(Mark::START, request.run).await?.result {
        RunResult::Returned(ReturnReason::Suspect) => Ok("handed back what had come back twice".into()),
        other => failed(format!(
            "a request whose x-delivery-count was 2 ended {}: it must be returned, reason suspect",
            words(&other)
        )),
    }
}

async fn run(trial: &mut Trial) -> Result<String, Flaw> {
    let (request, mark) = (trial.good()?, trial.stage.mark());
    trial.stage.send(&request).await?;
    let outcome = trial.outcome(mark, request.run).await?;
    if outcome.worker != trial.id {
        return failed(format!("the outcome names the worker {}; {} announced itself", outcome.worker, trial.id));
    }
    if outcome.started_at.is_none() {
        return failed("the outcome does not say when the run started: its header started-at-ms is missing");
    }
    match outcome.result {
        RunResult::Succeeded(output) => fitting(&trial.spec, &output),
        other => failed(format!("it ended {}", words(&other))),
    }
}

/// The output is what the worker has announced: nobody looks at it later, and the documents promise it.
fn fitting(spec: &KindSpec, output: &[u8]) -> Result<String, Flaw> {
    let value = match serde_json::from_slice(output) {
        Ok(value) => value,
        Err(error) => return failed(format!("its output is no JSON: {error}")),
    };
    let checker = match Checker::new(&spec.output_schema) {
        Ok(checker) => checker,
        Err(reason) => return failed(format!("its output_schema cannot be used: {reason}")),
    };
    match checker.misfits(&value).first() {
        None => Ok(format!("{} bytes of output", output.len())),
        Some(misfit) => {
            failed(format!("its output does not fit its output_schema: at {:?}, {}", misfit.pointer, misfit.detail))
        }
    }
}

async fn big_input(trial: &mut Trial) -> Result<String, Flaw> {
    let (request, mark) = (trial.big()?, trial.stage.mark());
    trial.stage.send(&request).await?;
    let text = match trial.outcome(mark, request.run).await?.result {
        RunResult::Succeeded(output) => format!("{} bytes in, {} out", request.input.len(), output.len()),
        failure @ RunResult::Failed { .. } => format!("{} bytes in; {}", request.input.len(), words(&failure)),
        other => return failed(format!("it ended {}", words(&other))),
    };
    trial.still_works().await?;
    Ok(text)
}

async fn retry(trial: &mut Trial) -> Result<String, Flaw> {
    let first = trial.failing()?;
    let wait = failure(trial, &first).await?;
    // As the API sends it again: the same job, another run.
    let mut second = first;
    second.run.dispatch += 1;
    second.attempt += 1;
    failure(trial, &second).await?;
    Ok(format!("two attempts failed, {wait}"))
}

/// Sends a request that has to fail, and may be tried again: when.
async fn failure(trial: &mut Trial, request: &Request) -> Result<String, Flaw> {
    let (mark, attempt) = (trial.stage.mark(), request.attempt);
    trial.stage.send(request).await?;
    match trial.outcome(mark, request.run).await?.result {
        RunResult::Failed { retry: Retry::Never, problem } => failed(format!(
            "attempt {attempt} failed for good, {}: it must be possible to try it again",
            problem.r#type
        )),
        RunResult::Failed { problem, .. } if problem.r#type.is_empty() => {
            failed(format!("the problem of attempt {attempt} has an empty type"))
        }
        RunResult::Failed { retry: Retry::After(delay), .. } => Ok(format!("to be tried again after {delay:?}")),
        RunResult::Failed { retry: Retry::Policy, .. } => Ok("to be tried again by the job's policy".into()),
        other => failed(format!("attempt {attempt} ended {}, and had to fail", words(&other))),
    }
}

async fn unreadable(trial: &mut Trial) -> Result<String, Flaw> {
    let unknown = Message { r#type: "buzzer.request.v9".into(), ..trial.good()?.to_message() };
    parked(trial, unknown, "a request of type buzzer.request.v9").await?;
    let mut endless = trial.good()?.to_message();
    endless.headers.retain(|(name, _)| name != "timeout-ms");
    parked(trial, endless, "a request without the header timeout-ms").await?;
    trial.still_works().await?;
    Ok("parked with a reason".into())
}

/// Sends what cannot be read, and waits until it is put aside.
async fn parked(trial: &mut Trial, message: Message, what: &str) -> Result<(), Flaw> {
    let (mark, id) = (trial.stage.mark(), message.message_id.clone());
    trial.stage.send_message(message).await?;
    let parked = trial.stage.hear(mark, trial.patience, |word| match word {
        Word::Parked(message) => Some(message.headers.iter().any(|(name, _)| name == "parked-reason")),
        Word::Outcome(outcome) if id == Some(outcome.run.to_string()) => Some(false),
        _ => None,
    });
    match parked.await {
        Some(true) => Ok(()),
        Some(false) => failed(format!("{what} was answered, or parked without a reason")),
        None => failed(format!("{what} was not put into the parking")),
    }
}

async fn progress(trial: &mut Trial) -> Result<String, Flaw> {
    let request = trial.slow()?;
    let (mark, run) = (trial.begin(&request).await?, request.run);
    let started = trial.stage.hear(mark, trial.patience, |word| match word {
        Word::Signal(signal) if signal.run == run && signal.body == SignalBody::Started => Some(()),
        Word::Started(started) if started.run == run => Some(()),
        _ => None,
    });
    if started.await.is_none() {
        return failed("it did not say that the run started");
    }
    // A kind may have nothing to tell.
    let told = trial.stage.hear(mark, BEATS, |word| match word {
        Word::Signal(signal) if signal.run == run && signal.body != SignalBody::Started => Some(()),
        _ => None,
    });
    told.await;
    trial.end(mark, run).await?;
    let signals = trial.stage.since(mark).iter().filter_map(|word| match word {
        Word::Signal(signal) if signal.run == run => Some((signal.n, signal.at)),
        _ => None,
    });
    let signals: Vec<_> = signals.collect();
    if let Some(pair) = signals.windows(2).find(|pair| pair[1].0 <= pair[0].0) {
        return failed(format!("signal {} came after signal {}: within a run, n must rise", pair[1].0, pair[0].0));
    }
    let crowded =
        signals.windows(SIGNALS_MAX + 1).any(|many| many[SIGNALS_MAX].1.since(many[0].1) < Duration::from_secs(1));
    if crowded {
        return failed("it told more than ten things in a second");
    }
    Ok(match signals.len().saturating_sub(1) {
        0 => "started; the kind tells nothing more".into(),
        1 => "started, and told once more".into(),
        more => format!("started, and told {more} times more"),
    })
}

async fn beat(trial: &mut Trial) -> Result<String, Flaw> {
    let request = trial.slow()?;
    let mark = trial.begin(&request).await?;
    let (run, id) = (request.run, trial.id);
    let beaten = trial.stage.hear(mark, BEATS, |word| match word {
        Word::Beat(beat) if beat.worker == id && beat.held.contains(&run) => Some(()),
        _ => None,
    });
    let beaten = beaten.await;
    trial.end(mark, run).await?;
    match beaten {
        Some(()) => Ok("names what it holds".into()),
        None => failed(format!("no beat named a run that it held for {BEATS:?}: it would be taken for lost")),
    }
}

async fn cancel(trial: &mut Trial) -> Result<String, Flaw> {
    let request = trial.slow()?;
    let mark = trial.begin(&request).await?;
    match trial.end(mark, request.run).await?.result {
        RunResult::Canceled => {}
        RunResult::Succeeded(_) => return failed("it succeeded all the same; is --slow-input slow enough?"),
        other => return failed(format!("a run that was canceled ended {}", words(&other))),
    }
    let early = trial.slow()?;
    let mark = trial.stage.mark();
    trial.stage.say(&Control::Cancel { runs: vec![early.run] }).await?;
    asked(trial).await?;
    trial.stage.send(&early).await?;
    match trial.outcome(mark, early.run).await?.result {
        RunResult::Canceled => Ok("stopped what ran, and what had not come yet".into()),
        other => failed(format!("a request whose cancel came before it ended {}", words(&other))),
    }
}

async fn duplicate(trial: &mut Trial) -> Result<String, Flaw> {
    let request = trial.slow()?;
    let mark = trial.begin(&request).await?;
    trial.stage.send(&request).await?;
    if trial.spec.slots > 1 {
        // Its outcome shows that the copy before it was taken, too.
        trial.still_works().await?;
    }
    trial.end(mark, request.run).await?;
    // And once more, now that it is answered.
    trial.stage.send(&request).await?;
    trial.still_works().await?;
    let run = request.run;
    trial.stage.listen_for(NOTHING).await;
    let said = trial.stage.since(mark);
    let outcomes = said.iter().filter(|word| matches!(word, Word::Outcome(outcome) if outcome.run == run)).count();
    let is_start = |word: &&Word| match word {
        Word::Signal(signal) => signal.run == run && signal.body == SignalBody::Started,
        Word::Started(started) => started.run == run,
        _ => false,
    };
    let starts = said.iter().filter(is_start).count();
    if outcomes > 1 || starts > 1 {
        return failed(format!(
            "a request that was delivered three times started {starts} times, with {outcomes} outcomes"
        ));
    }
    Ok("ran once what came three times".into())
}

/// Sends a slow request that is to be alone, and waits until the worker says that it starts.
async fn begin_alone(trial: &mut Trial) -> Result<(Request, Mark), Flaw> {
    let request = Request { alone: true, ..trial.slow()? };
    trial.idle().await?;
    let mark = trial.stage.mark();
    trial.stage.send(&request).await?;
    let (run, patience) = (request.run, trial.patience);
    let started = trial.stage.hear(mark, patience, |word| match word {
        Word::Started(started) if started.run == run => Some(Ok(started.charged)),
        Word::Outcome(outcome) if outcome.run == run => Some(Err(words(&outcome.result))),
        _ => None,
    });
    match started.await {
        Some(Ok(true)) => Ok((request, mark)),
        Some(Ok(false)) => failed("nothing ran beside a suspect, and its buzzer.started.v1 was not charged"),
        Some(Err(ended)) => failed(format!("a suspect ended {ended}, and no buzzer.started.v1 came before")),
        None => failed(format!("no buzzer.started.v1 came for a suspect within {patience:?}")),
    }
}

async fn alone(trial: &mut Trial) -> Result<String, Flaw> {
    let beside = trial.good()?;
    let (request, mark) = begin_alone(trial).await?;
    let later = trial.stage.mark();
    trial.stage.send(&beside).await?;
    // Its beats may name it: it is held, and waits.
    let run = beside.run;
    let company = trial.stage.hear(later, NOTHING, |word| (word.run() == Some(run)).then_some(()));
    if company.await.is_some() {
        return failed("another run started beside a suspect: a crash of the one would be charged to the other");
    }
    trial.end(mark, request.run).await?;
    trial.outcome(later, run).await?;
    Ok("said so before, and ran nothing beside it".into())
}

async fn kill(trial: &mut Trial) -> Result<String, Flaw> {
    if trial.spec.acknowledges_early() {
        return Err(Flaw::Skipped("the kind is acknowledged before it runs, and lives on its lease".into()));
    }
    trial.process()?;
    let request = trial.slow()?;
    trial.begin(&request).await?;
    trial.process()?.kill();
    let mark = trial.stage.mark();
    trial.start_again(Some(request.run)).await?;
    let (run, patience, id) = (request.run, trial.patience, trial.id);
    let again = trial.stage.hear(mark, patience, |word| is_told_by(id, word, run).then_some(()));
    if again.await.is_none() {
        return failed("what it ran when it was killed did not come again: it was acknowledged before its outcome");
    }
    trial.end(mark, run).await?;
    Ok("its request came again, and was run".into())
}

async fn poison(trial: &mut Trial) -> Result<String, Flaw> {
    trial.process()?;
    let (request, _) = begin_alone(trial).await?;
    // The acknowledgement goes out behind the word of the start.
    trial.stage.listen_for(NOTHING).await;
    trial.process()?.kill();
    let mark = trial.stage.mark();
    trial.start_again(Some(request.run)).await?;
    let (run, id) = (request.run, trial.id);
    let again = trial.stage.hear(mark, BEATS, |word| is_told_by(id, word, run).then_some(()));
    if again.await.is_some() {
        return failed("a suspect that had killed its worker came again: it was not acknowledged before it ran");
    }
    trial.still_works().await?;
    Ok("what killed it alone did not come again".into())
}

async fn drain(trial: &mut Trial) -> Result<String, Flaw> {
    trial.process()?;
    let request = trial.slow()?;
    let mark = trial.begin(&request).await?;
    let (id, patience) = (trial.id, trial.patience);
    trial.process()?.ask_to_stop();
    let result = trial.outcome(mark, request.run).await?.result;
    if !matches!(result, RunResult::Succeeded(_) | RunResult::Returned(ReturnReason::Stopping)) {
        return failed(format!("what ran ended {}: it must be finished, or returned, reason stopping", words(&result)));
    }
    let goodbye = trial.stage.hear(mark, patience, |word| match word {
        Word::Beat(beat) if beat.worker == id && beat.leaving => Some(()),
        _ => None,
    });
    if goodbye.await.is_none() {
        return failed("no last beat said that it is leaving");
    }
    match trial.process()?.end(patience).await {
        Ok(_) => Ok(format!("what ran was {}; it said goodbye and ended", words(&result))),
        Err(_) => failed(format!("it still runs {patience:?} after its goodbye")),
    }
}
