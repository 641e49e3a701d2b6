//! What is known about kinds and workers, in memory, as the store last had it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use buzzer_shared::contract::{Checker, Misfit};
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::time::Time;
use buzzer_shared::webhook;

use crate::aside::aside;
use crate::contracts::{Change, changes};
use crate::problem::{KnownKinds, Violation};
use crate::store::{KnownContract, KnownKind, KnownWorker, Store, StoreError};

/// A worker that was silent for so long, three beats, counts as gone.
pub const SILENCE: Duration = Duration::from_secs(15);
/// How long a worker is silent when it may have been lost with a request whose claim ends now. A beat comes every 5 s
/// at most, and a claim is 30 s unless the operator says otherwise.
const LOST: std::ops::Range<Duration> = Duration::from_millis(7_500)..Duration::from_secs(60);
/// An input of so many bytes is looked at while other tasks go on.
const LARGE: usize = 4 << 10;
/// Contracts whose last announcements are no further apart were run beside each other: each worker repeats its own
/// every half minute.
const TOGETHER: Duration = Duration::from_secs(60);

/// Every kind that was ever announced, and who runs it now. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    snapshot: RwLock<Snapshot>,
    /// Held by whoever refreshes: two at once might put back what is older.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Snapshot {
    kinds: BTreeMap<Kind, Arc<Entry>>,
    /// Buzzer's own, which nobody submits.
    own: BTreeMap<Kind, Arc<Entry>>,
    workers: Vec<KnownWorker>,
    bereft: HashSet<Kind>,
}

/// One kind.
#[derive(Debug)]
pub struct Entry {
    pub known: KnownKind,
    /// Which of its contracts documents it, and says what an input is.
    current: usize,
    /// `None` where every input fits, or the schema itself is broken.
    checker: Option<Checker>,
    /// What each of the contracts breaks of the one before it, once somebody has asked.
    breaking: Vec<Arc<OnceLock<Vec<Change>>>>,
}

impl Catalog {
    /// Reads the store again. Schemas that have not changed are not compiled again.
    pub async fn refresh(&self, store: &dyn Store, now: Time) -> Result<(), StoreError> {
        let _alone = self.0.refreshing.lock().await;
        // Workers first: what they have announced by then is among the kinds.
        let workers = store.workers().await?;
        let kinds = store.kinds().await?;
        let old = self.read(|Snapshot { kinds, own, .. }| {
            kinds.iter().chain(own).map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect::<HashMap<_, _>>()
        });
        let lost = workers.iter().filter(|worker| LOST.contains(&now.since(worker.seen_at)));
        let bereft = lost.flat_map(|worker| worker.kinds.keys().cloned()).collect();
        let workers: Vec<_> = workers.into_iter().filter(|worker| now.since(worker.seen_at) < SILENCE).collect();
        let entry = |known: KnownKind| {
            let (name, current) = (known.name.clone(), current(&known, &workers));
            let entry = match old.get(&name) {
                Some(old) if old.known == known && old.current == current => Arc::clone(old),
                old => Arc::new(Entry::new(known, current, old.map(|old| &**old))),
            };
            (name, entry)
        };
        let (own, kinds) = kinds.into_iter().map(entry).partition(|(name, _)| name.as_str() == webhook::KIND);
        *self.0.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Snapshot { kinds, own, workers, bereft };
        Ok(())
    }

    pub fn kind(&self, name: &str) -> Option<Arc<Entry>> {
        self.read(|snapshot| snapshot.kinds.get(name).cloned())
    }

    /// All kinds, by name.
    pub fn kinds(&self) -> Vec<Arc<Entry>> {
        self.read(|snapshot| snapshot.kinds.values().cloned().collect())
    }

    /// Whether this is what a kept contract says.
    pub fn knows(&self, spec: &KindSpec) -> bool {
        let says = |entry: &Arc<Entry>| entry.known.contracts.iter().any(|known| known.spec.is_same_contract(spec));
        self.read(|snapshot| snapshot.kinds.get(&spec.name).or_else(|| snapshot.own.get(&spec.name)).is_some_and(says))
    }

    /// The live workers of a kind, by the version of the contract that they announced.
    pub fn runners(&self, kind: &Kind) -> BTreeMap<u32, Vec<WorkerId>> {
        self.read(|snapshot| {
            let mut runners: BTreeMap<u32, Vec<WorkerId>> = BTreeMap::new();
            for worker in &snapshot.workers {
                if let Some(version) = worker.contracts.get(kind) {
                    runners.entry(*version).or_default().push(worker.id);
                }
            }
            runners
        })
    }

    pub fn names(&self) -> Vec<Kind> {
        self.read(|snapshot| snapshot.kinds.keys().cloned().collect())
    }

