use std::cell::RefCell;
use std::future::pending;
use std::time::Instant;

use async_trait::async_trait;
use buzzer_shared::kind::Kind;
use tempfile::TempDir;

use super::*;
use crate::ground::Make;
use crate::ledger;
use crate::nemesis::fault::{BrokerAccess, Shape};

const SHAPE: Shape = Shape {
    apis: 2,
    workers: 3,
    spare_worker: true,
    broker: BrokerAccess::Controlled,
    postgres: true,
    proxy: true,
    lines: false,
    networks: true,
    store_disk: false,
    broker_disk: false,
    clocks: false,
};

/// A system that only writes down what is done to it.
#[derive(Debug, Default)]
struct Victim {
    deeds: RefCell<Vec<String>>,
    /// A part that does not come back.
    away: Option<Part>,
    /// Parts that have ended by themselves.
    ended: Vec<(Part, String)>,
    /// Whether a fault leaves something that nobody can use.
    plants: bool,
}

impl Victim {
    fn note(&self, deed: &str, part: Part) {
        self.deeds.borrow_mut().push(format!("{deed} {part:?}"));
    }

    fn unwell(&self, part: Part) -> Option<String> {
        (part == Part::Worker(2)).then(|| "exit code 1".to_owned())
    }
}

#[async_trait(?Send)]
impl Ground for Victim {
    fn shape(&self) -> Shape {
        SHAPE
    }

    fn doors(&self) -> Vec<String> {
        Vec::new()
    }

