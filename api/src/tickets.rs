//! Tickets, by which a browser looks on that cannot send a key and must not have one.

use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::JobId;
use buzzer_shared::time::{Span, Time};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Caller, TicketSecret};
use crate::extract::MaybeJsonBody;
use crate::header::{HeaderDoc, gives};
use crate::problem::{self, ApiError, Violation, refuses};
use crate::state::AppState;
use crate::store::{Issued, Ticket};

/// Long enough to open a stream, and too short to be found in a log and used.
const LIFETIME: Duration = Duration::from_secs(60);
const LIFETIME_MIN: Duration = Duration::from_secs(1);
const LIFETIME_MAX: Duration = Duration::from_secs(60 * 60);
/// So many tickets of a key may be good at a time: each is a row in the store.
const TICKETS_MAX: usize = 1000;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new().api_route("/v1/tickets", post_with(create, doc))
}

/// What a ticket is to open, and for how long.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateTicket {
    /// The only job that it opens; all of yours, when nothing is said.
    #[serde(default)]
    job_id: Option<JobId>,
    /// How long it lets in: 60 seconds when nothing is said, 1 hour at most. What it has let in may take longer.
    #[serde(default)]
    lifetime: Option<Span>,
}

/// A ticket.
#[derive(Debug, Serialize, JsonSchema)]
struct TicketView {
    /// What to send as `?ticket=`. Shown in this answer, and never again.
    ticket: String,
    expires_at: Time,
    /// The only job that it opens; null where it opens all of yours.
    job_id: Option<JobId>,
}

fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, &[problem::UNKNOWN_JOB, problem::TOO_MANY_TICKETS])
        .id("createTicket")
        .tag("tickets")
        .summary("Let a browser look on")
        .description(
            "A browser's `EventSource` and `WebSocket` cannot send a key, and a key must not stand in a page. So whoever has \
             one asks for a ticket and hands that to the page: as `?ticket=` it opens `GET /v1/jobs/{id}`, its `/events`, and \
             `/v1/events`, and follows jobs over `/v1/socket`, for a short time, any number of times, and does nothing else. \
             With `job_id` it opens that job alone. \
             A stream that was opened goes on when the ticket has expired, and ends when the key is revoked.",
        )
        .input::<Json<CreateTicket>>()
        .response_with::<201, Json<TicketView>, _>(|r| {
            let r = r.description("It is good from now on, on every replica.");
            gives(r, &[HeaderDoc::CACHE_CONTROL.always()])
        })
}

async fn create(caller: Caller, State(state): State<AppState>, body: MaybeJsonBody) -> Result<Response, ApiError> {
    let order: CreateTicket = body.read()?;
    let lifetime = lifetime(order.lifetime)?;
    if let Some(id) = order.job_id
        && state.store.job(&caller.tenant, id).await?.is_none()
    {
        return Err(ApiError::UnknownJob(id.to_string()));
    }
    let secret = TicketSecret::random().map_err(|error| ApiError::Internal(error.to_string()))?;
    let now = state.clock.now();
    let ticket = Ticket { hash: secret.hash(), key: caller.key(), job: order.job_id, expires_at: now + lifetime };
    match state.store.keep_ticket(&ticket, TICKETS_MAX, now).await? {
        Issued::Kept => {}
        Issued::TooMany { until } => {
            return Err(ApiError::TooManyTickets { limit: TICKETS_MAX, again_in: until.since(now) });
        }
    }
    let view = TicketView { ticket: secret.reveal().into(), expires_at: ticket.expires_at, job_id: ticket.job };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(view)).into_response())
}

fn lifetime(given: Option<Span>) -> Result<Duration, ApiError> {
    let lifetime = given.map_or(LIFETIME, Duration::from);
    if (LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
        return Ok(lifetime);
    }
    let detail = "1 second to 1 hour".into();
    Err(ApiError::InvalidRequest(vec![Violation { pointer: "/lifetime".into(), detail }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_lives_for_a_minute_unless_something_else_is_said_and_an_hour_at_most() {
        let given = |text: &str| lifetime(Some(text.parse().unwrap())).ok().map(|lifetime| lifetime.as_secs());
        assert_eq!(lifetime(None).unwrap().as_secs(), 60);
        assert_eq!(["1s", "5m", "1h"].map(given), [Some(1), Some(300), Some(3600)]);
        assert_eq!(["0s", "999ms", "3601s", "1d"].map(given), [None; 4]);
    }
}
