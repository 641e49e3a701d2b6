//! The kinds that the stock worker runs.

mod demo;
mod echo;
mod http_request;
mod webhook_deliver;

pub(crate) use demo::{Crash, Fail, Flaky, Progress, Sleep};
pub(crate) use echo::Echo;
pub(crate) use http_request::HttpRequest;
pub(crate) use webhook_deliver::WebhookDeliver;
