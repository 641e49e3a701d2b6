//! Every error that a client can see, its HTTP status, and the page that explains it. Nobody else decides a status.

mod document;

use std::time::Duration;

use aide::OperationOutput;
use axum::Json;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use buzzer_shared::problem::Problem;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::bounds::Full;
use crate::store::{Scope, StoreError};

pub(crate) use document::{may_be, refuses};

const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("The body is not JSON: {0}")]
    BrokenJson(String),
    #[error("{0}")]
    BadQuery(String),
    #[error("{0}")]
    BadHeader(String),
    #[error("{0:?} is not the id of a job: an id is a UUID, as `POST /v1/jobs/{{kind}}` answered it.")]
    BadId(String),
    #[error(
        "This is no cursor of this list, or of these events: use `next` of the page before, or the `id` of the last event, as \
         it is, or leave it out."
    )]
    BadCursor,
    #[error("Send the body as `Content-Type: application/json`{}.", .0.as_ref().map(|found| format!(", not {found}")).unwrap_or_default())]
    WrongMediaType(Option<String>),
    #[error("Send the body as it is: `Content-Encoding: {0}` is not taken.")]
    WrongEncoding(String),
    #[error("The body has more than {limit} bytes, the most that is taken here.")]
    TooLarge { limit: usize },
    #[error("The body could not be read: {0}")]
    Interrupted(String),
    #[error("The body did not arrive within {0} seconds.")]
    BodyTimeout(u64),
    #[error("{}", .0.first().map_or("", |first| first.detail.as_str()))]
    InvalidRequest(Vec<Violation>),
    #[error("The input does not fit the schema of {kind}: see `errors`.")]
    InvalidInput { kind: Kind, errors: Vec<Violation> },
    #[error("There is no kind {0}. {1}")]
    UnknownKind(String, KnownKinds),
    #[error("Jobs of {0} are made by Buzzer itself, and by nobody else: it delivers webhooks by them.")]
    ReservedKind(&'static str),
    #[error("{0:?} is not the id of a webhook: an id is a UUID, as `POST /v1/webhooks` answered it.")]
    BadWebhookId(String),
    #[error("{0:?} is not the id of a delivery: an id is a UUID, as `GET /v1/webhooks/{{webhook}}/deliveries` has it.")]
    BadDeliveryId(String),
    #[error("There is no webhook {0}.")]
    UnknownWebhook(String),
    #[error("There is no delivery {0} to this webhook.")]
    UnknownDelivery(String),
    #[error("There are {0} webhooks, the most that a tenant may have.")]
    TooManyWebhooks(usize),
    #[error(
        "The webhook is disabled: nothing is sent to it. Enable it first, with `PATCH` and `{{\"enabled\": true}}`."
    )]
    WebhookDisabled,
    #[error("There is no job {0}.")]
    UnknownJob(String),
    #[error("Job {0} was deleted: jobs are kept for {1} after they are done.")]
    JobGone(String, String),
    #[error("The job is {0}: it has no result.")]
    NoResult(State),
    #[error("The job is {0}: it cannot be canceled any more.")]
    TooLate(State),
    #[error("The job is {0}: there is no attempt to bring forward, and no end to start anew from.")]
    NothingToRetry(State),
    #[error("The job is {0}: only a job that is done can be deleted. Cancel it first.")]
    NotDone(State),
    #[error("{0} jobs are accepted and not done, the most that is taken here.")]
    TooManyWaiting(u64),
    #[error("{0} jobs are followed, the most that may be over one socket. Unfollow one first, or open another socket.")]
    TooManyFollowed(usize),
    #[error("{0} streams are open, the most that there may be here.")]
    TooManyStreams(usize),
    #[error("This is answered as {}, which `Accept` does not take.", .0.join(" or "))]
    NotAcceptable(&'static [&'static str]),
    #[error("The store holds {0} bytes, the most that it may.")]
    StoreFull(u64),
    #[error("This key was used before with another kind or body. A new request needs a new key.")]
    KeyReused,
    #[error("RabbitMQ does not answer now: {0}.")]
    BrokerAway(String),
    #[error("There is no parked message {0}.")]
    NotParked(String),
    #[error("The message cannot go back: {0}. It stays parked.")]
    NoWayBack(String),
    #[error("Send an API key: `Authorization: Bearer KEY`. `buzzer keys create` makes one.")]
    NoKey,
    #[error("This API key is not known here, or was revoked.")]
    UnknownKey,
    #[error(
        "This ticket is not known here, or has expired, or the key that it was made with was revoked. `POST /v1/tickets` makes \
         another."
    )]
    UnknownTicket,
    #[error(
        "A ticket opens `GET /v1/jobs/{{id}}`, its `/events`, and `/v1/events`, follows jobs over `/v1/socket`, and does nothing \
         else. Leave it out, and send an API key where one is needed: `Authorization: Bearer KEY`."
    )]
    TicketNotTaken,
    #[error("This ticket opens job {0}, and nothing else.")]
    TicketForOneJob(JobId),
    #[error("{limit} tickets that were made with this key are still good, the most that may be.")]
    TooManyTickets { limit: usize, again_in: Duration },
    #[error("{0:?} is not a name of this machine for itself, like 127.0.0.1 or localhost.")]
    HostNotAllowed(String),
    #[error("This API key does not have the scope `{0}`, which is needed here.")]
    MissingScope(Scope),
    #[error("This is a WebSocket: open it by `ws://` or `wss://`, with a client that speaks that.")]
    UpgradeRequired,
    #[error("A WebSocket of version 13 is spoken here, and no other: see `Sec-WebSocket-Version`.")]
    WrongWebSocketVersion,
    #[error(
        "A page of {0:?} may not open a WebSocket here: it is not the page's own server, and `BUZZER_ORIGINS` does not name it."
    )]
    OriginNotAllowed(String),
    #[error("There is nothing at {0}.")]
    NoSuchPath(String),
    #[error("This path does not take {0}.")]
    WrongMethod(String),
    #[error(
        "The store does not answer now. If this was a submission, it may have been accepted all the same: with an \
         `Idempotency-Key`, sending it again is safe."
    )]
    StoreUnavailable(#[source] StoreError),
    #[error("Something went wrong here. The log of the API tells more.")]
    Internal(String),
}

