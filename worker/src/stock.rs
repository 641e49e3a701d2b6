//! The stock worker.

use crate::builder::WorkerBuilder;
use crate::config::StockConfig;
use crate::handlers::{Echo, Fail, Flaky, HttpRequest, Progress, Sleep};
use crate::runtime::Worker;

/// The stock worker, which may be given more handlers.
pub fn stock_worker(config: &StockConfig) -> WorkerBuilder {
    let http_request = HttpRequest::new(config.egress_allow.clone(), config.worker.max_body.0);
    let worker = Worker::builder().config(config.worker.clone()).register(Echo).register(http_request);
    if config.demo { worker.register(Sleep).register(Progress).register(Flaky).register(Fail) } else { worker }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_worker_runs_what_it_should_and_tells_about_it() {
        let kinds = |demo| {
            let worker = stock_worker(&StockConfig { demo, ..StockConfig::default() }).build().unwrap();
            worker.registry.specs()
        };
        let names = |demo| kinds(demo).into_iter().map(|spec| spec.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(false), ["echo", "http.request"]);
        assert_eq!(names(true), ["demo.fail", "demo.flaky", "demo.progress", "demo.sleep", "echo", "http.request"]);
        for spec in kinds(true) {
            assert!(spec.title != spec.name.as_str(), "{} has no title", spec.name);
            assert!(!spec.description.is_empty(), "{} has no description", spec.name);
            assert!(spec.example.is_some(), "{} has no example", spec.name);
        }
    }
}
