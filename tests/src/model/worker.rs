//! Workers that follow a script: some of their runs go well, the others go wrong in every way that is known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buzzer_shared::broker::{Broker, Delivery, Receipt, Receipts, Subscriber, Subscription};
use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::message::{
    Announce, Beat, Control, Message, Outcome, Request, Retry, ReturnReason, RunResult, Signal, SignalBody, Started,
};
use buzzer_shared::problem::{self, Problem};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use buzzer_shared::topology::Route;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ledger::{Begun, Ledger, Said};
use crate::hostile::HostileBroker;
use crate::inside::topology;

/// Tried again when it fails.
pub const PLAIN: &str = "plain";
/// Run at most once.
pub const ONCE: &str = "once";
/// May take so long that its requests are acknowledged early.
pub const LONG: &str = "long";

const BEAT: Duration = Duration::from_millis(150);
const ANNOUNCE_EVERY: u32 = 6;
/// What the broker did not take is handed over again after this.
const AGAIN: Duration = Duration::from_millis(20);
/// Runs that are forgotten keep their requests unacknowledged, and must not hold up the others.
const PREFETCH: u16 = 500;
/// A request that came so often before is a suspect.
const SUSPECT: u32 = 2;
/// Beyond every lease of these tests.
const LATE: Duration = Duration::from_millis(1300);

/// How all workers of one test behave. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Manners(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many runs of each kind a worker says that it takes on.
    slots: u16,
    good: AtomicBool,
    runs: AtomicUsize,
}

impl Manners {
    pub fn new(slots: u16) -> Self {
        Self(Arc::new(Inner { slots, ..Inner::default() }))
    }

    /// From now on every run goes well, but for those of poison.
    pub fn mend(&self) {
        self.0.good.store(true, Ordering::SeqCst);
    }

    /// How many runs are under way.
    pub fn runs(&self) -> usize {
        self.0.runs.load(Ordering::SeqCst)
    }

    fn good(&self) -> bool {
        self.0.good.load(Ordering::SeqCst)
    }
}

/// A worker process. Dropped, it is killed: nothing is answered, and its line breaks.
#[derive(Debug)]
pub struct ScriptedWorker {
    life: JoinHandle<()>,
    line: Arc<HostileBroker>,
}

impl ScriptedWorker {
    pub fn start(line: HostileBroker, ledger: Ledger, manners: Manners, mut dice: fastrand::Rng) -> Self {
        let line = Arc::new(line);
        let crew =
            Crew { id: WorkerId::new(line.now()), line: Arc::clone(&line), ledger, held: Held::default(), manners };
        let script = dice.fork();
        Self { life: tokio::spawn(live(crew, script)), line }
    }

    /// Ends once nothing of it is left.
    pub async fn kill(mut self) {
        self.life.abort();
        // An error, since it was canceled.
        let _ = (&mut self.life).await;
        self.line.close().await;
    }
}

impl Drop for ScriptedWorker {
    fn drop(&mut self) {
        self.life.abort();
    }
}

/// What the runs of a worker share.
#[derive(Debug, Clone)]
struct Crew {
    id: WorkerId,
    line: Arc<HostileBroker>,
    ledger: Ledger,
    held: Held,
    manners: Manners,
}

/// What a worker has taken and not answered, each with how it is told to stop.
#[derive(Debug, Clone, Default)]
struct Held(Arc<Mutex<HashMap<RunId, CancellationToken>>>);