/// The kinds that can be asked for instead of one that there is not.
#[derive(Debug)]
pub struct KnownKinds {
    pub names: Vec<Kind>,
    /// Why what a worker says of the one that was asked for is not taken.
    pub refused: Option<String>,
}

impl std::fmt::Display for KnownKinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(reason) = &self.refused {
            write!(f, "What a worker says of it is not taken: {}. ", reason.trim_end_matches('.'))?;
        }
        if self.names.is_empty() {
            let hint = if self.refused.is_some() { "." } else { ": is a worker running?" };
            return write!(f, "No kind is known yet{hint}");
        }
        let names: Vec<_> = self.names.iter().map(Kind::as_str).collect();
        write!(f, "Known are {}.", names.join(", "))
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) to the place in the body.
    pub pointer: String,
    pub detail: String,
}

/// A sort of problem.
#[derive(Debug, Clone, Copy)]
pub struct ProblemType {
    /// Its page is `/problems/{slug}`.
    pub slug: &'static str,
    /// What it is answered with; `None` for what stands inside a job.
    pub status: Option<StatusCode>,
    pub title: &'static str,
    /// What it means and what to do.
    pub explanation: &'static str,
}

/// Declares the problem types of HTTP, one constant each, and the list of all.
macro_rules! problem_types {
    ($($name:ident $slug:literal $status:expr, $title:literal, $explanation:literal;)*) => {
        $(pub(crate) const $name: ProblemType = ProblemType { slug: $slug, status: $status, title: $title, explanation: $explanation };)*
        /// Every sort of problem that Buzzer itself reports, by HTTP or inside a job.
        pub const ALL: &[ProblemType] = &[$($name),*];
    };
}

