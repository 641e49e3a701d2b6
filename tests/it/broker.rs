//! The line to a real RabbitMQ.

use std::sync::Arc;

use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::broker::conformance::{Capabilities, exercise_all};
use buzzer_tests::rabbitmq::RabbitNode;

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_does_what_every_broker_must() {
    let node = RabbitNode::shared().await;
    let connect = async || AmqpBroker::connect(node.url(), "conformance") as Arc<dyn Broker>;
    exercise_all(connect, &Capabilities { strict_priorities: false, user: Some("buzzer".into()) }).await;
}