impl Held {
    fn all(&self) -> MutexGuard<'_, HashMap<RunId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a run goes.
#[derive(Debug, Clone, Copy)]
enum Script {
    Succeed,
    Fail(Retry),
    /// Goes on until it is told to stop, or for so long.
    Linger,
    /// Not begun.
    HandBack(ReturnReason),
    /// Begun, and given up.
    GiveUp,
    /// Neither beats nor answers any more.
    Vanish,
    /// Fails, and then says that it has succeeded or failed once more.
    AnswerTwice,
    /// Does not beat, and answers when the job may have been run again.
    Late,
    /// Fails in the name of a dispatch before its own, and of one that never was, before it succeeds.
    Forge,
}

impl Script {
    fn of(request: &Request, good: bool, dice: &mut fastrand::Rng) -> Self {
        if is_poison(request) {
            let unmasked = !good && !request.alone && dice.bool();
            return if unmasked { Script::HandBack(ReturnReason::Suspect) } else { Script::Vanish };
        }
        if good {
            return Script::Succeed;
        }
        match dice.u32(..100) {
            0..36 => Script::Succeed,
            36..48 => Script::Fail(Retry::Policy),
            48..51 => Script::Fail(Retry::Never),
            51..54 => Script::Fail(Retry::After(Duration::from_millis(100))),
            54..66 => Script::Linger,
            66..68 => Script::HandBack(ReturnReason::Stopping),
            68..70 => Script::HandBack(ReturnReason::Suspect),
            70..72 => Script::HandBack(ReturnReason::NoSlot),
            72..76 => Script::GiveUp,
            76..82 => Script::Vanish,
            82..88 => Script::AnswerTwice,
            88..93 => Script::Late,
            _ => Script::Forge,
        }
    }
}

/// Takes requests, beats, and hears what the API says, until it is killed.
async fn live(crew: Crew, mut dice: fastrand::Rng) {
    let specs = kinds(crew.manners.0.slots);
    let [mut plain, mut once, mut long] = specs.each_ref().map(|spec| crew.requests(spec));
    let mut control = crew.line.subscribe(Subscription {
        queue: topology().control_queue(crew.id),
        declare: topology().control(crew.id),
        receipts: Receipts::Automatic,
    });
    let mut beat = tokio::time::interval(BEAT);
    let mut beats = 0;
    let mut runs = JoinSet::new();
    loop {
        let delivery = tokio::select! {
            Some(delivery) = plain.next() => delivery,
            Some(delivery) = once.next() => delivery,
            Some(delivery) = long.next() => delivery,
            Some(word) = control.next() => {
                crew.hear(&word.message, &specs).await;
                continue;
            }
            _ = beat.tick() => {
                if beats % ANNOUNCE_EVERY == 0 {
                    crew.announce(&specs).await;
                }
                beats += 1;
                crew.beat().await;
                continue;
            }
            Some(_) = runs.join_next(), if !runs.is_empty() => continue,
        };
        let Ok(request) = Request::read(&delivery.message) else {
            crew.ledger.broken(format!("a request cannot be read: {:?}", delivery.message));
            continue;
        };
        crew.ledger.taken(request.run);
        let script = Script::of(&request, crew.manners.good(), &mut dice);
        runs.spawn(crew.clone().run(Run { request, script, dice: dice.fork() }, delivery));
    }
}

/// One run as it is meant to go.
struct Run {
    request: Request,
    script: Script,
    dice: fastrand::Rng,
}

impl Crew {
    fn now(&self) -> Time {
        self.line.now()
    }

    fn requests(&self, spec: &KindSpec) -> Subscriber {
        let queue = topology().requests_queue(&spec.name);
        let receipts = Receipts::Manual { prefetch: PREFETCH };
        self.line.subscribe(Subscription { queue, declare: Vec::new(), receipts })
    }

    async fn announce(&self, specs: &[KindSpec]) {
        let announce = Announce {
            worker: self.id,
            host: "script".into(),
            version: "0".into(),
            started_at: self.now(),
            kinds: specs.to_vec(),
            refused: Vec::new(),
        };
        // Nobody waits for a pulse: the next one comes soon.
        let _ = self.line.publish(topology().pulse(), announce.to_message()).await;
    }

    async fn beat(&self) {
        let held = self.held.all().keys().copied().collect();
        let beat = Beat { worker: self.id, held, leaving: false };
        let _ = self.line.publish(topology().pulse(), beat.to_message()).await;
    }

    async fn hear(&self, word: &Message, specs: &[KindSpec]) {
        match Control::read(word) {
            Ok(Control::Announce) => self.announce(specs).await,
            Ok(Control::Cancel { runs }) => {
                let held = self.held.all();
                runs.iter().filter_map(|run| held.get(run)).for_each(CancellationToken::cancel);
            }
            Ok(Control::Refused { kinds, .. }) => self.ledger.broken(format!("kinds are refused: {kinds:?}")),
            Err(reason) => self.ledger.broken(format!("a word to the workers cannot be read: {reason}")),
        }
    }

