//! `buzzer prove`: a campaign of faults, as [`buzzer_prove`] runs it, with a bar while it goes on and a table at the end.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buzzer_prove::campaign::{self, Length, Progress, Settings, Target};
use buzzer_prove::checker::Bounds;
use buzzer_prove::error::ProveError;
use buzzer_prove::ground::GroundError;
use buzzer_prove::ground::compose::Access;
use buzzer_prove::ground::own::{BrokerChoice, Plan, StoreChoice};
use buzzer_prove::nemesis::schedule::Pace;
use buzzer_prove::report::Report;
use buzzer_shared::config::ByteSize;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Span;
use clap::{Args, ValueEnum, value_parser};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use url::Url;

use crate::client::ServerConfig;
use crate::failure::Failure;
use crate::output;

/// The steps of the bar.
const STEPS: u64 = 1000;

const EXAMPLES: &str = "\
Examples:
  buzzer prove --quick
  buzzer prove --full --store postgres --apis 2 --workers 3
  buzzer prove --faults 50 --only 'kill -9: worker' --only garbage --seed 7 --keep campaign
  BUZZER_KEY=… buzzer prove --compose

It needs buzzer-api and buzzer-worker beside buzzer, RabbitMQ (Debian: rabbitmq-server) and, for --store postgres, \
PostgreSQL (Debian: postgresql). Nothing that runs already is touched.

With --compose it needs only docker, and the API key of an operator. The containers of that project are harmed while its \
other users go on; however it ends, all run again, as many and on the networks as before, and the campaign's jobs are \
deleted unless a promise was broken.

The JSON has: seed, versions, store, apis, workers, faults, seconds, skipped, quiet, left, kept, asked, accepted, refused, unsure, \
recovered, states, runs_again, ignored, planted, parked, parked_unseen, events, cancels, memory, recoveries (by fault: \
count, median_ms, longest_ms), findings (by class: count, told).";

/// Check the promises yourself: run a campaign of faults against a real system, and audit what became of every job.
///
/// Starts a RabbitMQ, a store, APIs and workers of its own, or takes a Compose project that runs; hands in jobs, and
/// meanwhile kills, freezes, cuts off and damages what a seed chooses. When all is healed and quiet, it compares what its
/// clients wrote down with what the system says: what is lost, unexpected, duplicated, wrong, or was not parked. The last
/// line is the verdict. Exit code 0 when every promise was kept, 1 when one was broken; then ledger and logs are kept, and
/// the line says where, and with which seed.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Prove {
    /// 1,000 jobs, 6 faults, each held at most 3 s: some two minutes, more on a machine that is busy with something else.
    #[arg(long, conflicts_with_all = ["full", "soak"])]
    quick: bool,

    /// 100,000 jobs, 200 faults, each held at most 15 s: an hour or two.
    #[arg(long, conflicts_with = "soak")]
    full: bool,

    /// 24 hours, with jobs and faults all the time.
    #[arg(long)]
    soak: bool,

    /// Chooses jobs, faults and times; the same seed chooses the same. By chance when absent, and printed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many jobs are handed in, at least: the load goes on under every fault.
    #[arg(long, short = 'n', value_name = "N", value_parser = value_parser!(u64).range(1..))]
    jobs: Option<u64>,

    /// How many faults there are.
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..), conflicts_with = "duration")]
    faults: Option<u16>,

    /// How long faults go on, instead of a number.
    #[arg(long, short, value_name = "LENGTH")]
    duration: Option<Span>,

    /// The longest that a fault is held before it is healed.
    #[arg(long, value_name = "LENGTH")]
    hold: Option<Span>,

    /// Only faults whose name has these words, as in `kill -9: worker`; may be repeated. Words that none has list all names.
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,

    /// How many APIs. Several need --store postgres.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u8).range(1..=8))]
    apis: u8,

    /// How many workers.
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u8).range(1..=32))]
    workers: u8,

    /// Where the jobs are kept.
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,

    /// A folder with RabbitMQ's own scripts, for a RabbitMQ of our own; or the amqp:// address of one that runs, which is
    /// then left whole: only the lines to it are disturbed, and a prefix of our own is used. Debian's scripts when absent.
    #[arg(long, value_name = "FOLDER|AMQP-URL", value_parser = broker)]
    rabbitmq: Option<BrokerChoice>,

    /// Harm the containers of this Compose project, which runs: `docker-compose.yml` as it stands, with `BUZZER_DEMO=1`.
    /// `BUZZER_KEY` is to be an operator's.
    #[arg(
        long,
        value_name = "PROJECT",
        num_args = 0..=1,
        default_missing_value = "buzzer",
        conflicts_with_all = ["apis", "workers", "store", "rabbitmq", "clocks"]
    )]
    compose: Option<String>,

    /// Step the clocks of workers, and of APIs on PostgreSQL, by an hour forth and back, too. Needs libfaketime.
    #[arg(long)]
    clocks: bool,

    /// So many times longer than promised may a recovery take: for a machine that is busy with something else.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    slack: f64,

    /// The most that an API may hold in memory; samples are taken every two seconds.
    #[arg(long, value_name = "BYTES", default_value = "512MiB")]
    memory: ByteSize,

    /// Keep ledger, logs and report in this folder, however it ends.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    Sqlite,
    Postgres,
}

fn broker(text: &str) -> Result<BrokerChoice, String> {
    if text.starts_with("amqp") {
        let url: Url = text.parse().map_err(|error| format!("no address of a RabbitMQ: {error}"))?;
        if url.scheme() != "amqp" {
            return Err("only amqp:// can be disturbed on its way; name an address without TLS".into());
        }
        return Ok(BrokerChoice::Given(url));
    }
    Ok(BrokerChoice::Own(Some(text.into())))
}

