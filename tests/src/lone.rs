//! A worker with handlers of the test's own, in a runtime of its own, which can be lost without a goodbye.

use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Span;
use buzzer_shared::topology::Topology;
use buzzer_worker::{WorkerBuilder, WorkerConfig};
use tokio::runtime::Runtime;

use crate::outside::Outside;
use crate::rabbitmq::RabbitNode;

/// The worker. Dropped, its connections break, and nothing of it goes on.
#[derive(Debug)]
pub struct Lone {
    runtime: Option<Runtime>,
    shutdown: Shutdown,
}

impl Lone {
    /// Starts it on the RabbitMQ of `outside`; it beats twice a second.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn start(builder: WorkerBuilder, node: &RabbitNode, outside: &Outside) -> Self {
        let config = WorkerConfig { beat: Span::from_millis(500), ..WorkerConfig::default() };
        let (worker, shutdown) = (builder.config(config).build().expect("a worker"), Shutdown::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, topology, stop) = (node.url(), Topology::new(&outside.prefix), shutdown.clone());
        runtime.spawn(async move { worker.run(AmqpBroker::connect(url, "test-worker"), topology, stop).await });
        Self { runtime: Some(runtime), shutdown }
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
