//! `buzzer worker-test`: whether a worker, in whatever language, does what a worker must. [`stage`] plays the API's part,
//! [`worker`] is the process, [`inputs`] what it is given, [`trial`] what all tries need, [`rows`] the tries themselves;
//! [`report`](crate::report) tells.

mod inputs;
mod rows;
mod stage;
mod trial;
mod worker;

use std::collections::BTreeSet;
use std::time::Duration;

use buzzer_shared::broker::DeclareError;
use buzzer_shared::broker::amqp::survey::{Sight, Survey, Unseen};
use buzzer_shared::config::{BrokerAddress, BrokerPlace, prefix};
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::message::Request;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Span;
use buzzer_shared::topology::{Declaration, Queue, Topology};
use bytes::Bytes;
use clap::Args;
use url::Url;

use self::inputs::{InputArgs, Inputs};
use self::rows::Row;
use self::stage::{Mark, Stage, Venue, Word};
use self::trial::Trial;
use self::worker::Worker;
use crate::failure::Failure;
use crate::report::{Finding, Report};

/// So often a request has come back that is to be suspect.
const SUSPECT: u32 = 2;

/// Try whether a worker does what a worker must: in any language, on a RabbitMQ, without an API.
///
/// Plays the API's part under a prefix of its own, and drives one kind of the worker through a row of tries. Behind `--`
/// comes the worker's command; it is started with `BUZZER_BROKER` and `BUZZER_PREFIX`, killed, and stopped. Without a command,
/// a worker is waited for that runs on that prefix, and the tries that end it are skipped. One line for each try; exit code
/// 1 when one fails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  buzzer worker-test --kind text.count --slow-input '{\"text\": \"a\\nb\", \"seconds_per_line\": 60}' -- python3 worker.py
  buzzer worker-test --kind echo --prefix tries")]
pub struct WorkerTest {
    /// The kind that is tried.
    #[arg(long, short)]
    kind: Kind,

    #[command(flatten)]
    inputs: InputArgs,

    /// Only these rows. May be repeated.
    #[arg(long, value_enum, value_name = "ROW")]
    only: Vec<Row>,

    /// How long it is waited for anything that the worker should do.
    #[arg(long, default_value = "30s")]
    patience: Span,

    /// Print the rows as JSON: `{"checks": [{"name", "verdict", "text"}]}`.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    broker: BrokerPlace,

    /// What the names of all exchanges and queues begin with; made up unless given. All that bears it is deleted at the end.
    #[arg(long, value_parser = prefix, required_unless_present = "worker")]
    prefix: Option<String>,

    /// The worker's command, with its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    worker: Vec<String>,
}

impl WorkerTest {
    pub async fn run(self) -> Result<(), Failure> {
        let BrokerAddress::Amqp(url) = self.broker.address().clone() else {
            return Err(Failure::Usage(
                "the embedded broker is inside `buzzer up`: name a RabbitMQ with --broker".into(),
            ));
        };
        let Self { kind, inputs, only, patience, json, prefix, worker, .. } = self;
        let prefix = prefix.unwrap_or_else(|| format!("worker-test-{:016x}", fastrand::u64(..)));
        let inputs = inputs.read()?;
        refuse_a_real_one(&url, &prefix, &kind).await?;
        let rows: Vec<Row> = Row::ALL.into_iter().filter(|row| only.is_empty() || only.contains(row)).collect();
        let worker = worker.split_first().map(|(program, arguments)| Worker::new(program, arguments, &url, &prefix));
        let shutdown = Shutdown::on_signals()?;
        let venue = Venue::new(url, &prefix, kind.clone());
        let trying = async {
            let stage = Stage::open(&venue).await?;
            let meeting = Meeting { stage, worker, inputs, kind, patience: patience.as_duration() };
            meeting.try_all(&rows).await
        };
        // The worker ends with the tries, before what it speaks to.
        let tried = tokio::select! {
            tried = Box::pin(trying) => tried,
            () = shutdown.requested() => Err(Failure::Stopped),
        };
        tokio::select! {
            () = venue.clear() => {}
            () = shutdown.forced() => {}
        }
        let report = tried?;
        report.print(json)?;
        match report.failures() {
            0 => Ok(()),
            count => Err(Failure::Unwell(count)),
        }
    }
}

/// A stage, before its worker is there.
#[derive(Debug)]
struct Meeting {
    stage: Stage,
    worker: Option<Worker>,
    inputs: Inputs,
    kind: Kind,
    patience: Duration,
}