    async fn every_door(&self) -> Result<Vec<String>, GroundError> {
        Ok(Vec::new())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn skipped(&self) -> &[String] {
        &[]
    }

    async fn make(&self) -> Result<Make, GroundError> {
        Ok(Make { store: "none", versions: Vec::new() })
    }

    async fn memory(&self) -> Vec<(usize, u64)> {
        Vec::new()
    }

    async fn kill(&self, part: Part) -> Result<(), GroundError> {
        self.note("kill", part);
        Ok(())
    }

    async fn freeze(&self, part: Part) -> Result<(), GroundError> {
        self.note("freeze", part);
        Ok(())
    }

    async fn thaw(&self, part: Part) -> Result<(), GroundError> {
        self.note("thaw", part);
        Ok(())
    }

    async fn stop(&self, part: Part) -> Result<Option<String>, GroundError> {
        self.note("stop", part);
        Ok(self.unwell(part))
    }

    async fn start(&self, part: Part) -> Result<(), GroundError> {
        self.note("start", part);
        Ok(())
    }

    async fn is_there(&self, part: Part) -> Result<(), GroundError> {
        if self.away == Some(part) {
            pending::<()>().await;
        }
        self.note("there", part);
        Ok(())
    }

    async fn add_worker(&self) -> Result<(), GroundError> {
        self.note("add", Part::Worker(3));
        Ok(())
    }

    async fn remove_worker(&self) -> Result<Option<String>, GroundError> {
        self.note("remove", Part::Worker(3));
        Ok(Some("exit code 137".into()))
    }

    async fn strike(&self, fault: Fault) -> Result<Vec<Planted>, GroundError> {
        self.deeds.borrow_mut().push(format!("strike {fault}"));
        let mark = fault.name();
        Ok(self.plants.then_some(Planted { mark, is_confirmed: true }).into_iter().collect())
    }

    async fn heal(&self, fault: Fault) -> Result<(), GroundError> {
        self.deeds.borrow_mut().push(format!("heal {fault}"));
        Ok(())
    }

    async fn ended(&self) -> Result<Vec<(Part, String)>, GroundError> {
        Ok(self.ended.clone())
    }

    async fn leave(&self, _: &[Kind]) -> Result<(), GroundError> {
        Ok(())
    }
}

/// Does a fault, heals it, and looks after those that have ended; what was done, and who is said to have died.
async fn done(victim: Victim, fault: Fault) -> (Vec<String>, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::begin(&path, Instant::now()).unwrap();
    let hand = Hand { ground: &victim, ledger: &ledger };
    hand.strike(fault).await.unwrap();
    victim.deeds.borrow_mut().push("--".into());
    hand.heal(fault).await.unwrap();
    hand.revive().await.unwrap();
    let lines = ledger::read(&path).unwrap();
    let died = lines.into_iter().filter_map(|line| match line.entry {
        Entry::Died { part, how } => Some(format!("{part:?} {how}")),
        _ => None,
    });
    (victim.deeds.take(), died.collect())
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_put_right() {
    let worker = Part::Worker(0);
    for (fault, deeds) in [
        (Fault::Kill(Part::Broker), &["kill Broker", "--", "start Broker", "there Broker"][..]),
        (Fault::Freeze(Part::Proxy), &["freeze Proxy", "--", "thaw Proxy"]),
        (Fault::Stop(Part::Store), &["stop Store", "--", "start Store", "there Store"]),
        (
            Fault::KillTwice(worker),
            &[
                "kill Worker(0)",
                "--",
                "start Worker(0)",
                "there Worker(0)",
                "kill Worker(0)",
                "start Worker(0)",
                "there Worker(0)",
            ],
        ),
        (Fault::CutOff(worker), &["strike off the network: worker 1", "--", "heal off the network: worker 1"]),
    ] {
        let (done, died) = done(Victim::default(), fault).await;
        assert_eq!((done.as_slice(), died.len()), (&deeds.iter().map(ToString::to_string).collect::<Vec<_>>()[..], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_worker_goes_on_when_it_is_scaled_down_and_who_ends_badly_is_told() {
    let (done, died) = done(Victim::default(), Fault::ScaleDown).await;
    let all = ["stop Worker(1)", "stop Worker(2)", "--"];
    assert_eq!(&done[..3], all);
    assert!(!done.iter().any(|deed| deed.contains("Worker(0)")), "{done:?}");
    assert_eq!(died, ["Worker(2) was asked to stop, and ended with exit code 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_more_goes_again() {
    let (done, died) = done(Victim::default(), Fault::ScaleUp).await;
    assert_eq!(done, ["add Worker(3)", "--", "remove Worker(3)"]);
    assert_eq!(died, ["Worker(3) was asked to stop, and ended with exit code 137"]);
}

/// The store may be away meanwhile: then an API does not come back before that does.
#[tokio::test(start_paused = true)]
async fn a_rolling_restart_does_not_wait_for_ever() {
    let victim = Victim { away: Some(Part::Api(0)), ..Victim::default() };
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::begin(&folder.path().join("ledger"), Instant::now()).unwrap();
    let hand = Hand { ground: &victim, ledger: &ledger };
    hand.strike(Fault::RollApis).await.unwrap();
    let deeds = victim.deeds.take();
    assert_eq!(deeds, ["stop Api(0)", "start Api(0)", "stop Api(1)", "start Api(1)", "there Api(1)"]);
    let healed = timeout(ROLL_PATIENCE * 10, hand.heal(Fault::RollApis)).await;
    assert!(healed.is_err(), "it is not healed before it is there");
}

#[tokio::test(start_paused = true)]
async fn who_ended_by_itself_is_started_again_and_told() {
    let ended = vec![(Part::Api(1), "exit code 101".to_owned())];
    let (done, died) = done(Victim { ended, ..Victim::default() }, Fault::Freeze(Part::Broker)).await;
    assert_eq!(done[3..], ["start Api(1)", "there Api(1)"]);
    assert_eq!(died, ["Api(1) ended by itself: exit code 101"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_planted_is_written_down() {
    let victim = Victim { plants: true, ..Victim::default() };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger");
    let ledger = Ledger::begin(&path, Instant::now()).unwrap();
    Hand { ground: &victim, ledger: &ledger }.strike(Fault::Broker(BrokerFault::Garbage)).await.unwrap();
    let lines: Vec<_> = ledger::read(&path).unwrap().into_iter().map(|line| line.entry).collect();
    assert_eq!(lines, [Entry::Planted { mark: "garbage in every queue".into(), is_confirmed: true }]);
}
