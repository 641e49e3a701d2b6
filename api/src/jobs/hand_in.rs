//! Handing a job in, whichever way it came.

use buzzer_shared::id::Tenant;
use buzzer_shared::webhook;
use bytes::Bytes;

use super::accept;
use super::key::KeyName;
use super::order::SubmitJob;
use crate::catalog::Entry;
use crate::extract::JsonBody;
use crate::lifecycle::Job;
use crate::problem::ApiError;
use crate::state::AppState;

/// A job as a client hands it in.
#[derive(Debug)]
pub(crate) struct HandIn<'a> {
    /// The kind's name, perhaps of none.
    pub kind: &'a str,
    /// [`SubmitJob`] as JSON.
    pub body: &'a JsonBody,
    pub key: Option<KeyName>,
}

/// A job that is stored.
#[derive(Debug)]
pub(crate) struct HandedIn {
    pub job: Job,
    /// Of a job that is new; one that its key has found may be done, and must be read.
    pub input: Option<Bytes>,
}

impl HandIn<'_> {
    /// Stores the job and sends it out, or finds the earlier one under the same key.
    ///
    /// # Errors
    /// When it is refused, and there is no earlier one; then nothing is stored. When the store does not answer.
    pub(crate) async fn take(self, state: &AppState, tenant: &Tenant) -> Result<HandedIn, ApiError> {
        let Self { kind, body, key } = self;
        if kind == webhook::KIND {
            return Err(ApiError::ReservedKind(webhook::KIND));
        }
        let Some(entry) = state.catalog.kind(kind) else {
            return Err(ApiError::UnknownKind(kind.into(), state.catalog.instead_of(kind)));
        };
        let key = key.map(|name| name.over(&entry.spec().name, &body.0));
        match read(state, tenant, &entry, body) {
            Ok((draft, input)) => {
                let id = draft.id;
                let job = accept::accept(state, draft, input.clone(), key).await?;
                let is_new = job.id == id;
                Ok(HandedIn { job, input: is_new.then_some(input) })
            }
            Err(refused) => {
                let job = accept::earlier(state, tenant, key).await?.ok_or(refused)?;
                Ok(HandedIn { job, input: None })
            }
        }
    }
}

/// The job that a body asks for, and its input.
fn read(state: &AppState, tenant: &Tenant, entry: &Entry, body: &JsonBody) -> Result<(Job, Bytes), ApiError> {
    let order: SubmitJob<'_> = body.read()?;
    let input = body.part(order.input.get()).0;
    let errors = entry.violations(&input);
    if !errors.is_empty() {
        return Err(ApiError::InvalidInput { kind: entry.spec().name.clone(), errors });
    }
    let draft = order.into_job(tenant.clone(), entry.spec(), &state.egress_allow, state.clock.now())?;
    state.bounds.admit()?;
    Ok((draft, input))
}
