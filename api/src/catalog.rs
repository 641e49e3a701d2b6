//! What is known about kinds and workers, in memory, as the store last had it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::time::Time;
use buzzer_shared::webhook;
use jsonschema::Validator;

use crate::problem::Violation;
use crate::store::{KnownKind, KnownWorker, Store, StoreError};

/// A worker that was silent for so long, three beats, counts as gone.
pub const SILENCE: Duration = Duration::from_secs(15);
/// How long a worker is silent when it may have been lost with a request whose claim ends now. A beat comes every 5 s
/// at most, and a claim is 30 s unless the operator says otherwise.
const LOST: std::ops::Range<Duration> = Duration::from_millis(7_500)..Duration::from_secs(60);
/// More errors of one input than that help nobody.
const ERRORS_MAX: usize = 20;

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
    workers: Vec<KnownWorker>,
    bereft: HashSet<Kind>,
}

/// One kind.
#[derive(Debug)]
pub struct Entry {
    pub known: KnownKind,
    /// `None` where every input fits, or the schema itself is broken.
    validator: Option<Arc<Validator>>,
}

impl Catalog {
    /// Reads the store again. Schemas that have not changed are not compiled again.
    pub async fn refresh(&self, store: &dyn Store, now: Time) -> Result<(), StoreError> {
        let _alone = self.0.refreshing.lock().await;
        // Workers first: what they have announced by then is among the kinds.
        let workers = store.workers().await?;
        let kinds = store.kinds().await?;
        let old = self.read(|snapshot| snapshot.kinds.clone());
        let entry = |known: KnownKind| {
            let name = known.spec.name.clone();
            let entry = match old.get(&name) {
                Some(old) if old.known == known => Arc::clone(old),
                old => Arc::new(Entry::new(known, old.map(|old| &**old))),
            };
            (name, entry)
        };
        // Nobody submits Buzzer's own.
        let own = |known: &KnownKind| known.spec.name.as_str() == webhook::KIND;
        let kinds = kinds.into_iter().filter(|known| !own(known)).map(entry).collect();
        let lost = workers.iter().filter(|worker| LOST.contains(&now.since(worker.seen_at)));
        let bereft = lost.flat_map(|worker| worker.kinds.keys().cloned()).collect();
        let workers = workers.into_iter().filter(|worker| now.since(worker.seen_at) < SILENCE).collect();
        *self.0.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Snapshot { kinds, workers, bereft };
        Ok(())
    }

    pub fn kind(&self, name: &str) -> Option<Arc<Entry>> {
        self.read(|snapshot| snapshot.kinds.get(name).cloned())
    }

    /// All kinds, by name.
    pub fn kinds(&self) -> Vec<Arc<Entry>> {
        self.read(|snapshot| snapshot.kinds.values().cloned().collect())
    }

    pub fn names(&self) -> Vec<Kind> {
        self.read(|snapshot| snapshot.kinds.keys().cloned().collect())
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

impl Entry {
    /// `old` lends its validator where the schema is still the same: to compile one may take long.
    fn new(known: KnownKind, old: Option<&Entry>) -> Self {
        let validator = match old {
            Some(old) if old.known.spec.input_schema == known.spec.input_schema => old.validator.clone(),
            _ => compile(&known.spec),
        };
        Self { known, validator }
    }

    pub fn spec(&self) -> &KindSpec {
        &self.known.spec
    }

    /// What is wrong with an input; nothing when it fits. Pointers begin at the body of the request.
    pub fn violations(&self, input: &[u8]) -> Vec<Violation> {
        let Some(validator) = &self.validator else { return Vec::new() };
        let value: serde_json::Value = match serde_json::from_slice(input) {
            Ok(value) => value,
            Err(error) => return vec![Violation { pointer: "/input".into(), detail: error.to_string() }],
        };
        let violation = |error: jsonschema::ValidationError<'_>| Violation {
            pointer: format!("/input{}", error.instance_path().as_str()),
            detail: error.to_string(),
        };
        validator.iter_errors(&value).take(ERRORS_MAX).map(violation).collect()
    }
}

fn compile(spec: &KindSpec) -> Option<Arc<Validator>> {
    let schema = &spec.input_schema;
    if schema.as_bool() == Some(true) || schema.as_object().is_some_and(serde_json::Map::is_empty) {
        return None;
    }
    let compiled = jsonschema::validator_for(schema).inspect_err(|error| {
        tracing::error!(job.kind = %spec.name, %error, "the announced input schema cannot be used; inputs of this kind are not checked");
    });
    compiled.ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(input_schema: serde_json::Value) -> Entry {
        let spec = KindSpec { input_schema, ..KindSpec::any("demo".parse().unwrap()) };
        Entry::new(KnownKind { spec, announced_at: Time::from_millis(0) }, None)
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
}
