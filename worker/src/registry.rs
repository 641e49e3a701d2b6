//! Which kinds a worker runs, and with what.

use std::collections::BTreeMap;
use std::sync::Arc;

use buzzer_shared::kind::{Kind, KindSpec};

use crate::handler::Runner;

/// A kind that this worker runs.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) spec: KindSpec,
    pub(crate) runner: Runner,
}

/// Every kind that a worker runs, each once.
#[derive(Debug, Default)]
pub(crate) struct Registry(BTreeMap<Kind, Arc<Registered>>);

impl Registry {
    /// Adds a kind.
    ///
    /// # Errors
    /// The kind, when it is there already.
    pub(crate) fn insert(&mut self, registered: Registered) -> Result<(), Kind> {
        let kind = registered.spec.name.clone();
        match self.0.insert(kind.clone(), Arc::new(registered)) {
            None => Ok(()),
            Some(_) => Err(kind),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.0.values()
    }

    pub(crate) fn specs(&self) -> Vec<KindSpec> {
        self.kinds().map(|registered| registered.spec.clone()).collect()
    }
}
