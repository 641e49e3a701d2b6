use std::convert::Infallible;

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response, StatusCode};
use axum::extract::{FromRef, FromRequestParts};
use buzzer_shared::id::Tenant;
use http::request::Parts;

use super::{Gate, Pass};
use crate::problem::ApiError;
use crate::store::Scope;

/// What the document calls the way in.
pub(crate) const SCHEME: &str = "key";

/// Who asks. Every endpoint under `/v1` takes one, and does what it does for that tenant alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub tenant: Tenant,
    pub(super) operator: bool,
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
        Gate::from_ref(state).caller(&parts.headers).await
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

impl<S: Send + Sync> FromRequestParts<S> for Pass
where
    Gate: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(Gate::from_ref(state), &parts.headers))
    }
}

/// The caller says already what is needed.
impl OperationInput for Pass {}

impl OperationInput for Caller {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        operation.security.push([(SCHEME.into(), Vec::new())].into_iter().collect());
    }

    fn inferred_early_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusCode>, Response)> {
        ApiError::NoKey.in_document(ctx, operation).into_iter().collect()
    }
}

impl OperationInput for Operator {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        operation.security.push([(SCHEME.into(), vec![Scope::Operator.to_string()])].into_iter().collect());
    }

    fn inferred_early_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<StatusCode>, Response)> {
        let refusals = [ApiError::NoKey, ApiError::MissingScope(Scope::Operator)];
        refusals.iter().filter_map(|refusal| refusal.in_document(ctx, operation)).collect()
    }
}
