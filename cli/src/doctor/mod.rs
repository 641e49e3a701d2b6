//! `buzzer doctor`: what a process would find that starts with these settings. [`broker`] and [`store`] look and judge,
//! [`report`](crate::report) tells. Nothing is changed.

mod broker;
mod store;
mod workers;

use buzzer_api::config::StoreConfig;
use buzzer_shared::config::BrokerConfig;
use buzzer_shared::kind::Kind;
use buzzer_shared::time::SystemClock;
use clap::{Args, ValueEnum};

use self::broker::Patient;
use crate::failure::Failure;
use crate::report::Report;

/// Look whether Buzzer can run with these settings: the broker, the store, the clocks, the workers.
///
/// One line for each check. Changes nothing, and may run beside a running Buzzer. Reads the settings that
/// `buzzer-api` and `buzzer-worker` read. Exit code 1 when something fails.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Whose settings these are.
    #[arg(long = "as", value_enum, default_value_t = Role::Api)]
    role: Role,

    /// Print the checks as JSON: `{"checks": [{"name", "verdict", "text"}]}`.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    broker: BrokerConfig,

    #[command(flatten)]
    store: StoreConfig,
}

/// What a process is, and with it what it must be allowed on RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Api,
    Worker,
}

impl Doctor {
    pub async fn run(self) -> Result<(), Failure> {
        let mut report = Report::default();
        let kinds = match self.role {
            Role::Api => self.look_at_store(&mut report).await,
            Role::Worker => {
                report.skip("store", "a worker has none");
                Vec::new()
            }
        };
        let patient = Patient { address: self.broker.address(), prefix: &self.broker.prefix, role: self.role };
        broker::check(&patient, &kinds, &mut report).await;
        report.print(self.json)?;
        match report.failures() {
            0 => Ok(()),
            count => Err(Failure::Unwell(count)),
        }
    }

    /// The kinds that the store knows.
    async fn look_at_store(&self, report: &mut Report) -> Vec<Kind> {
        let content = store::check(self.store.address(), &SystemClock, report).await;
        let Some(content) = content else {
            report.skip("workers", "the store tells of none");
            report.skip("backlog", "the store tells of none");
            return Vec::new();
        };
        report.add("workers", workers::alive(&content));
        report.add("backlog", workers::backlog(&content));
        content.kinds
    }
}