    /// What every worker must do with a request, whatever its script says.
    async fn run(self, run: Run, delivery: Delivery) {
        let _counted = Counted::new(self.manners.clone());
        let Delivery { redeliveries, receipt, .. } = delivery;
        let (id, stop) = (run.request.run, CancellationToken::new());
        if self.held.all().contains_key(&id) {
            // Adopted by the run that goes on already.
            return receipt.acknowledge();
        }
        self.held.all().insert(id, stop.clone());
        let is_once = run.request.kind.as_str() == ONCE;
        let answered = if is_once && redeliveries > 0 {
            // Somebody may have begun it. Nobody may say that it can go out again.
            let problem = problem::job::lost("It was delivered before.");
            self.say(id, Said::Failed { last: true }, false, |number| {
                failed(problem.with("report", number), Retry::Never)
            })
            .await;
            Some(receipt)
        } else if !run.request.alone && redeliveries >= SUSPECT {
            self.ledger.suspected(id.job);
            self.answer(id, None, RunResult::Returned(ReturnReason::Suspect)).await;
            Some(receipt)
        } else if run.request.expires_in.is_some_and(|left| left.is_zero()) {
            self.answer(id, None, RunResult::Returned(ReturnReason::Expired)).await;
            Some(receipt)
        } else {
            self.play(run, receipt, stop).await
        };
        self.held.all().remove(&id);
        if let Some(receipt) = answered {
            receipt.acknowledge();
        }
    }

    /// Returns the receipt when the run was answered, and is to be acknowledged now.
    async fn play(&self, run: Run, receipt: Receipt, stop: CancellationToken) -> Option<Receipt> {
        let Run { request, script, mut dice } = run;
        let id = request.run;
        if let Script::HandBack(reason) = script {
            if reason == ReturnReason::Suspect {
                self.ledger.suspected(id.job);
            }
            self.answer(id, None, RunResult::Returned(reason)).await;
            return Some(receipt);
        }
        let early = request.alone || request.kind.as_str() != PLAIN || dice.u32(..20) == 0;
        let mut receipt = Some(receipt);
        if early {
            let started = Started { run: id, worker: self.id, at: self.now(), charged: request.alone };
            self.ledger.started_early(&started);
            // Begun at the moment that the word of it tells.
            self.hand_over(topology().outcome(), started.to_message()).await;
            // Now and then the acknowledgement is lost with its worker.
            if dice.u32(..8) > 0 {
                receipt.take().into_iter().for_each(Receipt::acknowledge);
            }
            self.ledger.begun(id.job, Begun { dispatch: id.dispatch, worker: self.id, at: started.at });
            self.act(id, script, Some(started.at), stop, &mut dice).await?;
        } else {
            let at = self.now();
            self.ledger.begun(id.job, Begun { dispatch: id.dispatch, worker: self.id, at });
            self.signal(id, 1, at, SignalBody::Started).await;
            self.act(id, script, Some(at), stop, &mut dice).await?;
        }
        receipt
    }

    /// What a script does once its run has begun. `None`: it does not answer.
    async fn act(
        &self,
        id: RunId,
        script: Script,
        begun: Option<Time>,
        stop: CancellationToken,
        dice: &mut fastrand::Rng,
    ) -> Option<()> {
        let work = Duration::from_millis(dice.u64(1..60));
        match script {
            Script::Vanish => {
                self.held.all().remove(&id);
                return None;
            }
            Script::Late => {
                self.held.all().remove(&id);
                tokio::time::sleep(LATE + work * 15).await;
            }
            Script::Linger => {
                self.signal(id, 2, self.now(), SignalBody::Progress { percent: Some(50.0), message: None }).await;
                tokio::select! {
                    () = stop.cancelled() => {
                        self.answer(id, begun, RunResult::Canceled).await;
                        return Some(());
                    }
                    () = tokio::time::sleep(work * 15) => {}
                }
            }
            _ => tokio::time::sleep(work).await,
        }
        match script {
            Script::Fail(retry) => self.fail(id, begun, retry).await,
            Script::Late if dice.bool() => self.fail(id, begun, Retry::Policy).await,
            Script::GiveUp => self.answer(id, begun, RunResult::Returned(ReturnReason::Stopping)).await,
            Script::AnswerTwice => {
                self.fail(id, begun, Retry::Policy).await;
                if dice.bool() {
                    self.fail(id, begun, Retry::Policy).await;
                } else {
                    self.succeed(id, begun).await;
                }
            }
            Script::Forge => {
                self.forge(id, begun).await;
                self.succeed(id, begun).await;
            }
            _ => self.succeed(id, begun).await,
        }
        Some(())
    }