problem_types! {
    BROKEN_JSON "broken-json" Some(StatusCode::BAD_REQUEST), "The body is not JSON",
        "The body could not be read as JSON. The detail names line and column. Nothing was stored.";
    BAD_QUERY "bad-query" Some(StatusCode::BAD_REQUEST), "The query cannot be read",
        "A parameter after the `?` is unknown or has a value that cannot be read. The detail names it.";
    BAD_HEADER "bad-header" Some(StatusCode::BAD_REQUEST), "A header cannot be read",
        "A header that Buzzer uses, like `Idempotency-Key`, has a value that it cannot use. The detail names it. Nothing was stored.";
    BAD_ID "bad-id" Some(StatusCode::BAD_REQUEST), "Not an id",
        "Ids of jobs, webhooks and deliveries are UUIDs. Use the `id` as it was answered, or the `Location` header of that answer as it is.";
    BAD_CURSOR "bad-cursor" Some(StatusCode::BAD_REQUEST), "Not a cursor",
        "A cursor comes from `next` of the page before, or is the `id` of an event, and is passed on unchanged, to the same path. One that stands for something which has not happened yet is refused, too: it comes from another store. Leave it out to begin with the newest, or with the first event of a job.";
    NOT_ACCEPTABLE "not-acceptable" Some(StatusCode::NOT_ACCEPTABLE), "Not answered in this form",
        "The `Accept` header takes none of the forms in which this is answered: the detail names them. Nothing was stored.";
    TOO_MANY_STREAMS "too-many-streams" Some(StatusCode::SERVICE_UNAVAILABLE), "Too many streams are open",
        "So many streams of events are open here that no more are; the operator sets the bound with `BUZZER_MAX_STREAMS`. Nothing of this request was stored. Try again after `Retry-After` seconds, or ask with `?wait=30` instead.";
    TOO_MANY_FOLLOWED "too-many-followed" Some(StatusCode::CONFLICT), "Too many jobs are followed",
        "Over one socket so many jobs may be followed and no more, and a job is followed until its last event. Unfollow one that is not needed, or open another socket. To be told of all jobs, read the feed: `GET /v1/events`. Nothing was stored.";
    WRONG_MEDIA_TYPE "wrong-media-type" Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), "Wrong media type",
        "Bodies are JSON: say so with `Content-Type: application/json`. With curl: `-H 'content-type: application/json'` or `--json`.";
    WRONG_ENCODING "wrong-encoding" Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), "The body is encoded",
        "Bodies are read as they are: send them without `Content-Encoding`. Nothing was stored.";
    TOO_LARGE "too-large" Some(StatusCode::PAYLOAD_TOO_LARGE), "The body is too large",
        "`limit` is the most bytes that are taken; the operator sets it with `BUZZER_MAX_BODY`. Nothing was stored.";
    INTERRUPTED "interrupted" Some(StatusCode::BAD_REQUEST), "The body did not arrive",
        "The connection ended before the body did, or its encoding is broken. Nothing was stored; send it again.";
    BODY_TIMEOUT "body-timeout" Some(StatusCode::REQUEST_TIMEOUT), "The body took too long",
        "The body did not arrive in time. Nothing was stored; send it again.";
    INVALID_REQUEST "invalid-request" Some(StatusCode::UNPROCESSABLE_ENTITY), "The request is not valid",
        "The body is JSON, but has an unknown field or a value that is not allowed. `errors` names each place by a JSON Pointer. Nothing was stored.";
    INVALID_INPUT "invalid-input" Some(StatusCode::UNPROCESSABLE_ENTITY), "The input does not fit its kind",
        "The workers announced a JSON Schema for the input of this kind, and this input does not fit it. `errors` names each place by a JSON Pointer. Nothing was stored. The schema stands at `/v1/kinds/{kind}`.";
    UNKNOWN_KIND "unknown-kind" Some(StatusCode::NOT_FOUND), "Unknown kind",
        "No worker has announced this kind so far. `known` lists the kinds there are. Start a worker that runs it, or mend the name.";
    RESERVED_KIND "reserved-kind" Some(StatusCode::FORBIDDEN), "This kind is Buzzer's own",
        "Jobs of this kind are made by Buzzer itself: by `webhook.deliver` it posts events to webhooks. Register one with `POST /v1/webhooks`, or name one in a submission: `webhook: {url, events}`. To call any other service, submit `http.request`. Nothing was stored.";
    UNKNOWN_WEBHOOK "unknown-webhook" Some(StatusCode::NOT_FOUND), "Unknown webhook",
        "There is no webhook with this id, or it is not yours, or it was deleted. `GET /v1/webhooks` lists those there are.";
    UNKNOWN_DELIVERY "unknown-delivery" Some(StatusCode::NOT_FOUND), "Unknown delivery",
        "There is no delivery with this id to this webhook. Deliveries are kept as long as the jobs that they tell of; `GET /v1/webhooks/{webhook}/deliveries` lists them.";
    TOO_MANY_WEBHOOKS "too-many-webhooks" Some(StatusCode::CONFLICT), "Too many webhooks",
        "A tenant may have so many webhooks and no more. Delete one that is not needed, or let one endpoint hand the events on. To tell somebody of a single job, name the URL in its submission: `webhook: {url, events}`.";
    WEBHOOK_DISABLED "webhook-disabled" Some(StatusCode::CONFLICT), "The webhook is disabled",
        "Nothing is sent to a webhook that is disabled: by its owner, because it answered `410 Gone`, or because every attempt has failed for days; `GET /v1/webhooks/{webhook}` tells which. Enable it with `PATCH` and `{\"enabled\": true}`, then try again.";
    UNKNOWN_JOB "unknown-job" Some(StatusCode::NOT_FOUND), "Unknown job",
        "There is no job with this id, or it is not yours.";
    JOB_GONE "job-gone" Some(StatusCode::GONE), "The job was deleted",
        "Finished jobs are kept for a time that the operator sets with `BUZZER_KEEP`. This one is older, and was deleted with its result.";
    NO_RESULT "no-result" Some(StatusCode::CONFLICT), "The job has no result",
        "Only a job that succeeded has a result. `state` tells where it is; wait for it with `GET /v1/jobs/{id}?wait=30`.";
    TOO_LATE "too-late" Some(StatusCode::CONFLICT), "Too late to cancel",
        "The job was done before the cancel came. Nothing was changed; `state` tells how it ended.";
    NOTHING_TO_RETRY "nothing-to-retry" Some(StatusCode::CONFLICT), "Nothing to retry",
        "The job goes its way: it waits for its time or its turn, or it runs. A retry brings the next attempt of a job that is `retrying` forward, and runs a job that is done again, as a new job.";
    NOT_DONE "not-done" Some(StatusCode::CONFLICT), "The job is not done",
        "Only a job that is done can be deleted. Cancel it first with `POST /v1/jobs/{id}/cancel`.";
    TOO_MANY_WAITING "too-many-waiting" Some(StatusCode::SERVICE_UNAVAILABLE), "Too many jobs wait",
        "So many jobs are accepted and not done that no more are taken; the operator sets the bound with `BUZZER_MAX_WAITING`. What was accepted before is not touched, and nothing of this request was stored. Try again after `Retry-After` seconds; more workers make it shorter.";
    STORE_FULL "store-full" Some(StatusCode::SERVICE_UNAVAILABLE), "The store is full",
        "The store holds as many bytes as it may; the operator sets the bound with `BUZZER_MAX_STORED`, and how long jobs are kept with `BUZZER_KEEP`. What was accepted before is not touched, and nothing of this request was stored. Try again after `Retry-After` seconds.";
    KEY_REUSED "key-reused" Some(StatusCode::UNPROCESSABLE_ENTITY), "The key was used for something else",
        "An `Idempotency-Key` stands for one request. The same key with another kind or body would hide a mistake. Nothing was stored.";
    BROKER_AWAY "broker-away" Some(StatusCode::SERVICE_UNAVAILABLE), "RabbitMQ is not available",
        "What was asked for needs RabbitMQ, and that does not answer now. Jobs are accepted all the same. Try again after `Retry-After` seconds; `/readyz` tells how it is.";
    NOT_PARKED "not-parked" Some(StatusCode::NOT_FOUND), "Not parked",
        "There is no message with this id among the parked ones: it was replayed or dropped, or more than 1,000 older ones stand before it. `/v1/parked` lists them.";
    NO_WAY_BACK "no-way-back" Some(StatusCode::CONFLICT), "The message cannot be replayed",
        "A parked message goes back to the queue that it came from. This one has none, or it is gone, or the message cannot be sent as it was, or it was sent by somebody whom `BUZZER_WORKER_USER` does not name; the detail tells. It stays parked: look at it, and drop it when it is of no use.";
    UNAUTHORIZED "unauthorized" Some(StatusCode::UNAUTHORIZED), "An API key is needed",
        "Everything under `/v1` needs an API key, sent as `Authorization: Bearer KEY`. This request had none, or one that is not known here or was revoked. Whoever runs Buzzer makes one with `buzzer keys create`; the command `buzzer` takes it from `BUZZER_KEY`. What browsers look at may be opened by a ticket instead, `?ticket=`, which `POST /v1/tickets` makes: one that has expired lets nobody in, and none is taken elsewhere. Nothing was stored.";
    TICKET_FOR_ONE_JOB "ticket-for-one-job" Some(StatusCode::FORBIDDEN), "The ticket opens another job alone",
        "A ticket that was made with `job_id` opens that job and nothing else: no other job, and not the events of all. Ask for one for this job, or for one without `job_id`: `POST /v1/tickets`.";
    TOO_MANY_TICKETS "too-many-tickets" Some(StatusCode::TOO_MANY_REQUESTS), "Too many tickets",
        "So many tickets that were made with this API key are still good that it gets no more. Try again after `Retry-After` seconds, when the first of them expires. A ticket may be used any number of times until then, so one for each visitor is enough; ask for a shorter `lifetime`.";
    HOST_NOT_ALLOWED "host-not-allowed" Some(StatusCode::FORBIDDEN), "Not asked for under this name",
        "This API runs with `BUZZER_AUTH=off`: it lets everybody in, but only from its own machine, and only where `Host` says so (`127.0.0.1`, `[::1]`, `localhost`, or a name that ends in `.localhost`). Otherwise a page of the web could let its own name lead here, and ask in the name of whoever visits it. To be reached by other names, run with `BUZZER_AUTH=keys`; `buzzer keys create` makes a key. Nothing was stored.";
    FORBIDDEN "forbidden" Some(StatusCode::FORBIDDEN), "The API key does not allow this",
        "Workers, numbers and parked messages belong to all tenants, and only keys with the scope `operator` may see them: `buzzer keys create --scope operator` makes one. `scope` names what the key lacks. Nothing was changed.";
    UPGRADE_REQUIRED "upgrade-required" Some(StatusCode::UPGRADE_REQUIRED), "This is a WebSocket",
        "What is here is spoken over a WebSocket (RFC 6455, version 13), and the request did not ask for one. Use a WebSocket client; a proxy between must hand the headers `Upgrade` and `Connection` on. To be told of events over plain HTTP, use `GET /v1/jobs/{id}/events` or `GET /v1/events`.";
    ORIGIN_NOT_ALLOWED "origin-not-allowed" Some(StatusCode::FORBIDDEN), "This page may not open a WebSocket here",
        "A browser asked for the WebSocket, for a page that comes from another server. The operator can allow that page: `BUZZER_ORIGINS` names the origins that may, like `https://app.example.com`, with commas between them, or `*` for all. A proxy between must hand on the `Host` of the request.";
    NO_SUCH_PATH "no-such-path" Some(StatusCode::NOT_FOUND), "Nothing here",
        "This path does not exist. `/openapi.json` lists all there are.";
    WRONG_METHOD "wrong-method" Some(StatusCode::METHOD_NOT_ALLOWED), "Method not allowed",
        "The path exists, but does not take this method. The `Allow` header lists those that it takes.";
    STORE_UNAVAILABLE "store-unavailable" Some(StatusCode::SERVICE_UNAVAILABLE), "The store is not available",
        "The store does not answer now: the disk may be full, or the database away or slow. If this was a submission, it may have been accepted all the same: with an `Idempotency-Key`, sending it again is safe. Try again after `Retry-After` seconds. What was accepted before is not touched.";
    INTERNAL "internal" Some(StatusCode::INTERNAL_SERVER_ERROR), "A mistake in Buzzer",
        "This should not happen. The log of the API tells more; please report it.";
    TIMEOUT "timeout" None, "The run took too long",
        "The handler did not finish within the job's `timeout`. It counts as a failed attempt.";
    PANIC "panic" None, "The handler panicked",
        "The handler has a bug that ended this run. The worker and its other jobs go on. It counts as a failed attempt.";
    REJECTED_INPUT "rejected-input" None, "The handler cannot read this input",
        "The API took the input, and the worker did not. Where it does not fit what this worker says of the kind, workers of two versions may be running: it is tried again as the job's `retry` has it, for another one may take it. Where the handler or its service itself said no, or the input is more than the broker carries, another attempt would not help, so there is none.";
    OUTPUT_TOO_LARGE "output-too-large" None, "The output is too large",
        "The handler's output has more bytes than the worker's `BUZZER_MAX_BODY` or the broker allows. Store large results elsewhere and return their address.";
    LOST "lost" None, "Nobody knows how the run ended",
        "The kind of this job promises that a job is never run twice. Its run was begun, or sent out, and then its worker or the broker was lost, so nobody knows how far it came. Look at what it did, and run it again by hand if that is right: `POST /v1/jobs/{id}/retry` makes a new job of it.";
    POISON "poison" None, "The job brings workers down",
        "Three times a worker was lost while it ran this job and nothing beside it, or ten times while others ran there, too. It is not tried again, so that the other jobs can go on. The worker's own log, or the system's, says how it died: look for a crash, or for a process killed for its memory.";
    EXPIRED "expired" None, "The job was not started in time",
        "The submission said with `expires` by when the job must have started. It had not, so it was given up. `waiting` told meanwhile what it waited for: most often there were too few workers.";
    HTTP_STATUS "http-status" None, "The service said no",
        "A job of `http.request` called a service, and the answer was neither 2xx nor 3xx. The detail names the status. After `429` and `5xx` the call is tried again as the job's `retry` has it, or when the service's `Retry-After` says, at most a day later; after every other 4xx it is not, for the same call would be refused again.";
    HTTP_UNREACHABLE "http-unreachable" None, "The service could not be reached",
        "A job that called a service had no whole answer: the name could not be resolved, no connection could be made within five seconds, or it broke. The detail says which. It counts as a failed attempt; the call may have reached the service all the same.";
    HTTP_FORBIDDEN_ADDRESS "http-forbidden-address" None, "This address may not be called",
        "Jobs call public addresses by `http` or `https`, and nothing else: what a name resolves to counts, and a redirect is checked like the first URL. The operator of the worker can allow private networks with `BUZZER_EGRESS_ALLOW`. A user name or password in the URL is refused too: send an `Authorization` header. Nothing was sent to the refused address.";
    HTTP_RESPONSE_TOO_LARGE "http-response-too-large" None, "The response is too large",
        "The response's body has more bytes than the job's `max_response` (256 KiB unless given), or than the worker's `BUZZER_MAX_BODY`. The service did what it was asked to, so the call is not tried again.";
    PROGRAM_FAILED "program-failed" None, "The program failed",
        "The kind of this job is run by a program, which ended with another exit code than 0, or by a signal, or reported an error without a type of its own. The detail tells which, and the last lines that it wrote to standard error; all of them are in the job's log. An error that the program reported is final unless it said `retry`; all else counts as a failed attempt.";
    PROGRAM_OUTPUT "program-output" None, "The program's output cannot be read",
        "The kind of this job is run by a program, which must write one JSON object a line to standard output: `progress`, `log`, `output`, and in the end `result` or `error`. It wrote something else, or too much, or a result that does not fit the kind's output schema, or ended without any. The detail tells which. Another attempt would not help, so there is none: mend the program.";
    PROGRAM_NOT_STARTED "program-not-started" None, "The program could not be started",
        "The kind of this job is run by a program, and the worker could not start it. The detail tells why: it is not there any more, or may not be run, or the machine has no room for one more process. It counts as a failed attempt.";
    PUSH_ANSWER "push-answer" None, "The service's answer cannot be used",
        "The kind of this job is run by a service, whose answer gives no output: a status that is not 2xx, a redirect, which is not followed, a body that is too large, is no JSON or does not fit the kind's output schema. The detail tells which. `429` and `5xx` count as a failed attempt, and the next one waits for the service's `Retry-After`, a day at most; after all else there is none.";
    FAILED "failed" None, "The handler failed",
        "The handler reported an error without a type of its own. The detail is the handler's.";
}

