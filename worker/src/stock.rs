//! The stock worker.

use crate::builder::WorkerBuilder;
use crate::config::StockConfig;
use crate::handlers::{Crash, Echo, Fail, Flaky, HttpRequest, Progress, Sleep, WebhookDeliver};
use crate::runtime::Worker;

/// The stock worker with the kinds that its file declares. It may be given more handlers.
pub fn stock_worker(config: &StockConfig) -> WorkerBuilder {
    let http_request = HttpRequest::new(config.egress_allow.clone(), config.worker.max_body.0);
    let webhook_deliver = WebhookDeliver::new(&config.egress_allow);
    let worker = Worker::builder().config(config.worker.clone());
    let worker = worker.register(Echo).register(http_request).register(webhook_deliver);
    let worker =
        if config.demo { worker.register(Sleep).register(Progress).register(Flaky).register(Fail) } else { worker };
    match &config.declared {
        Some(declared) => declared.register(worker),
        None => worker,
    }
}

/// The stock worker of a process of its own, which a job may bring down: `demo.crash` is one of its demos.
pub fn lone_stock_worker(config: &StockConfig) -> WorkerBuilder {
    let worker = stock_worker(config);
    if config.demo { worker.register(Crash) } else { worker }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_worker_runs_what_it_should_and_tells_about_it() {
        let config = |demo| StockConfig { demo, ..StockConfig::default() };
        let kinds = |worker: WorkerBuilder| worker.build().unwrap().registry.specs();
        let names = |worker| kinds(worker).into_iter().map(|spec| spec.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(stock_worker(&config(false))), ["echo", "http.request", "webhook.deliver"]);
        assert_eq!(names(lone_stock_worker(&config(false))), ["echo", "http.request", "webhook.deliver"]);
        let demos =
            ["demo.fail", "demo.flaky", "demo.progress", "demo.sleep", "echo", "http.request", "webhook.deliver"];
        assert_eq!(names(stock_worker(&config(true))), demos);
        // Whoever shares its process with others must not offer to abort it.
        let lone = names(lone_stock_worker(&config(true)));
        assert_eq!((lone[0].as_str(), &lone[1..]), ("demo.crash", demos.map(String::from).as_slice()));
        for spec in kinds(lone_stock_worker(&config(true))) {
            assert!(spec.title != spec.name.as_str(), "{} has no title", spec.name);
            assert!(!spec.description.is_empty(), "{} has no description", spec.name);
            assert!(spec.example.is_some(), "{} has no example", spec.name);
        }
    }
}