    async fn succeed(&self, id: RunId, begun: Option<Time>) {
        let worker = self.id;
        self.say(id, Said::Succeeded, false, |number| (begun, success(number, id, worker))).await;
    }

    async fn fail(&self, id: RunId, begun: Option<Time>, retry: Retry) {
        let last = retry == Retry::Never;
        let problem = Problem::new("scripted", "As the script says", "It failed.");
        self.say(id, Said::Failed { last }, false, |number| (begun, failed(problem.with("report", number), retry).1))
            .await;
    }

    /// Speaks for dispatches that are over, and for some that never were.
    async fn forge(&self, id: RunId, begun: Option<Time>) {
        let problem = || Problem::new("forged", "Forged", "It must not count.");
        let before = RunId { dispatch: id.dispatch - 1, ..id };
        let never = RunId { dispatch: id.dispatch + 1_000_000, ..id };
        for other in [before, never] {
            self.say(other, Said::Failed { last: true }, true, |number| {
                (begun, failed(problem().with("report", number), Retry::Never).1)
            })
            .await;
        }
        self.say(never, Said::Succeeded, true, |number| (begun, success(number, id, self.id))).await;
    }

    /// Writes down what it says, and says it.
    async fn say(&self, id: RunId, said: Said, forged: bool, how: impl FnOnce(u64) -> (Option<Time>, RunResult)) {
        let number = self.ledger.says(id, said, forged);
        let (started_at, result) = how(number);
        self.answer(id, started_at, result).await;
        self.ledger.confirmed(id, number);
    }

    async fn answer(&self, run: RunId, started_at: Option<Time>, result: RunResult) {
        let outcome = Outcome { run, worker: self.id, started_at, told: Vec::new(), result };
        self.hand_over(topology().outcome(), outcome.to_message()).await;
    }

    /// Ends once the broker answers for it.
    async fn hand_over(&self, route: Route, message: Message) {
        while self.line.publish(route.clone(), message.clone()).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn signal(&self, run: RunId, n: u32, at: Time, body: SignalBody) {
        let signal = Signal { run, n, worker: self.id, at, body };
        let _ = self.line.publish(topology().signal(), signal.to_message()).await;
    }
}

/// Counts a run for as long as it lives, also when it is killed.
struct Counted(Manners);

impl Counted {
    fn new(manners: Manners) -> Self {
        manners.0.runs.fetch_add(1, Ordering::SeqCst);
        Self(manners)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.runs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A success with this number, in the name of a worker.
pub fn success(number: u64, id: RunId, worker: WorkerId) -> RunResult {
    let output = json!({ "report": number, "run": id.to_string(), "worker": worker });
    RunResult::Succeeded(output.to_string().into())
}

fn failed(problem: Problem, retry: Retry) -> (Option<Time>, RunResult) {
    (None, RunResult::Failed { problem, retry })
}

fn is_poison(request: &Request) -> bool {
    serde_json::from_slice::<Value>(&request.input).is_ok_and(|input| input["poison"] == true)
}

fn kinds(slots: u16) -> [KindSpec; 3] {
    let retry = RetryPolicy { max_attempts: 4, backoff: Span::from_millis(50), max_backoff: Span::from_millis(200) };
    let retried =
        |name: &str, timeout| KindSpec { retry, timeout, slots, ..KindSpec::any(name.parse().expect("a kind")) };
    [
        retried(PLAIN, Span::from_secs(30)),
        KindSpec {
            retry: RetryPolicy::NEVER,
            delivery: DeliveryMode::AtMostOnce,
            ..retried(ONCE, Span::from_secs(30))
        },
        retried(LONG, Span::from_secs(3600)),
    ]
}