impl Meeting {
    /// Waits for the worker, and tries these rows on it.
    async fn try_all(mut self, rows: &[Row]) -> Result<Report, Failure> {
        let suspect = if rows.contains(&Row::Suspect) { self.prepare_suspect().await } else { None };
        if let Some(worker) = &mut self.worker {
            let unstarted =
                worker.start().map_err(|error| format!("cannot start the worker, {:?}: {error}", worker.name()));
            unstarted.map_err(Failure::Usage)?;
        }
        let mut report = Report::default();
        let Some((id, spec)) = self.announced().await else {
            report.add(Row::Announce.name(), Finding::fail(self.nobody()));
            for row in rows.iter().filter(|row| **row != Row::Announce) {
                report.skip(row.name(), "no worker is there");
            }
            return Ok(report);
        };
        let Self { stage, worker, mut inputs, patience, .. } = self;
        if let Some(example) = &spec.example {
            inputs.or_from(example);
        }
        let mut trial = Trial { stage, worker, inputs, spec, id, patience, suspect };
        for row in rows {
            report.add(row.name(), tried(*row, &mut trial).await);
        }
        Ok(report)
    }

    /// A request that has come back twice, as long as nobody else takes it. Its input does not matter, for it is not run.
    async fn prepare_suspect(&mut self) -> Option<Request> {
        let input = self.inputs.good.clone().unwrap_or_else(|| Bytes::from_static(b"null"));
        let request = trial::request(&KindSpec::any(self.kind.clone()), input);
        let came_back = self.stage.bring_back(&request, SUSPECT).await;
        came_back.is_ok_and(|back| back).then_some(request)
    }

    /// The first worker that announces the kind, and what it says of that.
    async fn announced(&mut self) -> Option<(WorkerId, KindSpec)> {
        let kind = &self.kind;
        let announced = self.stage.hear(Mark::START, self.patience, |word| match word {
            Word::Announce(announce) => {
                let spec = announce.kinds.iter().find(|spec| spec.name == *kind)?;
                Some((announce.worker, spec.clone()))
            }
            _ => None,
        });
        announced.await
    }

    /// Why there is no worker, as far as it can be seen.
    fn nobody(&mut self) -> String {
        if let Some(reason) = self.refusal() {
            return format!("a worker announced {}, and the API would refuse it: {reason}", self.kind);
        }
        let mut text = format!("no worker announced {} within {:?}", self.kind, self.patience);
        if let Some(ended) = self.worker.as_mut().and_then(Worker::ended) {
            text = format!("{text}: it ended, {ended}");
        }
        let others: BTreeSet<String> = self.stage.since(Mark::START).iter().flat_map(Word::kinds).collect();
        if !others.is_empty() {
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            text = format!("{text}, but {others}: name one of these with --kind");
        }
        match self.stage.complaint() {
            Some(why) => format!("{text}; {why}"),
            None => text,
        }
    }

    /// Why what a worker says of the kind cannot be read, if one says something.
    fn refusal(&mut self) -> Option<String> {
        let announced = self.stage.since(Mark::START).iter().filter_map(|word| match word {
            Word::Announce(announce) => Some(announce),
            _ => None,
        });
        let mut refused = announced.flat_map(|announce| &announce.refused);
        refused.find(|refusal| refusal.kind == self.kind.as_str()).map(|refusal| refusal.reason.clone())
    }
}

/// What comes of one row. A worker that the row before has brought down is started again.
async fn tried(row: Row, trial: &mut Trial) -> Finding {
    let is_down = trial.worker.as_mut().is_some_and(|worker| worker.ended().is_some());
    if is_down && let Err(flaw) = trial.start_again(None).await {
        return flaw.into();
    }
    match row.try_on(trial).await {
        Ok(seen) => Finding::ok(seen),
        Err(flaw) => flaw.into(),
    }
}

/// All under the prefix is deleted at the end. What is there already may be a Buzzer's, also of one that is stopped: its
/// queues hold outcomes that are not stored yet, and parked messages.
async fn refuse_a_real_one(url: &Url, prefix: &str, kind: &Kind) -> Result<(), Failure> {
    let unseen = |unseen: Unseen| match unseen {
        Unseen::Away(reason) => DeclareError::Away(reason),
        Unseen::Refused(reason) => DeclareError::Refused { what: "a connection".into(), reason },
    };
    let topology = Topology::new(prefix);
    let survey = Survey::open(url).await.map_err(unseen)?;
    for declaration in [topology.fixed(), topology.requests(kind)].concat() {
        let Declaration::Queue(Queue { name, .. }) = declaration else { continue };
        match survey.waiting(&name).await.map_err(unseen)? {
            Sight::There(messages) => return Err(Failure::Usage(taken(&name, messages))),
            // Who may not look may not delete either.
            Sight::Absent | Sight::Hidden => {}
        }
    }
    Ok(())
}

/// Why a prefix is not tried on, and what to do.
fn taken(queue: &str, messages: u32) -> String {
    format!(
        "{queue} is there already, with {messages} messages, and all under the prefix would be deleted at the end: name \
         another --prefix, for it may belong to a Buzzer, also to one that is stopped. If a try left it that was killed, \
         remove it with `rabbitmqctl delete_queue {queue}`"
    )
}