impl ApiError {
    /// Tells the log of what a client is told little of.
    pub fn log(&self) {
        match self {
            Self::StoreUnavailable(reason) => tracing::warn!(%reason, "a request was not served"),
            Self::Internal(reason) => tracing::error!(%reason, "a request failed"),
            _ => {}
        }
    }

    fn problem_type(&self) -> ProblemType {
        match self {
            Self::BrokenJson(_) => BROKEN_JSON,
            Self::BadQuery(_) => BAD_QUERY,
            Self::BadHeader(_) => BAD_HEADER,
            Self::BadId(_) | Self::BadWebhookId(_) | Self::BadDeliveryId(_) => BAD_ID,
            Self::BadCursor => BAD_CURSOR,
            Self::WrongMediaType(_) => WRONG_MEDIA_TYPE,
            Self::WrongEncoding(_) => WRONG_ENCODING,
            Self::TooLarge { .. } => TOO_LARGE,
            Self::Interrupted(_) => INTERRUPTED,
            Self::BodyTimeout(_) => BODY_TIMEOUT,
            Self::InvalidRequest(_) => INVALID_REQUEST,
            Self::InvalidInput { .. } => INVALID_INPUT,
            Self::UnknownKind(..) => UNKNOWN_KIND,
            Self::ReservedKind(_) => RESERVED_KIND,
            Self::UnknownWebhook(_) => UNKNOWN_WEBHOOK,
            Self::UnknownDelivery(_) => UNKNOWN_DELIVERY,
            Self::TooManyWebhooks(_) => TOO_MANY_WEBHOOKS,
            Self::WebhookDisabled => WEBHOOK_DISABLED,
            Self::UnknownJob(_) => UNKNOWN_JOB,
            Self::JobGone(..) => JOB_GONE,
            Self::NoResult(_) => NO_RESULT,
            Self::TooLate(_) => TOO_LATE,
            Self::NothingToRetry(_) => NOTHING_TO_RETRY,
            Self::NotDone(_) => NOT_DONE,
            Self::TooManyWaiting(_) => TOO_MANY_WAITING,
            Self::TooManyFollowed(_) => TOO_MANY_FOLLOWED,
            Self::TooManyStreams(_) => TOO_MANY_STREAMS,
            Self::NotAcceptable(_) => NOT_ACCEPTABLE,
            Self::StoreFull(_) => STORE_FULL,
            Self::KeyReused => KEY_REUSED,
            Self::BrokerAway(_) => BROKER_AWAY,
            Self::NotParked(_) => NOT_PARKED,
            Self::NoWayBack(_) => NO_WAY_BACK,
            Self::NoKey | Self::UnknownKey | Self::UnknownTicket | Self::TicketNotTaken => UNAUTHORIZED,
            Self::TicketForOneJob(_) => TICKET_FOR_ONE_JOB,
            Self::TooManyTickets { .. } => TOO_MANY_TICKETS,
            Self::HostNotAllowed(_) => HOST_NOT_ALLOWED,
            Self::MissingScope(_) => FORBIDDEN,
            Self::UpgradeRequired | Self::WrongWebSocketVersion => UPGRADE_REQUIRED,
            Self::OriginNotAllowed(_) => ORIGIN_NOT_ALLOWED,
            Self::NoSuchPath(_) => NO_SUCH_PATH,
            Self::WrongMethod(_) => WRONG_METHOD,
            Self::StoreUnavailable(_) => STORE_UNAVAILABLE,
            Self::Internal(_) => INTERNAL,
        }
    }

