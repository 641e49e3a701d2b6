use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::extract::{FromRef, FromRequestParts};
use buzzer_shared::id::{JobId, Tenant};
use http::request::Parts;

use super::{Gate, Pass};
use crate::problem::{ApiError, FORBIDDEN, STORE_UNAVAILABLE, TICKET_FOR_ONE_JOB, UNAUTHORIZED, may_be};
use crate::store::{KeyHash, Scope};

/// What the document calls the ways in.
pub(crate) const KEY_SCHEME: &str = "key";
pub(crate) const TICKET_SCHEME: &str = "ticket";

/// Who asks, with a key. Every endpoint under `/v1` takes one, or a [`Viewer`], and does what it does for that tenant alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub tenant: Tenant,
    pub(super) operator: bool,
    /// By which it was let in; none where nobody needs one.
    pub(super) key: Option<KeyHash>,
}

impl Caller {
    /// The key by which it was let in; none where nobody needs one.
    pub(crate) fn key(&self) -> Option<KeyHash> {
        self.key
    }
}

/// Who looks, with a key or with a ticket. What it may see or do, it must be asked for: a ticket may open one job alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    pub(super) caller: Caller,
    pub(super) reach: Reach,
}

/// How far a viewer is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has a key.
    Everything,
    LooksAtAll,
    LooksAt(JobId),
}

impl Viewer {
    /// As whom it looks at this job.
    ///
    /// # Errors
    /// When its ticket opens another one.
    pub fn of_job(&self, id: JobId) -> Result<&Caller, ApiError> {
        match self.reach {
            Reach::LooksAt(only) if only != id => Err(ApiError::TicketForOneJob(only)),
            _ => Ok(&self.caller),
        }
    }

    /// As whom it looks at all jobs.
    ///
    /// # Errors
    /// When its ticket opens one alone.
    pub fn of_all(&self) -> Result<&Caller, ApiError> {
        match self.reach {
            Reach::LooksAt(only) => Err(ApiError::TicketForOneJob(only)),
            Reach::LooksAtAll | Reach::Everything => Ok(&self.caller),
        }
    }

    /// As whom it does more than look.
    ///
    /// # Errors
    /// When it has a ticket.
    pub fn to_act(&self) -> Result<&Caller, ApiError> {
        match self.reach {
            Reach::Everything => Ok(&self.caller),
            Reach::LooksAtAll | Reach::LooksAt(_) => Err(ApiError::TicketNotTaken),
        }
    }

    /// What shows later whether it would still be let in.
    pub(crate) fn pass(&self, gate: &Gate) -> Pass {
        gate.pass(&self.caller)
    }

    /// Whose jobs it looks at; at which of them, [`of_job`](Self::of_job) says.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.caller.tenant
    }
}

/// Somebody who may see what belongs to all tenants.
#[derive(Debug)]
pub struct Operator;

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Gate: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Gate::from_ref(state).caller(parts).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Viewer
where
    Gate: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Gate::from_ref(state).viewer(parts).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator
where
    Gate: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.operator { Ok(Self) } else { Err(ApiError::MissingScope(Scope::Operator)) }
    }
}

impl OperationInput for Caller {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        needs(operation, KEY_SCHEME, Vec::new());
        may_be(ctx, operation, &[UNAUTHORIZED, STORE_UNAVAILABLE]);
    }
}

impl OperationInput for Viewer {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        needs(operation, KEY_SCHEME, Vec::new());
        needs(operation, TICKET_SCHEME, Vec::new());
        may_be(ctx, operation, &[UNAUTHORIZED, TICKET_FOR_ONE_JOB, STORE_UNAVAILABLE]);
    }
}

impl OperationInput for Operator {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        needs(operation, KEY_SCHEME, vec![Scope::Operator.to_string()]);
        may_be(ctx, operation, &[UNAUTHORIZED, FORBIDDEN, STORE_UNAVAILABLE]);
    }
}

/// Says that an operation may be called so, beside the ways that it has already.
fn needs(operation: &mut Operation, scheme: &str, scopes: Vec<String>) {
    operation.security.push([(scheme.into(), scopes)].into_iter().collect());
}
