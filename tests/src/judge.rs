//! Documents that servers serve, as judges of what these servers say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

/// A document comes at once, or its server is in trouble, which other tests look at.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(10);

/// Looks whether values are as the schemas of a document have them.
#[derive(Debug)]
pub(crate) struct Judge {
    document: Value,
    /// In which its schemas are written.
    draft: Draft,
    /// Compiled schemas, by where they stand in the document.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Judge {
    pub(crate) fn new(document: Value, draft: Draft) -> Self {
        Self { document, draft, validators: Mutex::default() }
    }

    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// `at`: where the schema stands, as a JSON Pointer.
    ///
    /// # Errors
    /// All that does not fit.
    pub(crate) fn fits(&self, at: &str, value: &Value) -> Result<(), String> {
        let validator = self.validator(at)?;
        let errors: Vec<_> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if errors.is_empty() { Ok(()) } else { Err(format!("{} in {value}", errors.join("; "))) }
    }

    fn validator(&self, at: &str) -> Result<Arc<Validator>, String> {
        if let Some(known) = lock(&self.validators).get(at) {
            return Ok(Arc::clone(known));
        }
        let schema = self.document.pointer(at).ok_or_else(|| format!("there is no schema at {at}"))?;
        let whole = json!({ "components": { "schemas": self.document["components"]["schemas"] }, "allOf": [schema] });
        let options = jsonschema::options().with_draft(self.draft);
        let validator = Arc::new(options.build(&whole).map_err(|error| format!("{at}: {error}"))?);
        lock(&self.validators).insert(at.into(), Arc::clone(&validator));
        Ok(validator)
    }
}

/// The documents that were ever read, by their texts: most servers of a run have the same.
#[derive(Debug)]
pub(crate) struct Library<D>(Mutex<HashMap<String, Arc<D>>>);

impl<D> Default for Library<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D> Library<D> {
    /// The document at `url`, where it can be had.
    ///
    /// # Panics
    /// When it is no JSON.
    pub(crate) async fn fetch(&self, url: &str, read: impl FnOnce(Value) -> D) -> Option<Arc<D>> {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(DOCUMENT_LIMIT).build();
        let answer = client.expect("a client").get(url).send().await.ok()?;
        let text = answer.error_for_status().ok()?.text().await.ok()?;
        let mut known = lock(&self.0);
        let document = known
            .entry(text)
            .or_insert_with_key(|text| Arc::new(read(serde_json::from_str(text).expect("the document is JSON"))));
        Some(Arc::clone(document))
    }

    /// One of those that were read so far.
    pub(crate) fn any(&self) -> Option<Arc<D>> {
        lock(&self.0).values().next().cloned()
    }
}

/// What a test that failed left in it is whole all the same.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