    fn more(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::TooLarge { limit } => vec![("limit", json!(limit))],
            Self::InvalidRequest(errors) | Self::InvalidInput { errors, .. } => {
                let error = |v: &Violation| json!({ "pointer": v.pointer, "detail": v.detail });
                vec![("errors", errors.iter().map(error).collect())]
            }
            Self::UnknownKind(_, known) => vec![("known", json!(known.names))],
            Self::NoResult(state) | Self::TooLate(state) | Self::NothingToRetry(state) | Self::NotDone(state) => {
                vec![("state", json!(state))]
            }
            Self::TooManyWaiting(limit) | Self::StoreFull(limit) => vec![("limit", json!(limit))],
            Self::TooManyFollowed(limit)
            | Self::TooManyStreams(limit)
            | Self::TooManyWebhooks(limit)
            | Self::TooManyTickets { limit, .. } => {
                vec![("limit", json!(limit))]
            }
            Self::NotAcceptable(offered) => vec![("offered", json!(offered))],
            Self::MissingScope(scope) => vec![("scope", json!(scope.as_str()))],
            _ => Vec::new(),
        }
    }

    /// After how many seconds to try again, where that helps.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyTickets { again_in, .. } => {
                Some(again_in.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
            }
            _ => (self.problem_type().status == Some(StatusCode::SERVICE_UNAVAILABLE)).then_some(2),
        }
    }

    /// What a client that is not let in must send, as RFC 6750 has it.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoKey | Self::TicketNotTaken => Some("Bearer"),
            Self::UnknownKey | Self::UnknownTicket => Some("Bearer error=\"invalid_token\""),
            _ => None,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::StoreUnavailable(error),
            StoreError::Corrupt(detail) => Self::Internal(detail),
        }
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        match full {
            Full::Waiting { limit } => Self::TooManyWaiting(limit),
            Full::Stored { limit } => Self::StoreFull(limit),
            Full::Streams { limit } => Self::TooManyStreams(limit),
        }
    }
}

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        let ProblemType { slug, status, title, .. } = error.problem_type();
        let mut problem = Problem::new(format!("/problems/{slug}"), title, error.to_string());
        problem.status = status.map(|status| status.as_u16());
        error.more().into_iter().fold(problem, |problem, (name, value)| problem.with(name, value))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let status = self.problem_type().status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(Problem::from(&self))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            // What it takes, as RFC 9110 (section 7.8) and RFC 6455 (section 4.4) want to be told.
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// A refusal adds nothing to the document by itself: each endpoint and each extractor says how it refuses, with [`refuses`]
/// and [`may_be`].
impl OperationOutput for ApiError {
    type Inner = Problem;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_every_problem_inside_a_job_has_a_page() {
        use buzzer_shared::problem::{http, job};
        let mut slugs: Vec<_> = ALL.iter().map(|problem| problem.slug).collect();
        slugs.sort_unstable();
        assert!(slugs.windows(2).all(|pair| pair[0] != pair[1]));
        let ours = [
            job::TIMEOUT,
            job::PANIC,
            job::REJECTED_INPUT,
            job::OUTPUT_TOO_LARGE,
            job::LOST,
            job::POISON,
            job::EXPIRED,
            job::FAILED,
        ];
        for r#type in ours.into_iter().chain(http::ALL) {
            let slug = r#type.strip_prefix("/problems/").unwrap();
            assert!(ALL.iter().any(|problem| problem.slug == slug && problem.status.is_none()), "{slug}");
        }
    }

    #[test]
    fn where_trying_again_helps_it_is_said_when() {
        let again_in =
            |millis| ApiError::TooManyTickets { limit: 1, again_in: Duration::from_millis(millis) }.retry_after();
        assert_eq!([again_in(1), again_in(1000), again_in(59_001)], [Some(1), Some(1), Some(60)]);
        assert_eq!([ApiError::StoreFull(1).retry_after(), ApiError::NoKey.retry_after()], [Some(2), None]);
    }

    #[test]
    fn a_problem_says_what_to_do_instead() {
        let known = |refused| KnownKinds { names: vec!["echo".parse().unwrap()], refused };
        let error = ApiError::UnknownKind("ecco".into(), known(None));
        let problem = Problem::from(&error);
        assert_eq!(problem.status, Some(404));
        assert_eq!(problem.detail.unwrap(), "There is no kind ecco. Known are echo.");
        let refused = ApiError::UnknownKind("ecco".into(), known(Some("it has no slots.".into())));
        assert_eq!(
            refused.to_string(),
            "There is no kind ecco. What a worker says of it is not taken: it has no slots. Known are echo."
        );
        let nothing = |refused| KnownKinds { names: Vec::new(), refused }.to_string();
        assert!(nothing(None).ends_with("is a worker running?"));
        assert!(nothing(Some("it has no slots".into())).ends_with("No kind is known yet."));
        assert_eq!(problem.more["known"], json!(["echo"]));
    }
}