    /// What can be asked for instead of a kind that there is not.
    pub fn instead_of(&self, kind: &str) -> KnownKinds {
        self.read(|snapshot| {
            let mut refused = snapshot.workers.iter().flat_map(|worker| &worker.refused);
            let refused = refused.find(|refusal| refusal.kind == kind).map(|refusal| refusal.reason.clone());
            KnownKinds { names: snapshot.kinds.keys().cloned().collect(), refused }
        })
    }

    /// The live workers, the longest running first.
    pub fn workers(&self) -> Vec<KnownWorker> {
        self.read(|snapshot| snapshot.workers.clone())
    }

    /// How many runs of each kind the live workers take on at a time.
    pub fn slots(&self) -> HashMap<Kind, usize> {
        self.read(|snapshot| {
            let mut slots = HashMap::new();
            for (kind, more) in snapshot.workers.iter().flat_map(|worker| &worker.kinds) {
                *slots.entry(kind.clone()).or_default() += usize::from(*more);
            }
            slots
        })
    }

    /// The kinds whose requests are acknowledged before they run.
    pub fn early(&self) -> HashSet<Kind> {
        let early = |entry: &&Arc<Entry>| entry.spec().acknowledges_early();
        self.read(|snapshot| snapshot.kinds.values().filter(early).map(|entry| entry.spec().name.clone()).collect())
    }

    /// The kinds of which a worker was lost of late: it fell silent without having said that it leaves.
    pub fn bereft(&self) -> HashSet<Kind> {
        self.read(|snapshot| snapshot.bereft.clone())
    }

