//! A RabbitMQ of the tests' own, to keep whole or to damage.

use std::time::Duration;

use buzzer_prove::ground::rabbitmq::RabbitMq;
use lapin::Connection;
use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use tokio::sync::{MutexGuard, OnceCell};

/// Names another folder with RabbitMQ's scripts: the tests run on that RabbitMQ then.
const OTHER_SCRIPTS: &str = "BUZZER_TEST_RABBITMQ";

/// How a node differs from the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Bytes; RabbitMQ's own default when absent.
    pub max_message_size: Option<usize>,
    /// How long a delivery may stay unacknowledged.
    pub consumer_timeout: Option<Duration>,
}

/// A running RabbitMQ. Dropped, it is killed and its directory removed. What it cannot do fails the test.
#[derive(Debug)]
pub struct RabbitNode(RabbitMq);

impl RabbitNode {
    /// A node of one's own, to damage.
    pub async fn start() -> Self {
        Self::start_with(&Settings::default()).await
    }

    /// A node of one's own that differs from the ordinary.
    pub async fn start_with(settings: &Settings) -> Self {
        let Settings { max_message_size, consumer_timeout } = *settings;
        let scripts = std::env::var_os(OTHER_SCRIPTS).map(Into::into);
        let settings = buzzer_prove::ground::rabbitmq::Settings {
            scripts,
            max_message_size,
            consumer_timeout,
            ..Default::default()
        };
        Self(RabbitMq::start(settings).await.expect("a private RabbitMQ"))
    }

    /// The node that all tests of this process share: for those that leave it whole and keep to names of their own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<RabbitNode> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A node that tests damage one after the other. It takes messages of at most 1 MiB.
    pub async fn to_damage() -> MutexGuard<'static, Self> {
        static DAMAGED: OnceCell<tokio::sync::Mutex<RabbitNode>> = OnceCell::const_new();
        let settings = Settings { max_message_size: Some(1 << 20), ..Settings::default() };
        let node = DAMAGED.get_or_init(async || tokio::sync::Mutex::new(Self::start_with(&settings).await)).await;
        let node = node.lock().await;
        node.heal().await;
        node
    }

    /// Undoes what a test that failed may have left behind.
    async fn heal(&self) {
        if self.0.is_down() {
            self.start_again().await;
        } else {
            self.resume();
        }
    }

    /// Where it listens, with name and password.
    pub fn url(&self) -> url::Url {
        self.0.url()
    }

    /// A user with these permissions on `/`: what it may configure, write and read. Its address.
    pub async fn user(&self, name: &str, permissions: [&str; 3]) -> url::Url {
        self.0.user(name, permissions).await.expect("a user")
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Stops it in good order.
    pub async fn stop(&self) {
        self.0.stop().await.expect("RabbitMQ to stop");
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same ports, with what it kept.
    pub async fn start_again(&self) {
        self.0.start_again().await.expect("RabbitMQ to boot");
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&self) {
        self.0.pause();
    }

    pub fn resume(&self) {
        self.0.resume();
    }

    pub async fn purge(&self, queue: &str) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.expect("a queue to purge");
        connection.close(200, "OK".into()).await.expect("to close");
    }

    pub async fn delete_queue(&self, queue: &str) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("a queue to delete");
        connection.close(200, "OK".into()).await.expect("to close");
    }

    /// Major and minor number of its version, like `(3, 10)`.
    pub async fn version(&self) -> (u32, u32) {
        let version = self.0.version().await.expect("a version");
        let mut numbers = version.split('.').map(|number| number.parse().expect("a version"));
        let mut next = || numbers.next().expect("a version");
        (next(), next())
    }

    /// Closes every connection, as an operator would.
    pub async fn close_all_connections(&self) {
        self.ctl(&["close_all_connections", "by hand"]).await;
    }

    /// The share of the machine's memory from which on the node takes no messages. Almost nothing raises the alarm,
    /// 0.4 is the default and ends it.
    pub async fn set_memory_watermark(&self, share: f64) {
        self.ctl(&["set_vm_memory_high_watermark", &share.to_string()]).await;
    }

    /// Runs `rabbitmqctl` on this node; what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        self.0.ctl(arguments).await.expect("rabbitmqctl")
    }

    /// A plain lapin connection, for what the product's own line would not do.
    pub async fn connect(&self) -> Connection {
        self.0.connect().await.expect("a connection to RabbitMQ")
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        self.0.log()
    }
}