impl Prove {
    pub async fn run(self, server: ServerConfig) -> Result<(), Failure> {
        let directory = tempfile::Builder::new().prefix("buzzer-prove-").tempdir()?;
        let settings = self.settings(directory.path(), server)?;
        let shutdown = Shutdown::on_signals()?;
        let title = format!("seed {}", settings.seed);
        let (progress, told) = watch::channel(Progress::default());
        let ran = tokio::select! {
            ran = campaign::run(&settings, &progress, shutdown.requested()) => ran,
            never = bar(&title, told) => match never {},
        };
        let wants_to_be_seen = match &ran {
            Ok(report) => !report.kept,
            Err(error) => !matches!(error, ProveError::Stopped | ProveError::Ground(GroundError::Missing(_))),
        };
        let kept =
            self.keep.clone().or_else(|| wants_to_be_seen.then(|| format!("buzzer-prove-{}", settings.seed).into()));
        if let Some(folder) = &kept {
            campaign::keep(directory.path(), folder)?;
        }
        let report = ran.inspect_err(|_| say_where(settings.seed, kept.as_deref()))?;
        for complaint in report.complaints() {
            output::tell(&complaint);
        }
        if let Some(folder) = &kept {
            std::fs::write(
                folder.join("report.json"),
                serde_json::to_vec_pretty(&report).map_err(std::io::Error::from)?,
            )?;
        }
        self.print(&report, kept.as_deref())?;
        if report.kept { Ok(()) } else { Err(Failure::Broken) }
    }

    fn settings(&self, directory: &Path, server: ServerConfig) -> Result<Settings, Failure> {
        if self.apis > 1 && self.store == Store::Sqlite {
            return Err(Failure::Usage("several APIs share a PostgreSQL: add --store postgres".into()));
        }
        if !(self.slack.is_finite() && self.slack >= 1.0) {
            return Err(Failure::Usage("--slack is at least 1".into()));
        }
        let (jobs, faults, hold) = match (self.quick, self.full, self.soak) {
            (true, _, _) => (1_000, 6, 3),
            (_, true, _) => (100_000, 200, 15),
            (_, _, true) => (1_000_000, 0, 15),
            _ => (5_000, 25, 12),
        };
        let day = Duration::from_secs(24 * 60 * 60);
        let length = match (self.duration, self.faults) {
            (Some(length), _) => Length::Time(length.into()),
            (None, Some(faults)) => Length::Faults(faults.into()),
            (None, None) if self.soak => Length::Time(day),
            (None, None) => Length::Faults(faults),
        };
        let hold = self.hold.map_or(Duration::from_secs(hold), Into::into);
        Ok(Settings {
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
            jobs: self.jobs.unwrap_or(jobs),
            length,
            pace: Pace { calm: hold / 4, hold },
            bounds: Bounds { slack: self.slack, memory: self.memory.0 as u64 },
            only: self.only.clone(),
            directory: directory.to_owned(),
            target: self.target(server)?,
        })
    }

    fn target(&self, server: ServerConfig) -> Result<Target, Failure> {
        if let Some(project) = self.compose.clone() {
            let (_, key) = server.read()?;
            return Ok(Target::Compose(Access { project, key: key.map(|key| key.reveal().to_owned()) }));
        }
        let exe = std::env::current_exe()?;
        let programs = exe.parent().map(Path::to_owned).unwrap_or_default();
        let store = match self.store {
            Store::Sqlite => StoreChoice::Sqlite,
            Store::Postgres => StoreChoice::Postgres,
        };
        Ok(Target::Own(Plan {
            programs,
            apis: self.apis.into(),
            workers: self.workers.into(),
            broker: self.rabbitmq.clone().unwrap_or(BrokerChoice::Own(None)),
            store,
            // They are in memory, and a day's jobs would fill that.
            small_disks: !self.soak,
            clocks: self.clocks,
        }))
    }

    /// The verdict comes last.
    fn print(&self, report: &Report, kept: Option<&Path>) -> std::io::Result<()> {
        if self.json {
            output::line(serde_json::to_vec(report).map_err(std::io::Error::from)?)?;
            output::tell(&report.verdict(kept));
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).add_rows(report.lines());
        if let Some(first) = table.column_mut(0) {
            first.set_padding((0, 1));
        }
        output::line(table.trim_fmt())?;
        output::line(report.verdict(kept))
    }
}

fn say_where(seed: u64, kept: Option<&Path>) {
    if let Some(folder) = kept {
        output::tell(&format!("--seed {seed} repeats the schedule; ledger and logs are in {}", folder.display()));
    }
}

/// Shows how far it is, on standard error if that is a terminal; ends never.
async fn bar(title: &str, mut told: watch::Receiver<Progress>) -> Infallible {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let bar = ProgressBar::new(STEPS);
    // The template is a constant, and right.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {elapsed} {bar:30} {msg}") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_prefix(title.to_owned());
    bar.enable_steady_tick(Duration::from_secs(1));
    // Cleared however this ends.
    let bar = Shown(bar);
    while told.changed().await.is_ok() {
        let Progress { share, faults, jobs, now } = told.borrow_and_update().clone();
        bar.0.set_position((share.clamp(0.0, 1.0) * STEPS as f64) as u64);
        bar.0.set_message(format!("{faults} faults, {jobs} jobs handed in; {now}"));
    }
    std::future::pending().await
}

struct Shown(ProgressBar);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