    fn read<T>(&self, with: impl FnOnce(&Snapshot) -> T) -> T {
        with(&self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The newest contract that a live worker runs: it documents, and says what an input is. Where none runs the kind now,
/// the newest of those that were heard at most a minute before the last one.
fn current(known: &KnownKind, workers: &[KnownWorker]) -> usize {
    let live: HashSet<_> = workers.iter().filter_map(|worker| worker.contracts.get(&known.name)).collect();
    let heard = known.contracts.iter().map(|contract| contract.seen_at).max();
    let together = |contract: &KnownContract| heard.is_some_and(|heard| heard.since(contract.seen_at) < TOGETHER);
    let rank = |(_, contract): &(usize, &KnownContract)| {
        (live.contains(&contract.version), together(contract), contract.version)
    };
    known.contracts.iter().enumerate().max_by_key(rank).map_or(0, |(at, _)| at)
}

impl Entry {
    /// `old` lends its checker where the schema is still the same, and what was compared: either may take long.
    fn new(known: KnownKind, current: usize, old: Option<&Entry>) -> Self {
        let spec = &known.contracts[current].spec;
        let checker = match old {
            Some(old) if old.spec().input_schema == spec.input_schema => old.checker.clone(),
            _ => aside(|| compile(spec)),
        };
        let compared = |at| old.and_then(|old| old.compared(&known, at)).unwrap_or_default();
        let breaking = (0..known.contracts.len()).map(compared).collect();
        Self { known, current, checker, breaking }
    }

    /// What documents the kind now.
    pub fn contract(&self) -> &KnownContract {
        &self.known.contracts[self.current]
    }

    pub fn spec(&self) -> &KindSpec {
        &self.contract().spec
    }

    /// What the contract at this place breaks of the one before it; nothing for the first.
    pub fn breaking(&self, at: usize) -> &[Change] {
        match &self.known.contracts[..=at] {
            [.., before, contract] => {
                let kept = &self.breaking[at];
                // Who waits for another's comparison is aside, too.
                kept.get().unwrap_or_else(|| aside(|| kept.get_or_init(|| changes(&before.spec, &contract.spec))))
            }
            _ => &[],
        }
    }

    /// What is kept here of the comparison of a contract with the one before it.
    fn compared(&self, known: &KnownKind, at: usize) -> Option<Arc<OnceLock<Vec<Change>>>> {
        let pair = |contracts: &[KnownContract], at: usize| {
            Some((contracts[at.checked_sub(1)?].version, contracts[at].version))
        };
        let own = &self.known.contracts;
        let here = own.iter().position(|contract| contract.version == known.contracts[at].version)?;
        (pair(own, here)? == pair(&known.contracts, at)?).then(|| Arc::clone(&self.breaking[here]))
    }

    /// What is wrong with an input; nothing when it fits. Pointers begin at the body of the request.
    pub fn violations(&self, input: &[u8]) -> Vec<Violation> {
        match &self.checker {
            Some(checker) if input.len() > LARGE => aside(|| violations(checker, input)),
            Some(checker) => violations(checker, input),
            None => Vec::new(),
        }
    }
}

fn violations(checker: &Checker, input: &[u8]) -> Vec<Violation> {
    let value: serde_json::Value = match serde_json::from_slice(input) {
        Ok(value) => value,
        Err(error) => return vec![Violation { pointer: "/input".into(), detail: error.to_string() }],
    };
    let violation = |misfit: Misfit| Violation { pointer: format!("/input{}", misfit.pointer), detail: misfit.detail };
    checker.misfits(&value).into_iter().map(violation).collect()
}

fn compile(spec: &KindSpec) -> Option<Checker> {
    let checker = Checker::new(&spec.input_schema).inspect_err(|reason| {
        // It was taken when it was announced, by a version that took more.
        let kind = &spec.name;
        tracing::error!(job.kind = %kind, reason, "an input schema cannot be used; inputs of this kind are not checked");
    });
    checker.ok().filter(|checker| !checker.takes_all())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contract(version: u32, seen_at: i64, input_schema: serde_json::Value) -> KnownContract {
        let spec = KindSpec { input_schema, ..KindSpec::any("demo".parse().unwrap()) };
        KnownContract { version, spec, announced_at: Time::from_millis(0), seen_at: Time::from_millis(seen_at) }
    }

    fn known(contracts: Vec<KnownContract>) -> KnownKind {
        KnownKind { name: "demo".parse().unwrap(), contracts }
    }

    fn entry(input_schema: serde_json::Value) -> Entry {
        Entry::new(known(vec![contract(1, 0, input_schema)]), 0, None)
    }

    fn worker(version: u32) -> KnownWorker {
        let at = Time::from_millis(0);
        KnownWorker {
            id: WorkerId::new(at),
            host: "box".into(),
            version: "1".into(),
            started_at: at,
            seen_at: at,
            kinds: BTreeMap::from([("demo".parse().unwrap(), 1)]),
            contracts: BTreeMap::from([("demo".parse().unwrap(), version)]),
            refused: Vec::new(),
        }
    }

    #[test]
    fn a_violation_points_into_the_body() {
        let schema = json!({ "type": "object", "properties": { "seconds": { "type": "number" } }, "required": ["to"] });
        let violations = entry(schema).violations(br#"{"seconds": "x"}"#);
        let pointers: Vec<_> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(violations.len(), 2);
        assert!(pointers.contains(&"/input/seconds") && pointers.contains(&"/input"), "{pointers:?}");
    }

    #[test]
    fn what_takes_all_is_not_even_read() {
        assert!(entry(json!(true)).violations(b"not json").is_empty());
    }

    #[test]
    fn what_was_compared_is_kept_as_long_as_both_contracts_are() {
        let types = |r#type: &str| json!({ "type": r#type });
        let contracts =
            || vec![contract(1, 0, types("string")), contract(2, 0, types("null")), contract(4, 0, types("null"))];
        let old = Entry::new(known(contracts()), 2, None);
        assert_eq!([0, 1, 2].map(|at| old.breaking(at).len()), [0, 1, 0]);
        let kept = |contracts: Vec<KnownContract>| {
            let new = Entry::new(known(contracts), 0, Some(&old));
            new.breaking.iter().map(|compared| compared.get().is_some()).collect::<Vec<_>>()
        };
        assert_eq!(kept([contracts(), vec![contract(5, 0, types("null"))]].concat()), [false, true, true, false]);
        assert_eq!(kept(contracts().split_off(1)), [false, true]);
        assert_eq!(kept(vec![contract(1, 0, types("string")), contract(4, 0, types("null"))]), [false, false]);
    }

    #[test]
    fn the_newest_contract_that_runs_is_the_current_one() {
        let known = known(vec![contract(1, 9, json!(1)), contract(3, 5, json!(3)), contract(4, 7, json!(4))]);
        let version = |workers: &[KnownWorker]| known.contracts[current(&known, workers)].version;
        assert_eq!(version(&[worker(1), worker(3)]), 3);
        assert_eq!(version(&[worker(1)]), 1);
        assert_eq!(version(&[worker(2), worker(3)]), 3, "one that was forgotten does not count");
    }

    #[test]
    fn where_none_runs_the_newest_of_those_heard_together_is_the_current_one() {
        let version = |contracts: Vec<KnownContract>| {
            let known = known(contracts);
            known.contracts[current(&known, &[])].version
        };
        let beside = TOGETHER.as_millis() as i64 - 1;
        assert_eq!(
            version(vec![contract(1, beside, json!(1)), contract(2, 0, json!(2))]),
            2,
            "by chance one was later"
        );
        assert_eq!(version(vec![contract(1, beside + 1, json!(1)), contract(2, 0, json!(2))]), 1, "it was taken back");
        assert_eq!(version(vec![contract(1, 0, json!(1)), contract(2, beside + 1, json!(2))]), 2);
    }
}
